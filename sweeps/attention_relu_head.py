"""Under ReLU neurons a sequence may select several tokens, and the direction is set by those that select one."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from theory_sim import (
    AtLeast,
    AtMost,
    Claim,
    Equals,
    Estimate,
    MatchesCurve,
    Sweep,
    bootstrap,
    by_seed,
    cellwise,
)
from theory_sim.attention import PUBLISHED_ERRORS, relu_head

DIMS = [4, 6, 8, 10]
LINEAR, LINEAR_SEEDS = 1.0, 32
"""The slope below zero of a linear head, which is the control, and its number of problems."""

SWEEP = Sweep(
    simulation=relu_head,
    shape={"inputs": [3], "tokens": [4], "max_dim": [10]},
    problem={"dim": DIMS, "leak": [0.0, LINEAR]},
    problem_seeds=400,
    steps=[2000],
    presets={
        "smoke": {"problem_seeds": 12, "steps": [300]},
        "quick": {},
        "paper": {"problem_seeds": 20_000},
    },
    where=lambda *, leak, problem_seed, **_: (leak < LINEAR) | (problem_seed < LINEAR_SEEDS),
)


def of_accepted(
    data: xr.Dataset, values: np.ndarray, *flags: str, statistic: Callable[..., np.ndarray] = np.mean
) -> Estimate:
    """Average over the problems that are accepted as published were, and flagged."""
    kept = np.all([by_seed(data, flag) == 1 for flag in ("accepted", *flags)], axis=0)
    if kept.sum() < 2:
        return Estimate(np.nan, -np.inf, np.inf, "", ("fewer than two problems are accepted",))
    return bootstrap(values[kept], statistic, window="accepted problems")


@cellwise
def lost(data: xr.Dataset) -> Estimate:
    """Measure by how much one token a sequence raises `1 - corr`."""
    errors = by_seed(data, "error", "solution")
    return of_accepted(data, errors[:, 2] - errors[:, 1])


@cellwise
def error(data: xr.Dataset) -> Estimate:
    """Measure the mean `1 - corr` with a solution."""
    return of_accepted(data, by_seed(data, "error"))


@cellwise
def error_of_several(data: xr.Dataset) -> Estimate:
    """Measure the same where some sequence selects several tokens and another pushes."""
    return of_accepted(data, by_seed(data, "error"), "several", "pushed")


@cellwise
def accepted_share(data: xr.Dataset) -> Estimate:
    """Measure the share of accepted problems among those with a label of -1."""
    return bootstrap(by_seed(data, "accepted")[by_seed(data, "mixed") == 1])


def cells(solution: str | None = None, leak: float = 0.0, dim: list[int] | None = None) -> dict:
    """Name the cells of some dimensions, and the solution that the weights are compared with."""
    return {"leak": leak, "dim": dim or DIMS} | ({"solution": solution} if solution else {})


SECTION = "arXiv:2308.16898, Section 6"
ONE_TOKEN = "a linear head selects one token in each sequence: all solutions are one"
READ = "read-offs from a logarithmic axis, 15%; means of 500 published problems, and fewer here, of a wide spread"

CLAIMS = [
    Claim(
        ids=("AT-A13", "AT-A-T13"),
        statement="W is closer to W^mm of (Gen-SVM) than to the solution for the most attended tokens",
        source=f"{SECTION} and Figs 8, 11",
        label="paper",
        measure=lost,
        at=cells(),
        control=cells(leak=LINEAR),
        control_reason=ONE_TOKEN,
        prediction=AtLeast(1e-6),
        tolerance_reason="above rounding",
        remark="few problems are accepted in dimensions 8 and 10",
    ),
    *[
        Claim(
            ids=("AT-A13", "AT-A-S7"),
            statement=f"1 - corr(W, {name}) in dimensions 4, 6, 8, 10 is {', '.join(f'{v:g}' for v in values)}",
            source="arXiv:2308.16898, Fig. 8 (read from the figure)",
            label="unconfirmed",
            measure=error,
            at=cells(solution),
            control=cells(solution, leak=LINEAR),
            control_reason=ONE_TOKEN + ", with an error of 1e-4",
            prediction=MatchesCurve(np.array(values), 0.5),
            tolerance_reason=READ,
            remark="the mean here is above the published one in every dimension; the published rule for what is"
            "\naccepted is followed as far as it is known, and it is not known what else differs",
        )
        for (solution, values), name in zip(PUBLISHED_ERRORS.items(), ("W_SVMeq", "W^mm"), strict=True)
    ],
    Claim(
        ids=("AT-A13", "AT-A-S7"),
        statement="1 - corr with the solution for the most attended tokens is about 0.145",
        source="arXiv:2308.16898, Fig. 8 (read from the figure)",
        label="unconfirmed",
        measure=error,
        at=cells("one_token"),
        control=cells("one_token", leak=LINEAR),
        control_reason=ONE_TOKEN + ", with an error of 1e-4",
        prediction=Equals(0.145, tolerance=0.06),
        tolerance_reason="published values lie between 0.12 and 0.17; means of fewer problems here",
        remark="few problems are accepted in dimension 10: eight of 400, whose mean is uncertain by a factor of three",
    ),
    Claim(
        ids=("AT-A-T13",),
        statement="where a sequence selects several tokens, W is W_fin + c W^mm of (Gen-SVM)",
        source=SECTION,
        label="paper",
        measure=error_of_several,
        at=cells("finite_and_margin", dim=[4, 6, 8]),
        control=cells("finite_and_one_token", dim=[4, 6, 8]),
        control_reason="with W_fin too, the solution for one token asks for margins among tokens that are all selected",
        prediction=AtMost(0.01),
        tolerance_reason="1 - corr = |r|^2 / 2 |W|^2: a rest of some units, and |W| of 50 to 200",
        remark="(Gen-SVM) asks for margins of masked tokens that nothing pushes; without those it agrees (next claim)",
    ),
    Claim(
        ids=("AT-A-T13",),
        statement="where a sequence selects several tokens, the direction solves (Gen-SVM) with the margins of those"
        " sequences alone that select one and have an active neuron",
        source="derived; arXiv:2308.16898, Section 6 asks for all margins",
        label="derived",
        derivation="at a kink a sequence's pushes on masked tokens are as small as their attention next to those among"
        "\nits selected tokens, which are of order 1; without an active neuron there are none",
        measure=error_of_several,
        at=cells("live", dim=[4, 6, 8]),
        control=cells("finite_and_margin", dim=[4, 6, 8]),
        control_reason="it asks for margins of tokens that nothing pushes",
        prediction=AtMost(0.01),
        tolerance_reason="as for (Gen-SVM)",
    ),
    Claim(
        ids=("AT-A-S7",),
        statement="the published selection keeps less than a fifth of the problems in dimensions 8 and 10",
        source="conjectured here",
        label="unconfirmed",
        measure=accepted_share,
        at=cells(dim=[8, 10]),
        control=cells(leak=LINEAR, dim=[8, 10]),
        control_reason="without kinks all tokens but one a sequence are masked",
        prediction=AtMost(0.2),
        tolerance_reason="a kink with pulls on both sides takes all of each step: elsewhere the attention falls like\n"
        "1/(eta t), to 1/200, which is neither selected nor masked; most sequences with label -1 have such a kink",
    ),
]
