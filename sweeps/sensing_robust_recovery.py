"""Robust recovery: the l1 loss is exact in spite of outliers, from a small start at any rank, where l2 is not."""

import numpy as np
import xarray as xr

from theory_sim import AtLeast, AtMost, Claim, Equals, Estimate, Sweep, bootstrap, by_seed, rate
from theory_sim.sensing import statistical_floor, subgradient

SMALL = [1e-4, 1e-3, 1e-2]


def wanted(*, loss, rank, init_scale, samples, max_rank, **_):
    """Select all l1 runs on many measurements; on few, and with l2, those that overfit and those compared with l1."""
    few = samples < 100
    absolute = (loss == "l1") & (~few | ((init_scale == 1) & (rank == max_rank)))
    return absolute | ((loss == "l2") & (init_scale == 1e-3) & (samples == 1600))


SWEEP = Sweep(
    simulation=subgradient,
    shape={"dim": [12], "true_rank": [2], "max_rank": [12], "measurements": [1600], "loss": ["l1", "l2"]},
    problem={"condition_number": [1.5], "outlier_fraction": [0.2], "outlier_std": [10.0]},
    run={
        "samples": [60, 400, 1600],
        "rank": [2, 4, 12],
        "init_scale": [*SMALL, 1.0],
        "step_size": [0.15],
        "decay": [0.98],
    },
    problem_seeds=12,
    steps=np.arange(0, 1001, 25),
    presets={
        "smoke": {"problem_seeds": 2},
        "quick": {},
        "paper": {"problem_seeds": 128, "rank": [2, 3, 4, 6, 8, 12], "init_scale": [*SMALL, 1e-1, 1.0]},
    },
    where=wanted,
)


def relative_rate(data: xr.Dataset) -> Estimate:
    """Divide the slope of the log error between steps 100 and 700 by `log(rho)`, at each scale of the start."""
    runs = by_seed(data, "error", "init_scale", "step") if "init_scale" in data.dims else None
    curves = [by_seed(data, "error", "step")] if runs is None else list(np.moveaxis(runs, 1, 0))
    fits = [rate(data["step"].to_numpy(), curve, window=(100, 700)) for curve in curves]
    predicted = np.log(float(data["decay"].item()))
    value, low, high = (np.array([fit[i] / predicted for fit in fits]) for i in (0, 2, 1))
    return Estimate(value, low, high, fits[0].window, tuple({doubt for fit in fits for doubt in fit.doubts}))


def exponents(data: xr.Dataset) -> np.ndarray:
    """Return `[seeds, samples]`, the slopes of the last log error against the log of the scale, over small scales."""
    axes = [axis for axis in ("samples",) if axis in data.dims]
    errors = by_seed(data.sel(init_scale=SMALL).isel(step=-1), "error", *axes, "init_scale")
    logs = np.log(SMALL) - np.mean(np.log(SMALL))
    return np.log(errors) @ logs / (logs @ logs)


def exponent_of_scale(data: xr.Dataset) -> Estimate:
    """Average the exponents over seeds."""
    return bootstrap(exponents(data), window=f"alpha from {SMALL[0]:g} to {SMALL[-1]:g}")


def gap_ratio(data: xr.Dataset) -> Estimate:
    """Divide what the exponent lacks of 2 with few samples by what it lacks with many."""

    def ratio(samples: np.ndarray, axis: int) -> np.ndarray:
        gaps = 2 - samples.mean(axis=axis)
        return gaps[..., 0] / gaps[..., 1]

    return bootstrap(exponents(data), ratio, window=f"samples {data['samples'].to_numpy().tolist()}")


def spread_over_ranks(data: xr.Dataset) -> Estimate:
    """Divide the largest median of the last errors of any rank by the least."""
    errors = by_seed(data.isel(step=-1), "error", "rank")

    def spread(samples: np.ndarray, axis: int) -> np.ndarray:
        medians = np.median(samples, axis=axis)
        return medians.max(axis=-1) / medians.min(axis=-1)

    return bootstrap(errors, spread, window=f"step {int(data['step'][-1])}")


def last(name: str):
    """Return the measurement of a metric's mean at the last step, at each rank."""

    def measure(data: xr.Dataset) -> Estimate:
        axes = [axis for axis in ("rank",) if axis in data.dims]
        return bootstrap(by_seed(data.isel(step=-1), name, *axes), window=f"step {int(data['step'][-1])}")

    return measure


def outlier_scale(data: xr.Dataset) -> np.ndarray:
    """Return the error of least squares under noise of the outliers' variance, at exact rank."""
    noise = data["outlier_std"] * np.sqrt(data["outlier_fraction"])
    floor = statistical_floor(noise, data["samples"], data["dim"], data["true_rank"], data["true_rank"])
    return float(np.squeeze(floor))


MANY = {"loss": "l1", "samples": 1600}
COMPARED = {"samples": 1600, "init_scale": 1e-3}
PAPER = "arXiv:2202.08788, abstract"

