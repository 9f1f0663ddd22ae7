"""How often training selects the optimal tokens, or locally optimal ones, by dimension, sequences and tokens."""

import numpy as np
import xarray as xr

from theory_sim import (
    AtLeast,
    Claim,
    Equals,
    Estimate,
    Ordering,
    Simulation,
    Sweep,
    bootstrap,
    by_seed,
    cellwise,
    proportion,
)
from theory_sim.attention import selection_outcome

DIMS = (2, 3, 4, 5, 10, 20)

SIZE, FACTORS, TEN, SEQUENCES, LONGER, LONG = (
    ("weights", 5, 5),
    ("key_query", 5, 5),
    ("weights", 10, 5),
    ("weights", 20, 5),
    ("weights", 5, 10),
    ("weights", 5, 20),
)
"""Parameterisation, sequences and tokens of the published lines."""
SHORT = ("weights", 5, 3)
"""A size whose tokens are all support tokens in 20 dimensions: half of the problems are from 10 on (`support_dim`)."""
PUBLISHED = {
    "global": {
        SIZE: dict(zip(DIMS, (0.18, 0.45, 0.67, 0.79, 0.97, 1.0), strict=True)),
        FACTORS: dict(zip(DIMS, (0.27, 0.57, 0.71, 0.78, 0.96, 1.0), strict=True)),
        TEN: {5: 0.28, 10: 0.80, 20: 0.99},
        SEQUENCES: {5: 0.0, 10: 0.25, 20: 0.94},
        LONGER: {5: 0.59, 10: 0.835, 20: 0.98},
        LONG: {5: 0.605, 10: 0.72, 20: 0.90},
    },
    "local": {
        SIZE: dict(zip(DIMS, (0.36, 0.82, 0.98, 1.0, 1.0, 1.0), strict=True)),
        FACTORS: dict(zip(DIMS, (0.74, 0.99, 1.0, 1.0, 1.0, 1.0), strict=True)),
    },
    "near_support": {SIZE: {5: 0.01, 10: 0.69, 20: 1.0}, FACTORS: {10: 0.25, 20: 0.88}},
}
"""Shares of 500 problems by dimension, read from the figures (AT-A-S4, AT-A-S5)."""

PROBLEMS, UNTRAINED = 500, 100
"""Problems of each size, as many as published, and without training."""
LARGEST, SMALLER = 20, 4
"""Dimensions that are computed with, most of them zero in most problems; fewer for key and query in up to four, since
what their solver costs grows like the cube."""
FAR = 1e5
"""The scale of a start whose attention is all on single tokens, those that chance has."""
SMALL = 25
"""Tokens in all of the largest size that is solved."""


def outcome(*, parameterization: str, inputs: int, tokens: int, max_dim: int) -> Simulation:
    """Return `selection_outcome` of one size; of the larger ones no claim asks for the max margin solutions."""
    found = selection_outcome(
        inputs=inputs,
        tokens=tokens,
        max_dim=max_dim,
        parameterization=parameterization,
        solve=inputs * tokens <= SMALL,
    )
    # The axis has larger dimensions than some arrays hold: `wanted` leaves those cells to others.
    return found._replace(limits=found.limits | {"dim": (1, LARGEST)})


def wanted(*, parameterization, inputs, tokens, max_dim, dim, problem_seed, step_size, init_scale, **_):
    """Select the published cells, as many problems as published where they are solved, and untrained starts."""
    weights = parameterization == "weights"
    placed = (max_dim == SMALLER) == (~weights & (dim <= SMALLER))
    small = placed & (inputs == 5) & (tokens == 5) & (problem_seed < PROBLEMS)
    short = placed & weights & (inputs == 5) & (tokens == 3) & (problem_seed < PROBLEMS)
    large = placed & weights & ((inputs == 5) | (tokens == 5)) & (inputs * tokens > SMALL)
    trained = small | (short & (dim >= 5)) | (large & (dim >= 5))
    untrained = weights & (small | short) & (dim >= 4) & (problem_seed < UNTRAINED)
    return np.where(step_size > 0, (init_scale == 1) & trained, (init_scale == FAR) & untrained)


