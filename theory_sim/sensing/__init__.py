"""Matrix sensing: recovery of a low-rank matrix from linear measurements by factorised gradient methods."""

from theory_sim.sensing.measurements import (
    Gaussian,
    adjoint,
    gaussian,
    general_gaussian,
    measure,
    packed_size,
    unvech,
    vech,
)
from theory_sim.sensing.rates import (
    finite_measurement_factor,
    plateau_length,
    symmetric_asymptote_gap,
    symmetric_error_asymptote,
    symmetric_error_curve,
    symmetric_linear_rate,
)
from theory_sim.sensing.symmetric import symmetric_gd

__all__ = [
    "Gaussian",
    "adjoint",
    "finite_measurement_factor",
    "gaussian",
    "general_gaussian",
    "measure",
    "packed_size",
    "plateau_length",
    "symmetric_asymptote_gap",
    "symmetric_error_asymptote",
    "symmetric_error_curve",
    "symmetric_gd",
    "symmetric_linear_rate",
    "unvech",
    "vech",
]
