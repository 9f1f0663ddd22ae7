"""The regularisation path turns to the max margin direction like C/R, with the C that the multipliers give."""

import numpy as np
import xarray as xr

from theory_sim import AtLeast, AtMost, Claim, Equals, Estimate, Sweep, bootstrap, by_seed, cellwise, exponent
from theory_sim.attention import regularization_path

SMALL, LARGE = [0.1, 0.2, 0.5, 1.0], [100.0, 200.0, 500.0, 1000.0, 2000.0]
"""Norms at which nothing is selected yet, and norms many times that of the max margin weights."""

SWEEP = Sweep(
    simulation=regularization_path,
    shape={"inputs": [4], "tokens": [5], "dim": [8]},
    problem={"score_spread": [0.0, 1.0]},
    run={"radius": [*SMALL, 10.0, 30.0, *LARGE]},
    problem_seeds=16,
    steps=[80],
    presets={
        "smoke": {"problem_seeds": 3},
        "quick": {},
        "paper": {"problem_seeds": 400, "radius": [*SMALL, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0, *LARGE]},
    },
)


def slope(data: xr.Dataset, name: str) -> Estimate:
    """Fit the exponent of a metric in the norm over all norms given."""
    radii = data["radius"].to_numpy()
    return exponent(radii, by_seed(data, name, "radius"), window=(radii[0], radii[-1]))


def error_slope(data: xr.Dataset) -> Estimate:
    """Fit the exponent of the path's error in the norm."""
    return slope(data, "error")


def apart_slope(data: xr.Dataset) -> Estimate:
    """Fit the exponent of the distance between the directions of path and descent."""
    return slope(data, "apart")


@cellwise
def share(data: xr.Dataset) -> Estimate:
    """Divide the path's error by `C / R`, C being the limit from the multipliers at the largest norm."""
    limit = by_seed(data, "residual_limit") / data["radius"].item()
    return bootstrap(by_seed(data, "error") / limit)


@cellwise
def descent_share(data: xr.Dataset) -> Estimate:
    """Divide the error of descent by the path's at equal norm."""
    return bootstrap(by_seed(data, "descent_error") / by_seed(data, "error"), np.median)


THEOREM = "arXiv:2308.16898, Theorem 2 (direction, without a rate)"
UNSATURATED = "below ||W^mm|| the minimum is along the first gradient, whatever the norm"
BALANCE = "W_R = -grad L / mu: the pulls of the support tokens are proportional to the multipliers of W^mm,\nso that"

CLAIMS = [
    *[
        Claim(
            ids=("AT-A14", "AT-A-T4", "AT-A-P1"),
            statement=f"the regularisation path, {data}: the error of the direction falls like 1/R",
            source=THEOREM,
            label="derived",
            derivation=f"{BALANCE} W_R = c W^mm + r with a bounded r",
            measure=error_slope,
            at={"score_spread": spread, "radius": LARGE},
            control={"score_spread": spread, "radius": SMALL},
            control_reason=UNSATURATED,
            prediction=Equals(-1, tolerance=0.05),
            tolerance_reason="r settles exponentially in R, over some ||W^mm|| divided by how far the margins of the"
            " other\ntokens are from 1: a token within 0.05 still counts at R = 100",
            remark="the constant is still settling, from below, in the first half of the window",
        )
        for spread, data in ((0.0, "equal scores of the other tokens"), (1.0, "data as drawn"))
    ],
    *[
        Claim(
            ids=("AT-A14", "AT-A-P1", "AT-A-M7"),
            statement=f"the regularisation path, {data}: the error of the direction is C/R, C from the multipliers",
            source=THEOREM,
            label="derived",
            derivation=f"{BALANCE} a_k . r = log(w_k/lambda_k) + constant, and r is in the span of the a_k: C = |r|",
            measure=share,
            at={"score_spread": spread, "radius": [2000.0]},
            control={"score_spread": spread, "radius": SMALL},
            control_reason=UNSATURATED,
            prediction=Equals(1, tolerance=0.05),
            tolerance_reason="tokens that are almost support tokens, with margins within 3 ||W^mm|| / R of 1",
        )
        for spread, data in ((0.0, "equal scores of the other tokens"), (1.0, "data as drawn"))
    ],
    Claim(
        ids=("AT-A14", "AT-A-T6"),
        statement="the directions of descent and path approach each other at least like R^(-3/4) at these norms (1/R is"
        " derived as the limit)",
        source="arXiv:2308.16898, Theorems 2 and 4 (the same limit)",
        label="derived",
        derivation="both have the same part across W^mm in the span of the support tokens; descent keeps a bounded one"
        "\noutside of it where a token is no support token",
        measure=apart_slope,
        at={"score_spread": 0.0, "radius": LARGE},
        control={"score_spread": 0.0, "radius": SMALL},
        control_reason="both begin along the first gradient, and part as the norm grows",
        prediction=AtMost(-0.75),
        tolerance_reason="tokens whose margins are within ||W^mm|| / R of 1, from 0.02 on, still add to the part",
        remark="the slope steepens within the window: no power law yet in its first half",
    ),
    Claim(
        ids=("AT-A14", "AT-A-P1"),
        statement="equal scores of the other tokens: in the median, descent at equal norm is farther from the max"
        " margin direction than the regularisation path",
        source="derived; arXiv:2308.16898, Theorems 2 and 4, give the same limit",
        label="derived",
        derivation="the part that descent keeps outside of the span of the support tokens adds to C in squares",
        measure=descent_share,
        at={"score_spread": 0.0, "radius": [2000.0]},
        control={"score_spread": 0.0, "radius": [0.1]},
        control_reason="both are along the first gradient",
        prediction=AtLeast(1.05),
        tolerance_reason="a part of a third of C gives 1.05; a third of the tokens or more are no support tokens",
    ),
]
