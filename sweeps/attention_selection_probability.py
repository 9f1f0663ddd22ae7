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

SIZE, FACTORS, SEQUENCES, LONG = (
    ("weights", 5, 5),
    ("key_query", 5, 5),
    ("weights", 20, 5),
    ("weights", 5, 20),
)
"""Parameterisation, sequences and tokens of the published lines."""
PUBLISHED = {
    "global": {
        SIZE: dict(zip(DIMS, (0.18, 0.45, 0.67, 0.79, 0.97, 1.0), strict=True)),
        FACTORS: dict(zip(DIMS, (0.27, 0.57, 0.71, 0.78, 0.96, 1.0), strict=True)),
        SEQUENCES: {5: 0.0, 10: 0.25, 20: 0.94},
        LONG: {5: 0.605, 10: 0.72, 20: 0.90},
    },
    "local": {
        SIZE: dict(zip(DIMS, (0.36, 0.82, 0.98, 1.0, 1.0, 1.0), strict=True)),
        FACTORS: dict(zip(DIMS, (0.74, 0.99, 1.0, 1.0, 1.0, 1.0), strict=True)),
    },
    "all_active": {SIZE: {5: 0.01, 10: 0.69, 20: 1.0}, FACTORS: {10: 0.25, 20: 0.88}},
}
"""Shares of 500 problems by dimension, read from the figures (AT-A-S4, AT-A-S5)."""

FEW = 100
"""Problems of key and query, whose solver is the slower one, and half of those of the larger sizes."""

SMALL = 25
"""Tokens in all of the smaller size."""


def outcome(*, parameterization: str, inputs: int, tokens: int, max_dim: int) -> Simulation:
    """Return `selection_outcome` of one size; of the larger ones no claim asks for the max margin solutions."""
    return selection_outcome(
        inputs=inputs,
        tokens=tokens,
        max_dim=max_dim,
        parameterization=parameterization,
        solve=inputs * tokens <= SMALL,
    )


def wanted(*, parameterization, inputs, tokens, dim, problem_seed, **_):
    """Select the published cells; of the larger ones, and of key and query, fewer problems."""
    small = (inputs == 5) & (tokens == 5) & ((parameterization == "weights") | (problem_seed < FEW))
    large = (parameterization == "weights") & ((inputs == 5) | (tokens == 5)) & (dim >= 5)
    return small | (large & (problem_seed < 2 * FEW))


SWEEP = Sweep(
    simulation=outcome,
    shape={
        "parameterization": ["weights", "key_query"],
        "inputs": [5, 20],
        "tokens": [5, 20],
        "max_dim": [20],
    },
    problem={"dim": DIMS},
    run={"step_size": [0.4]},
    problem_seeds=400,
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
        "paper": {"step_size": [0.1], "steps": [2000], "problem_seeds": 2000},
    },
    where=wanted,
)


def chance(name: str):
    """Measure the share of problems with a conclusion, at each size, with the Wilson interval."""

    return cellwise(lambda data: proportion(by_seed(data, name)))


def beyond_support(data: xr.Dataset) -> Estimate:
    """Measure by how much more often the optimal tokens are selected than all tokens are support tokens."""
    return bootstrap(
        by_seed(data, "global") - by_seed(data, "all_active"), window=f"d = {data['dim'].item()}"
    )


def cells(parameterization: str = "weights", inputs: int = 5, tokens: int = 5, dim=DIMS) -> dict:
    """Name the cells of one size."""
    return {
        "parameterization": [parameterization],
        "inputs": np.atleast_1d(inputs),
        "tokens": [tokens],
        "dim": np.atleast_1d(dim),
    }


FIGURES = "arXiv:2308.16898, Figs. 2, 5 and 6 (read from the figures)"
LOW_DIMENSIONS = (
    "in two and three dimensions more runs here end at the optimal tokens, and at locally optimal ones, than published;"
    " which runs the published shares count is not known (AT-A-S4)"
)
FEWER = "100 or 200 problems leave up to 0.1, which does not settle it"
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
            ("global", SEQUENCES, READ, LONG, "20 sequences of 5 tokens", OPTIMAL, OTHER),
            ("global", LONG, READ, SEQUENCES, "5 sequences of 20 tokens", OPTIMAL, OTHER),
            ("global", FACTORS, LOW, SIZE, "key and query", OPTIMAL, MORE),
            ("global", FACTORS, READ, SEQUENCES, "key and query", OPTIMAL, OTHER),
            ("local", SIZE, LOW, SIZE, "5 sequences of 5 tokens", "locally optimal tokens", MORE),
            ("local", FACTORS, LOW, FACTORS, "key and query", "locally optimal tokens", MORE),
        )
    ],
    Claim(
        ids=("AT-A10", "AT-A-T9"),
        statement="d of 4 or more: training ends at locally optimal tokens",
        source="arXiv:2308.16898, Definition 2 and Fig. 2 (98 to 100%)",
        label="paper",
        measure=chance("local"),
        at=cells(dim=(4, 5, 10, 20)),
        control=cells(dim=(2,)),
        control_reason="in two dimensions attention is often not saturated yet, or at tokens that are not optimal",
        prediction=AtLeast(0.95),
        tolerance_reason="98 of 100 in Fig. 2, of which 500 runs leave 1.5",
    ),
    Claim(
        ids=("AT-A7", "AT-A-S4"),
        statement="the share of problems with support tokens alone rises with d as published: 1%, 69%, 100%",
        source=FIGURES,
        label="unconfirmed",
        measure=chance("all_active"),
        at=cells(dim=READ),
        control=cells("key_query", dim=READ),
        control_reason="in the nuclear norm it rises later",
        prediction=Equals(np.array(list(PUBLISHED["all_active"][SIZE].values())), tolerance=0.08),
        tolerance_reason="500 published problems leave 0.04, read-offs 0.01; which mean is meant is not said",
    ),
    Claim(
        ids=("AT-A7", "AT-A-T11"),
        statement="support tokens alone are not needed: the optimal tokens are selected far more often",
        source="arXiv:2308.16898, Sec. 5.2 and Fig. 5",
        label="paper",
        measure=beyond_support,
        at=cells(dim=(5,)),
        control=cells(dim=(20,)),
        control_reason="in 20 dimensions all tokens are support tokens, too",
        prediction=AtLeast(0.5),
        tolerance_reason="published: 0.79 against 0.01",
    ),
]