SWEEP = Sweep(
    simulation=outcome,
    shape={
        "parameterization": ["weights", "key_query"],
        "inputs": [5, 10, 20],
        "tokens": [3, 5, 10, 20],
        "max_dim": [SMALLER, LARGEST],
    },
    problem={"dim": DIMS},
    run={"step_size": [0.0, 0.4], "init_scale": [1.0, FAR]},
    problem_seeds=PROBLEMS,
    steps=[500],
    presets={
        "smoke": {
            "parameterization": ["weights"],
            "inputs": [5],
            "tokens": [5],
            "max_dim": [10],
            "dim": [2, 5, 10],
            "problem_seeds": 16,
        },
        "quick": {},
        "paper": {"step_size": [0.0, 0.1], "steps": [2000], "problem_seeds": 2000},
    },
    where=wanted,
)


def chance(name: str):
    """Measure the share of problems with a conclusion, at each size, with the Wilson interval."""

    return cellwise(lambda data: proportion(by_seed(data, name)))


@cellwise
def local_once_saturated(data: xr.Dataset) -> Estimate:
    """Measure the share of locally optimal tokens among the runs that attend to single tokens at the end."""
    return proportion(by_seed(data, "local")[by_seed(data, "saturated") > 0])


@cellwise
def optimal_where_supported(cell: xr.Dataset) -> Estimate:
    """Share of the optimal tokens among the problems all of whose tokens are support tokens."""
    return proportion(by_seed(cell, "global")[by_seed(cell, "all_support") > 0])


@cellwise
def beyond_support(data: xr.Dataset) -> Estimate:
    """Measure by how much more often the optimal tokens are selected than all tokens are support tokens."""
    return bootstrap(by_seed(data, "global") - by_seed(data, "all_support"))


def cells(
    parameterization: str = "weights", inputs: int = 5, tokens: int = 5, dim=DIMS, *, trained: bool = True
) -> dict:
    """Name the cells of one size, after training or at starts far out that are not trained."""
    return {
        "parameterization": [parameterization],
        "inputs": np.atleast_1d(inputs),
        "tokens": [tokens],
        "max_dim": [SMALLER if parameterization == "key_query" and np.max(dim) <= SMALLER else LARGEST],
        "dim": np.atleast_1d(dim),
        "step_size": slice(1e-3, None) if trained else slice(None, 1e-3),
    }


FIGURES = "arXiv:2308.16898, Figs. 2, 5 and 6 (read from the figures)"
LOW_DIMENSIONS = (
    "in two and three dimensions more runs here end at the optimal tokens, and at locally optimal ones, than published;"
    " which runs the published shares count is not known (AT-A-S4). In two dimensions about half of the runs here"
    " attend to single tokens at the end, nearly all of which are locally optimal"
)
FEWER = f"{PROBLEMS} problems leave up to 0.045, which does not settle it"
LOW = (2, 3, 4)
OPTIMAL = "the optimal tokens"
MORE, OTHER = "more dimensions", "another number of sequences or tokens"
READ = (5, 10, 20)

