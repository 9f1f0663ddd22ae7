"""Asymmetric descent from few measurements: the population's laws, at a rate that nears the population's as m grows."""

import numpy as np
import xarray as xr

from theory_sim import (
    AtLeast,
    Claim,
    Equals,
    Estimate,
    Simulation,
    Sweep,
    bootstrap,
    by_seed,
    cellwise,
    decay,
)
from theory_sim.sensing import (
    asymmetric_gd,
    asymmetric_linear_rate,
    finite_rate_edge,
    finite_rate_factor,
)

BETA = 0.5
LATE = (1e-4, 1e-7)
"""Between these errors the slowest mode is nearly alone; at m = 5nr three thousand steps lie between them."""


def measured(*, dim: int, true_rank: int, max_rank: int, oversampling: float | None) -> Simulation:
    """Return asymmetric descent with `m = oversampling n r` Gaussian measurements; None is the population."""
    count = None if oversampling is None else round(oversampling * dim * true_rank)
    return asymmetric_gd(rows=dim, cols=dim, true_rank=true_rank, max_rank=max_rank, measurements=count)


def wanted(*, oversampling, init_scale, rebalance, **_):
    """Select the largest start without the change of factors, all starts with it; in the population, both."""
    return np.equal(oversampling, None) | (rebalance > 0) | (init_scale == 0.6)


SWEEP = Sweep(
    simulation=measured,
    shape={"dim": [12], "true_rank": [2], "max_rank": [4], "oversampling": [5, 10, 20, None]},
    problem={"condition_number": [2.0]},
    run={
        "step_size": [0.2],
        "init_scale": [0.15, 0.3, 0.6],
        "rebalance": [0.0, BETA],
    },
    problem_seeds=8,
    steps=np.arange(0, 5001, 50),
    presets={
        "smoke": {"problem_seeds": 2, "oversampling": [10, None], "steps": np.arange(0, 3001, 50)},
        "quick": {},
        "paper": {"dim": [50], "oversampling": [5, 10, 20, 40, None], "problem_seeds": 32},
    },
    where=wanted,
)


def rates(cell: xr.Dataset) -> np.ndarray:
    """Return minus the late slope of the log error of each seed."""
    return decay(cell["step"].to_numpy(), by_seed(cell, "error", "step"), between=LATE)


WINDOW = f"errors from {LATE[0]:g} to {LATE[1]:g}"


def population_rate(cell: xr.Dataset) -> np.ndarray:
    """Return the rate that the population has at the curvature of each run: its own, or beta squared."""
    curvature = by_seed(cell, "tail_curvature") if float(cell["rebalance"]) == 0 else BETA**2
    return -asymmetric_linear_rate(float(cell["step_size"].squeeze()), curvature)


@cellwise
def relative_rate(cell: xr.Dataset) -> Estimate:
    """Divide each seed's rate by the population's."""
    return bootstrap(rates(cell) / population_rate(cell), window=WINDOW)


def scale_exponent(data: xr.Dataset) -> Estimate:
    """Return the exponent of the rate in the scale of the start, from the least to the largest, at each m."""
    data = data if "oversampling" in data.dims else data.expand_dims("oversampling")
    scales = data["init_scale"].to_numpy()[[0, -1]]
    first, last = (over_measurements(data.sel(init_scale=scale)) for scale in scales)
    window = f"alpha {scales[0]:g} and {scales[1]:g}"
    return bootstrap(np.log(last / first) / np.log(scales[1] / scales[0]), window=window)


def over_measurements(data: xr.Dataset) -> np.ndarray:
    """Return the rates `[seed, m]`."""
    return np.stack([rates(data.isel(oversampling=i)) for i in range(data.sizes["oversampling"])], axis=1)


def gain(data: xr.Dataset) -> Estimate:
    """Return the log of the rate at the last over that at the first cell, each over its own curvature."""
    axis = next(name for name in ("oversampling", "init_scale") if data.sizes.get(name, 1) > 1)
    first, last = (
        rates(cell) / population_rate(cell) for cell in (data.isel({axis: 0}), data.isel({axis: -1}))
    )
    return bootstrap(np.log(last / first), window=WINDOW)


