"""How fast the kernels are: against the machine's own peaks, and against plain loops in NumPy and PyTorch."""

from theory_sim.bench.kernels import KERNELS, Kernel
from theory_sim.bench.measure import Peaks, Speed, bench, measure

__all__ = ["KERNELS", "Kernel", "Peaks", "Speed", "bench", "measure"]
