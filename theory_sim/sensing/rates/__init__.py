"""Predictions for matrix sensing: pure functions from parameters to curves, rates, thresholds and times."""

from theory_sim.sensing.rates.symmetric import (
    finite_measurement_factor,
    plateau_length,
    symmetric_asymptote_gap,
    symmetric_error_asymptote,
    symmetric_error_curve,
    symmetric_linear_rate,
)

__all__ = [
    "finite_measurement_factor",
    "plateau_length",
    "symmetric_asymptote_gap",
    "symmetric_error_asymptote",
    "symmetric_error_curve",
    "symmetric_linear_rate",
]
