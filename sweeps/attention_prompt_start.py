"""The start of a prompt decides which token it selects, where a second best token beats all of its neighbours."""

import xarray as xr

from theory_sim import (
    AtLeast,
    AtMost,
    Claim,
    Equals,
    Estimate,
    Simulation,
    Sweep,
    by_seed,
    proportion,
)
from theory_sim.attention import local_share, prompt_attention

NEAR, MIDDLE, FAR = 0.1, 3.0, 30.0
"""Norms of the start: attention almost uniform, in between, and almost all on one token."""
LOCAL, EQUAL = 0.0, 0.9
"""Scores of the third token: below the second best one's, and equal to it."""
FEW = 200
"""How many starts show that none, or all, end somewhere."""


def choice() -> Simulation:
    """Return `prompt_attention` on one input of three tokens, from a random start."""
    return prompt_attention(inputs=1, tokens=3, dim=3, instance="choice", solve=False)


def wanted(*, third_score, radius, problem_seed, **_):
    """Select many far starts where the start decides, and fewer elsewhere."""
    return (problem_seed < FEW) | ((third_score == LOCAL) & (radius == FAR))


SWEEP = Sweep(
    simulation=choice,
    problem={"third_score": [LOCAL, EQUAL]},
    run={"radius": [NEAR, MIDDLE, FAR], "step_size": [0.3]},
    problem_seeds=1000,
    steps=[500],
    presets={
        "smoke": {"problem_seeds": 40, "steps": [300]},
        "quick": {},
        "paper": {
            "radius": [NEAR, 0.3, 1.0, MIDDLE, 10.0, FAR, 100.0],
            "problem_seeds": 10_000,
            "steps": [5000],
        },
    },
    where=wanted,
)


def share_of_best(data: xr.Dataset) -> Estimate:
    """Measure the share of starts that end at the best token, with the Wilson interval."""
    return proportion(by_seed(data, "global"))


def share_not_best(data: xr.Dataset) -> Estimate:
    """Measure the share of starts that do not end at the best token."""
    return proportion(1 - by_seed(data, "global"))


def cells(third_score: float, radius: float) -> dict:
    """Name the starts of one norm."""
    return {"third_score": third_score, "radius": radius}


SOURCE = "arXiv:2306.13596, official code (single input of three tokens"

CLAIMS = [
    Claim(
        ids=("AT-D2", "AT-D-S1"),
        statement="third score below the second best: 0.383 of far starts do not end at the best token",
        source=f"{SOURCE}; the share is derived)",
        label="derived",
        derivation="attention on one token moves the prompt by the larger of the two others' pulls: away from the\n"
        "best token for starts between -(180 - 47.7) and 5.7 degrees, from the slopes 1.1 and 0.1 of the keys",
        measure=share_not_best,
        at=cells(LOCAL, FAR),
        control=cells(EQUAL, FAR),
        control_reason="with equal scores no token but the best one is locally optimal",
        prediction=Equals(local_share(), tolerance=0.05),
        tolerance_reason="1000 starts leave 0.03; the cone's edges are off by O(1) of a radius of 30, 0.01",
    ),
    Claim(
        ids=("AT-D2", "AT-D-S1"),
        statement="equal scores of the other tokens: far starts in all directions end at the best token",
        source=f"{SOURCE})",
        label="derived",
        derivation="every token's pull on the attended one is zero but for the best token's, which moves the\n"
        "prompt along k_best - k_attended for as long as it takes",
        measure=share_of_best,
        at=cells(EQUAL, FAR),
        control=cells(LOCAL, FAR),
        control_reason="with a third score below it, the second best token is locally optimal",
        prediction=AtLeast(0.97),
        tolerance_reason="all of 200 starts leave 2%",
    ),
    Claim(
        ids=("AT-D2", "AT-D-S1"),
        statement="third score below the second best: starts near zero all end at the best token",
        source=f"{SOURCE})",
        label="derived",
        derivation="at zero minus the gradient points 57.8 degrees up, beyond the 47.7 from which on the best token\n"
        "has the most attention",
        measure=share_not_best,
        at=cells(LOCAL, NEAR),
        control=cells(LOCAL, FAR),
        control_reason="far starts end where they point",
        prediction=AtMost(0.03),
        tolerance_reason="none of 200 starts leaves 2%",
    ),
]