def sizes(data: xr.Dataset) -> tuple[np.ndarray, int, int, int]:
    """Return the numbers of measurements, and n twice and r."""
    dim, rank = int(data["dim"].squeeze()), int(data["true_rank"].squeeze())
    return np.atleast_1d(data["oversampling"].to_numpy()).astype(float) * dim * rank, dim, dim, rank


def bounds(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the edge of the spectrum that the slow directions see, and its mean."""
    return finite_rate_edge(*sizes(data), int(data["max_rank"].squeeze())), finite_rate_factor(*sizes(data))


def middle(data: xr.Dataset) -> np.ndarray:
    """Return the middle of the bounds."""
    return sum(bounds(data)) / 2


def half_width(data: xr.Dataset) -> np.ndarray:
    """Return half of the distance of the bounds."""
    return middle(data) - bounds(data)[0]


def least_gain(data: xr.Dataset) -> float:
    """Return the log of what the mean curvature gains from the fewest to the most measurements."""
    mean = bounds(data)[1]
    return float(np.log(mean[-1] / mean[0]))


PLAIN, CHANGED = {"rebalance": 0.0}, {"rebalance": BETA}
FINITE = ["5", "10", "20"]
MODEL = "arXiv:2310.01769 for the model; finite samples conjectured here"
SPECTRUM = (
    "the signal projects its q tangent directions out of the m measurements; the D slow ones see a Wishart matrix:\n"
    "mean curvature 1 - q/m, least (1 - q/m)(1 - sqrt(D/(m - q)))^2, which few measurements lower the most"
)

CLAIMS = [
    Claim(
        ids=("SE-1.7", "SE-1-P6"),
        statement="the slow directions see the measurements' spectrum: the rate lies between its edge and its mean",
        source="derived for Gaussian measurements",
        label="derived",
        derivation=SPECTRUM,
        measure=relative_rate,
        at=PLAIN | {"init_scale": 0.6, "oversampling": FINITE},
        control=PLAIN | {"init_scale": 0.6, "oversampling": "None"},
        control_reason="the population operator has curvature 1",
        prediction=Equals(middle, half_width),
        tolerance_reason="from the least to the mean curvature; the least of so few directions lies above the edge",
    ),
    *[
        Claim(
            ids=("SE-1.7", "SE-1-P6"),
            statement=f"{words}: four times the measurements bring the rate nearer to the population's",
            source="derived for Gaussian measurements",
            label="derived",
            derivation=SPECTRUM,
            measure=gain,
            at=cells | {"init_scale": 0.6, "oversampling": FINITE},
            control=CHANGED | {"init_scale": [0.15, 0.6], "oversampling": "20"},
            control_reason="at one m four times the start changes little: the change of factors undoes it",
            prediction=AtLeast(least_gain),
            tolerance_reason="none: the least curvature gains more than the mean",
        )
        for words, cells in (("no change of factors", PLAIN), ("one change of factors", CHANGED))
    ],
    Claim(
        ids=("SE-1.7", "SE-1-P6", "SE-1.9"),
        statement="with one change of factors the rate does not depend on the start, at any number of measurements",
        source=MODEL,
        label="unconfirmed",
        measure=scale_exponent,
        at=CHANGED | {"oversampling": FINITE},
        control=PLAIN | {"oversampling": "None", "init_scale": [0.3, 0.6]},
        control_reason="without the change the rate is proportional to alpha squared",
        prediction=Equals(0.0, tolerance=0.2),
        tolerance_reason="the population's exponent is below 0.02; the operators are common to both starts, but the"
        " slow directions are not: 15% in the rate at m = 5nr over log 4, and the mean over problems",
        remark="where measurements are few the rate falls a little with the scale of the start",
    ),
]