CLAIMS = [
    Claim(
        ids=("SE-2.2", "SE-2-P2"),
        statement="20% outliers: the error falls by rho a step, from every small scale of the start",
        source="arXiv:2202.08788 for the schedule (linear rate); derived",
        label="derived",
        derivation="the sub-gradient is scale-free, so that the iterate jumps around M* at the distance of a step,\n"
        "2 eta_0 rho^t ||U||^2: the error keeps a constant ratio to rho^t",
        measure=relative_rate,
        at=MANY | {"rank": 2, "init_scale": SMALL},
        control={"loss": "l2", "rank": 2} | COMPARED,
        control_reason="the l2 loss is fooled by outliers: its error stays where least squares is",
        prediction=Equals(1, tolerance=0.05),
        tolerance_reason="the iterate jumps, and the log of error over step has a deviation of 0.8: over 25\n"
        "points, 4% of the slope for one run, 1.3% for the mean of 12",
    ),
    *[
        Claim(
            ids=("SE-2.2", "SE-2-P3"),
            statement=f"over-specified rank, {samples} samples: the last error is a power of alpha between 1 and 2",
            source="arXiv:2202.08788 (form alpha^(2 - O(delta)) unconfirmed); exponent 2 at population derived",
            label="derived",
            derivation="columns outside the target keep their size alpha, alpha^2 in U U^T; the noise of the field\n"
            "lets them grow while the signal does, by a power delta of 1/alpha",
            measure=exponent_of_scale,
            at={"loss": "l1", "samples": samples, "rank": [12]},
            control={"loss": "l1", "samples": samples, "rank": [2]},
            control_reason="at exact rank there are no such columns: only the schedule limits the error",
            prediction=Equals(1.5, tolerance=0.5),
            tolerance_reason="the open interval from 1 to 2 is the claim",
        )
        for samples in (400, 1600)
    ],
    Claim(
        ids=("SE-2.2", "SE-2-P3"),
        statement="four times the samples halve what the exponent lacks of 2",
        source="derived, first order in the noise of the sign field",
        label="derived",
        derivation="the exponent is 2 - O(delta), and delta, noise over mean of the sign field, is like 1/sqrt(m)",
        measure=gap_ratio,
        at={"loss": "l1", "samples": [400, 1600], "rank": [12]},
        control={"loss": "l1", "samples": [400, 1600], "rank": [2]},
        control_reason="at exact rank the exponent is 0 for any number of samples",
        prediction=Equals(2, tolerance=0.6),
        tolerance_reason="the next order is delta^2, and delta is 0.3 or so with 400 samples",
        remark="the value agrees, the interval is wider than the tolerance at 12 problems",
    ),
    Claim(
        ids=("SE-2.3", "SE-2-T1"),
        statement="over-specified, from a small start: the last error does not depend on the rank, from 2 r to d",
        source=PAPER + " (insensitive to the search rank); factor unconfirmed",
        label="unconfirmed",
        measure=spread_over_ranks,
        at=MANY | {"init_scale": 1e-4, "rank": [4, 12]},
        control=MANY | {"init_scale": 1.0, "rank": [4, 12]},
        control_reason="from a large start columns outside the target keep their size, and there are more of them",
        prediction=AtMost(1.25),
        tolerance_reason="columns outside the target are orthogonal and of one length: their number moves only which of"
        " them the noise aligns; medians of 12 problems are good to 10%",
    ),
    Claim(
        ids=("SE-2.3", "SE-2-T1"),
        statement="from a small start the last error depends on the rank by less than a factor 3, from r to d",
        source=PAPER + " (insensitive to the search rank); factor unconfirmed",
        label="unconfirmed",
        measure=spread_over_ranks,
        at=MANY | {"init_scale": 1e-4},
        control=MANY | {"init_scale": 1e-2},
        control_reason="a hundred times the start raises the floor of the excess columns ten thousand times",
        prediction=AtMost(3),
        tolerance_reason="a bound",
        remark="the exact rank has no excess columns and no floor: its error follows the steps for ever. The rank does"
        " not matter before the floor, nor above the exact one (the claim before)",
    ),
    Claim(
        ids=("SE-2-P6", "SE-2-T1"),
        statement="over-specified from a large start: the error ends above 1e-4",
        source=PAPER + " (small start exponentially better); level unconfirmed",
        label="unconfirmed",
        measure=last("error"),
        at=MANY | {"init_scale": 1.0, "rank": [4, 12]},
        control=MANY | {"init_scale": 1e-4, "rank": [4, 12]},
        control_reason="from a small start the same runs recover the target",
        prediction=AtLeast(1e-4),
    ),
    Claim(
        ids=("SE-2.7", "SE-2-T1"),
        statement="20% outliers: the l1 loss recovers the target at every rank",
        source=PAPER,
        label="paper",
        measure=last("error"),
        at={"loss": "l1"} | COMPARED,
        control={"loss": "l2"} | COMPARED,
        control_reason="the l2 loss on the same data ends at the scale of the outliers",
        prediction=AtMost(1e-4),
        tolerance_reason="a bound: alpha^(1.3) or so, with alpha = 1e-3",
    ),
    Claim(
        ids=("SE-2.7",),
        statement="on the same data the l2 loss ends no nearer than least squares under the outliers' variance",
        source="derived: least squares on the tangent directions of the target",
        label="derived",
        derivation="outliers are noise of variance p tau^2 to least squares, on q = d r - r(r-1)/2 directions;\n"
        "further columns, and outliers as large as the target, only add to the error",
        measure=last("error"),
        at={"loss": "l2"} | COMPARED,
        control={"loss": "l1"} | COMPARED,
        control_reason="the l1 loss recovers the target",
        prediction=AtLeast(outlier_scale),
    ),
    Claim(
        ids=("SE-2.7", "SE-2-T1"),
        statement="fewer measurements than d(d+1)/2, full rank: the l1 loss overfits, to below its value at the target",
        source=PAPER + " (global minimisers are not the target)",
        label="paper",
        measure=last("excess_loss"),
        at={"loss": "l1", "samples": 60, "init_scale": 1.0, "rank": 12},
        control={"loss": "l1", "samples": 1600, "init_scale": 1.0, "rank": 12},
        control_reason="with 20 times the dimension no matrix fits better than the target",
        prediction=AtMost(0),
        tolerance_reason="a bound",
    ),
]
