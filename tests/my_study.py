"""Gradient descent on a parabola: the slope is minus the step size."""

import numpy as np

from tests.examples import scalar_descent
from theory_sim import Claim, Equals, Sweep, log_spaced, rate


def measured_rate(data):
    """Fit the decay per step and seed between steps 10 and 100."""
    return rate(data["step"].to_numpy(), data["distance"].squeeze().to_numpy(), window=(10, 100))


SWEEP = Sweep(
    scalar_descent,
    run={"step_size": [0.01, 0.02]},
    run_seeds=8,
    steps=log_spaced(100, per_decade=8),
    presets={"smoke": {"run_seeds": 5}, "quick": {}},
)
CLAIMS = [
    Claim(
        ids=("T-1",),
        statement="the distance falls by 1 - step_size a step",
        source="any textbook",
        label="derived",
        derivation="x - eta x = (1 - eta) x;\nhence the log falls by log(1 - eta)",
        measure=measured_rate,
        at={"step_size": 0.01},
        control={"step_size": 0.02},
        control_reason="another step size has another rate",
        prediction=Equals(float(np.log1p(-0.01)), 1e-6),
        tolerance_reason="exact up to rounding",
    )
]
