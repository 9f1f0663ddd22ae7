"""From which dimension on all tokens are support tokens: like (T - 1)^2 log(n T), not (T + n) log(T + n)."""

import numpy as np
import xarray as xr

from theory_sim import (
    AtLeast,
    Claim,
    Estimate,
    MatchesCurve,
    Simulation,
    Sweep,
    by_seed,
    cellwise,
    crossing,
    proportion,
)
from theory_sim.attention import support_dim, support_tokens

SIZES = {"inputs": ((3, 3), (5, 3), (10, 3), (20, 3)), "tokens": ((5, 3), (5, 4), (5, 5), (5, 6))}
"""Sequences and tokens of the problems, along either."""
AROUND = np.array([0.4, 0.6, 0.8, 1.0, 1.25, 1.6, 2.2])
"""Dimensions that are tried, in units of the predicted one."""


def dims(inputs: int, tokens: int) -> np.ndarray:
    """Return the dimensions around the predicted one of a size."""
    return np.round(support_dim(inputs, tokens) * AROUND).astype(int)


def instances(*, along: str = "tokens") -> Simulation:
    """Return `support_tokens` up to the largest sizes along sequences or tokens."""
    sizes = SIZES[along]
    simulation = support_tokens(
        points=max(n * (t - 1) for n, t in sizes),
        max_inputs=max(n for n, _ in sizes),
        max_tokens=max(t for _, t in sizes),
        max_dim=max(int(dims(n, t)[-1]) for n, t in sizes),
    )
    # Both share the axes; `where` gives each its own values, within its own limits.
    return simulation._replace(limits={})


def wanted(*, along, inputs, tokens, dim, **_):
    """Select the dimensions around the prediction."""
    return np.any(
        [
            (along == axis) & (inputs == n) & (tokens == t) & np.isin(dim, dims(n, t))
            for axis, sizes in SIZES.items()
            for n, t in sizes
        ],
        axis=0,
    )


ALL = [size for sizes in SIZES.values() for size in sizes]

SWEEP = Sweep(
    simulation=instances,
    shape={"along": [*SIZES]},
    problem={
        "inputs": sorted({n for n, _ in ALL}),
        "tokens": sorted({t for _, t in ALL}),
        "dim": np.unique(np.concatenate([dims(*size) for size in ALL])),
    },
    problem_seeds=400,  # with 100 a control was neither rejected nor passed: raised when that had been seen
    steps=[0],
    presets={"smoke": {"problem_seeds": 4}, "quick": {}, "paper": {"problem_seeds": 1000}},
    where=wanted,
)


def size_of(data: xr.Dataset) -> tuple[int, int]:
    """Sequences and tokens of a cell."""
    return data["inputs"].item(), data["tokens"].item()


@cellwise
def share(data: xr.Dataset) -> Estimate:
    """Share of problems all of whose tokens are support tokens, at each size and dimension."""
    return proportion(by_seed(data, "all_active"))


def threshold(data: xr.Dataset) -> Estimate:
    """Dimension at which it is a half, at each size."""

    def measure(cell: xr.Dataset) -> Estimate:
        near = [d for d in np.unique(dims(*size_of(cell))) if d in cell["dim"]]
        return crossing(np.array(near), by_seed(cell.sel(dim=near), "all_active", "dim"), 0.5)

    return cellwise(measure, keep=("dim",))(data)


def relative_threshold(data: xr.Dataset) -> Estimate:
    """That dimension over `(T + n) log(T + n)`, in units of the geometric mean of the sizes."""
    found = threshold(data)
    scale = np.array([(n + t) * np.log(n + t) for n, t in sizes_of(data)])
    mean = np.exp(np.log(found.value / scale).mean())
    return Estimate(*(part / scale / mean for part in found[:3]), found.window, found.doubts)


def sizes_of(data: xr.Dataset) -> list[tuple[int, int]]:
    """Sizes of the selected cells, in the order of the axes."""
    return [(n, t) for n in data["inputs"].to_numpy() for t in data["tokens"].to_numpy()]


def predicted(data: xr.Dataset) -> np.ndarray:
    """Predicted dimension at each size."""
    return np.array([float(support_dim(*size)) for size in sizes_of(data)])


SECTION = "arXiv:2308.16898, Section 5.2"
DERIVATION = (
    "The multipliers K^-1 1 of a sequence are 1/T to zeroth order; to first order in products of tokens its own give\n"
    "them the variance V/(T^2 d), each other sequence (T-1)^2/(T^2 d^2): margin_rates.support_dim"
)
SECOND_ORDER = (
    "first order in products of tokens, which have deviations of 0.1 to 0.4 at these dimensions; second order is up to"
    " 0.15. An earlier formula left out the products among the other tokens, and lay 9 to 27% higher"
)
AT = {"tokens": {"along": "tokens", "inputs": [5]}, "inputs": {"along": "inputs", "tokens": [3]}}
OTHER = {"tokens": AT["inputs"], "inputs": AT["tokens"]}

CLAIMS = [
    *[
        Claim(
            ids=("AT-A7", "AT-A-T11"),
            statement=f"all tokens are support tokens in half of the problems from the derived dimension on: {sizes}",
            source=f"{SECTION} (B.1); its threshold is derived here",
            label="derived",
            derivation=DERIVATION,
            measure=threshold,
            prediction=MatchesCurve(predicted, 0.15),
            tolerance_reason=SECOND_ORDER,
            at=AT[axis],
            control=OTHER[axis],
            control_reason="other sizes: more sequences need less, and more tokens more, than the other of the two",
            remark=remark,
        )
        for axis, sizes, remark in (
            (
                "tokens",
                "3, 4, 5, 6 tokens",
                "all lie within a tenth; the interval at 6 tokens ends at the tolerance",
            ),
            ("inputs", "3, 5, 10, 20 sequences", ""),
        )
    ],
    *[
        Claim(
            ids=("AT-A7", "AT-A-T11"),
            statement=f"that dimension is proportional to (T + n) log(T + n): {sizes}",
            source=f"{SECTION} (a heuristic: it suffices)",
            label="paper",
            measure=relative_threshold,
            prediction=MatchesCurve(1, 0.25),
            tolerance_reason="a law that is off by a factor of two over a factor of two in size is none",
            at=AT[axis],
            control=OTHER[axis],
            control_reason="derived: along the other of the two sizes it does not grow like that either",
            remark=remark,
        )
        for axis, sizes, remark in (
            (
                "tokens",
                "3, 4, 5, 6 tokens",
                "it grows like (T - 1)^2 log(n T): (T + n) log(T + n) dimensions do not suffice for five tokens",
            ),
            (
                "inputs",
                "3, 5, 10, 20 sequences",
                "it grows like log(n) first and like sqrt(n) later: fewer dimensions suffice for many sequences",
            ),
        )
    ],
    Claim(
        ids=("AT-A7",),
        statement="from twice the derived dimension on they nearly always are",
        source=f"{SECTION} (the frequency rises from 0 to 1)",
        label="derived",
        derivation="Phi(s sqrt(2.2))^(n (T-1)) where Phi(s)^(n (T-1)) = 1/2: 0.94 and more",
        measure=share,
        prediction=AtLeast(0.85),
        tolerance_reason="the derivation gives 0.94; 0.05 of binomial noise, and what first order leaves out",
        at={**AT["tokens"], "tokens": [5], "dim": [int(dims(5, 5)[-1])]},
        control={**AT["tokens"], "tokens": [5], "dim": [int(dims(5, 5)[0])]},
        control_reason="at 0.4 of the derived dimension: 0.02",
    ),
]