CLAIMS = [
    Claim(
        ids=("AT-A6",),
        statement="five sequences of five tokens: the chance of the optimal tokens rises with the dimension",
        source=FIGURES,
        label="paper",
        measure=chance("global"),
        at=cells(dim=(2, 3, 5, 10)),
        control=cells(inputs=(5, 20), dim=(10,)),
        control_reason="more sequences lower it",
        prediction=Ordering("increasing"),
    ),
    Claim(
        ids=("AT-A6",),
        statement="the chance of the optimal tokens falls with the number of sequences",
        source=FIGURES,
        label="paper",
        measure=chance("global"),
        at=cells(inputs=(5, 20), dim=(10,)),
        control=cells(dim=(5, 10)),
        control_reason="more dimensions raise it",
        prediction=Ordering("decreasing"),
    ),
    *[
        Claim(
            ids=("AT-A6", "AT-A-S5" if name == "global" and line[0] == "weights" else "AT-A-S4"),
            statement=f"{words}, d = {', '.join(map(str, dims))}: the chance of {tokens} is the published one",
            source=FIGURES,
            label="unconfirmed",
            measure=chance(name),
            at=cells(*line, dim=dims),
            control=cells(*other, dim=READ),
            control_reason=reason,
            prediction=Equals(np.array([PUBLISHED[name][line][d] for d in dims]), tolerance=0.05),
            tolerance_reason="500 published runs leave 0.04 at a share near one half, read-offs 0.01",
            remark=FEWER if line != SIZE else LOW_DIMENSIONS if dims == LOW else "",
        )
        for name, line, dims, other, words, tokens, reason in (
            ("global", SIZE, LOW, SIZE, "5 sequences of 5 tokens", OPTIMAL, MORE),
            ("global", SIZE, READ, SEQUENCES, "5 sequences of 5 tokens", OPTIMAL, OTHER),
            ("global", TEN, READ, SEQUENCES, "10 sequences of 5 tokens", OPTIMAL, OTHER),
            ("global", SEQUENCES, READ, LONG, "20 sequences of 5 tokens", OPTIMAL, OTHER),
            ("global", LONGER, READ, SEQUENCES, "5 sequences of 10 tokens", OPTIMAL, OTHER),
            ("global", LONG, READ, SEQUENCES, "5 sequences of 20 tokens", OPTIMAL, OTHER),
            ("global", FACTORS, LOW, SIZE, "key and query", OPTIMAL, MORE),
            ("global", FACTORS, READ, SEQUENCES, "key and query", OPTIMAL, OTHER),
            ("local", SIZE, LOW, SIZE, "5 sequences of 5 tokens", "locally optimal tokens", MORE),
            ("local", FACTORS, LOW, FACTORS, "key and query", "locally optimal tokens", MORE),
        )
    ],
    Claim(
        ids=("AT-A10", "AT-A-T9"),
        statement="d of 4 or more: training whose attention is on single tokens has ended at locally optimal ones",
        source="arXiv:2308.16898, Definition 2 and Fig. 2 (98 to 100%)",
        label="paper",
        measure=local_once_saturated,
        at=cells(dim=(4, 5, 10, 20)),
        control=cells(dim=(4, 5, 10, 20), trained=False),
        control_reason="attention on single tokens from the start, those that chance has, and no training",
        prediction=AtLeast(0.95),
        tolerance_reason="98 of 100 in Fig. 2, of which 500 runs leave 1.5",
    ),
    Claim(
        ids=("AT-A7", "AT-A-S4"),
        statement="the share of problems with a mean margin below 1.1 rises with d as published: 1%, 69%, 100%",
        source=FIGURES,
        label="unconfirmed",
        measure=chance("near_support"),
        at=cells(dim=READ),
        control=cells("key_query", dim=READ),
        control_reason="in the nuclear norm it rises later",
        prediction=Equals(np.array(list(PUBLISHED["near_support"][SIZE].values())), tolerance=0.08),
        tolerance_reason="500 published problems leave 0.04, read-offs 0.01; which mean is meant is not said",
    ),
    Claim(
        ids=("AT-A7", "AT-A-S4", "AT-A-T11"),
        statement="published as the share of problems all of whose tokens are support tokens: 1%, 69%, 100%",
        source=FIGURES,
        label="unconfirmed",
        measure=chance("all_support"),
        at=cells(dim=READ),
        control=cells(*SHORT, dim=READ),
        control_reason="three tokens of a sequence are all support tokens in fewer dimensions than five",
        prediction=Equals(np.array(list(PUBLISHED["near_support"][SIZE].values())), tolerance=0.08),
        tolerance_reason="as for the mean margin, which is what was counted",
        remark="a mean margin below 1.1 is no proof of B.1, which half of such problems meet from 51 dimensions on"
        " (attention_support_tokens)",
    ),
    Claim(
        ids=("AT-A7", "AT-A-T11"),
        statement="three tokens in 10 and 20 dimensions: where all are support tokens the optimal ones are selected",
        source="arXiv:2308.16898, conjecture of Sec. 5.2",
        label="paper",
        measure=optimal_where_supported,
        at=cells(*SHORT, dim=(10, 20)),
        control=cells(*SHORT, dim=(10, 20), trained=False),
        control_reason="without training the selected tokens are those that chance has, and B.1 is as it is",
        prediction=AtLeast(0.95),
        tolerance_reason="all but runs that are not saturated yet; 250 of 500 problems settle 0.027",
    ),
    Claim(
        ids=("AT-A7", "AT-A-T11"),
        statement="five tokens: all need not be support tokens, the optimal ones are selected far more often",
        source="arXiv:2308.16898, Sec. 5.2 and Fig. 5",
        label="paper",
        measure=beyond_support,
        at=cells(dim=READ),
        control=cells(*SHORT, dim=(20,)),
        control_reason="three tokens in 20 dimensions, twice the derived number, are nearly always all support tokens",
        prediction=AtLeast(0.5),
        tolerance_reason="published: 0.79 against 0.01 in five dimensions; what more dimensions select is above 0.96,"
        " and B.1 holds in half of the problems from 51 on",
    ),
]
