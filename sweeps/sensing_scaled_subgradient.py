"""Ill-conditioned targets: the scaled sub-gradient method needs no more steps, the plain one kappa times as many."""

import numpy as np
import xarray as xr

from theory_sim import Claim, Equals, Estimate, Simulation, Sweep, bootstrap, by_seed, time_to
from theory_sim.sensing import polyak_steps_exponent, subgradient

HIGH, LOW = 1e-3, 1e-9


def polyak(*, dim: int, true_rank: int, measurements: int, form: str) -> Simulation:
    """Return `subgradient` at exact rank with Polyak's step: `form` is `scaled` or `plain`."""
    return subgradient(
        dim=dim,
        true_rank=true_rank,
        max_rank=true_rank,
        measurements=measurements,
        rule="polyak",
        scaled=form == "scaled",
    )


SWEEP = Sweep(
    simulation=polyak,
    shape={"dim": [12], "true_rank": [3], "measurements": [500], "form": ["plain", "scaled"]},
    problem={"condition_number": [2.0, 4.0, 8.0, 16.0], "outlier_fraction": [0.2]},
    run={"step_size": [1.0], "init_scale": [1.0]},
    problem_seeds=12,
    steps=np.r_[0:100:4, 100:1201:20],
    presets={
        "smoke": {"problem_seeds": 2},
        "quick": {},
        "paper": {
            "dim": [50],
            "measurements": [4000],
            "condition_number": [2.0, 4.0, 8.0, 16.0, 32.0],
            "outlier_fraction": [0.0, 0.2, 0.4],
            "problem_seeds": 32,
            "steps": np.r_[0:100:4, 100:4001:20],
        },
    },
)


def steps_needed(data: xr.Dataset) -> np.ndarray:
    """Return `[seeds, condition numbers]`: the steps from an error of 1e-3 to one of 1e-9."""
    errors = by_seed(data, "error", "condition_number", "step")
    steps = data["step"].to_numpy()
    return time_to(steps, errors, LOW) - time_to(steps, errors, HIGH)


def growth(data: xr.Dataset) -> Estimate:
    """Fit the exponent of the condition number in the steps needed, by least squares on the logs."""
    logs = np.log(data["condition_number"].to_numpy())
    centred = logs - logs.mean()
    slopes = np.log(steps_needed(data)) @ centred / (centred @ centred)
    return bootstrap(slopes, window=f"errors from {HIGH:g} to {LOW:g}, kappa from {np.exp(logs[0]):.3g} on")


PAPER = "arXiv:2010.13364 (steps log(1/eps) scaled, kappa log(1/eps) plain)"
POLYAK = {"outlier_fraction": 0.2}

CLAIMS = [
    Claim(
        ids=("SE-3.8", "SE-3f"),
        statement="scaled: the steps from 1e-3 to 1e-9 do not depend on the condition number",
        source=PAPER,
        label="paper",
        measure=growth,
        at={"form": "scaled"} | POLYAK,
        control={"form": "plain"} | POLYAK,
        control_reason="without the preconditioner directions of small singular values wait for the large ones",
        prediction=Equals(polyak_steps_exponent(scaled=True), tolerance=0.1),
        tolerance_reason="0.1 is a fifth of the steps over the range of kappa, a factor 8",
    ),
    Claim(
        ids=("SE-3.8", "SE-3f"),
        statement="plain: the steps from 1e-3 to 1e-9 grow in proportion to the condition number",
        source=PAPER,
        label="paper",
        measure=growth,
        at={"form": "plain"} | POLYAK,
        control={"form": "scaled"} | POLYAK,
        control_reason="the preconditioner makes all directions alike",
        prediction=Equals(polyak_steps_exponent(scaled=False), tolerance=0.2),
        tolerance_reason="at kappa = 2, Polyak's steps behave like steepest descent, 1/log((kappa+1)/(kappa-1))\n"
        "steps a digit, and the noise of the field adds some that do not depend on kappa",
    ),
]
