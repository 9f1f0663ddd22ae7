"""How fast the kernels are: against the machine's own peaks, and against plain loops in NumPy and PyTorch."""

from theory_sim.bench.cost import Cost, Device, estimate, print_costs
from theory_sim.bench.kernels import Kernel
from theory_sim.bench.measure import KERNELS, Speed, bench, measure

__all__ = [
    "KERNELS",
    "Cost",
    "Device",
    "Kernel",
    "Speed",
    "bench",
    "estimate",
    "measure",
    "print_costs",
]
