"""Ill-conditioned targets: gradient descent slows like kappa_X^2, preconditioned methods do not slow."""

from functools import partial

import numpy as np
import xarray as xr

from theory_sim import (
    Claim,
    Equals,
    Estimate,
    MatchesCurve,
    Simulation,
    Sweep,
    bootstrap,
    by_seed,
    cellwise,
    log_spaced,
    rate,
    time_to,
)
from theory_sim.sensing import (
    gauss_newton,
    gauss_newton_rate,
    gradient_learning_curve,
    initial_share,
    prec_gd,
    prec_learning_curve,
    scaled_gd,
    scaled_learning_curve,
    symmetric_gd,
)
from theory_sim.sensing.preconditioned import Hyper, squared_distances

ACCURACY = 1e-4


def recovery(
    *, algorithm: str, dim: int, true_rank: int, max_rank: int, oversampling: float | None
) -> Simulation:
    """Return a method from a small random start, `m = oversampling n r`; None is the population operator.

    ScaledGD(lambda) is given `lambda = sigma_min(X*)^2`, the last singular value of the target.
    """
    measurements = None if oversampling is None else round(oversampling * dim * true_rank)
    sizes = {"dim": dim, "true_rank": true_rank, "max_rank": max_rank, "measurements": measurements}
    if algorithm == "PrecGD":
        return prec_gd(**sizes)
    if algorithm == "AGN":
        return gauss_newton(**sizes)
    if algorithm == "ScaledGD(lambda)":
        scaled = scaled_gd(**sizes)

        def full(hyper, last):
            return scaled.hyper._replace(**hyper._asdict(), damping=last)

        def step(key, problem, hyper, state):
            return scaled.step(key, problem, full(hyper, problem.singular_values[-1]), state)

        def conclude_scaled(problem, hyper, records, state):
            return scaled.conclude(problem, full(hyper, problem.singular_values[-1]), records, state)

        def caution(setting, hyper):
            return scaled.caution(setting, full(hyper, 1 / setting.condition_number))

        return scaled._replace(
            hyper=Hyper(rank=max_rank), step=step, conclude=conclude_scaled, caution=caution
        )
    if algorithm == "GD":
        gradient = symmetric_gd(**sizes)

        def conclude(problem, hyper, records, state):
            start = squared_distances(problem.basis.T @ state.start, hyper.rank)
            ended = gradient.conclude(problem, hyper, records, state)
            return {"signal_start": start, "converged": ended["converged"]}

        return gradient._replace(conclude=conclude, variables=gradient.variables | prec_gd(**sizes).variables)
    raise ValueError(f"algorithm must be one of GD, ScaledGD(lambda), PrecGD, AGN, got {algorithm!r}")


SWEEP = Sweep(
    simulation=recovery,
    shape={
        "algorithm": ["GD", "ScaledGD(lambda)", "PrecGD", "AGN"],
        "dim": [16],
        "true_rank": [2],
        "max_rank": [4],
        "oversampling": [None, 20],
    },
    problem={"condition_number": [2.25, 6.25, 16.0]},
    run={"step_size": [0.3], "init_scale": [1e-7]},
    problem_seeds=8,
    steps=log_spaced(1600, per_decade=48),
    presets={
        "smoke": {
            "algorithm": ["GD", "AGN"],
            "condition_number": [2.25, 4.0],
            "problem_seeds": 3,
            "steps": log_spaced(400, per_decade=48),
        },
        "quick": {},
        "paper": {
            "dim": [40],
            "true_rank": [3],
            "max_rank": [5],
            "condition_number": [2.25, 4.0, 9.0, 16.0, 25.0, 49.0],
            "problem_seeds": 32,
            "steps": log_spaced(4000, per_decade=48),
        },
    },
)


def iterations(cell: xr.Dataset) -> np.ndarray:
    """Return the iterations to the accuracy, `[seeds, condition numbers]`."""
    errors = by_seed(cell, "error", "condition_number", "step")
    return time_to(cell["step"].to_numpy(), errors, ACCURACY)


def predicted(
    algorithm: str, start: np.ndarray, condition_number: np.ndarray, cell: xr.Dataset
) -> np.ndarray:
    """Return the population's iterations to the accuracy, from the start of each signal `[..., direction]`."""
    values = np.linspace(1.0, 1.0 / condition_number, int(cell["true_rank"]), axis=-1)
    steps, step_size = int(cell["step"][-1]), float(cell["step_size"])
    if algorithm == "GD":
        curve = gradient_learning_curve(steps, start, values, step_size)
    elif algorithm == "PrecGD":
        curve = prec_learning_curve(steps, start, values, step_size)
    else:
        curve = scaled_learning_curve(steps, start, values, step_size, values[..., -1:])
    return time_to(np.arange(curve.shape[-1]), curve, ACCURACY)


def slope_of(times: np.ndarray, condition_number: np.ndarray) -> np.ndarray:
    """Return the slope of log iterations against log kappa_X, for each row."""
    x = np.log(condition_number) / 2
    return np.log(times) @ (x - x.mean()) / np.sum((x - x.mean()) ** 2)


def predicted_slope(data: xr.Dataset) -> np.ndarray:
    """Return the exponent in kappa_X of the cells' method in the population, from a mean start."""
    cell = data.squeeze()
    algorithm = str(cell["algorithm"].item())
    dim, rank, true_rank = (int(cell[name]) for name in ("dim", "max_rank", "true_rank"))
    variance = float(cell["init_scale"]) ** 2 / dim
    start = initial_share(1.0, entry_variance=variance, rank=rank, direction=np.arange(true_rank))
    kappa = cell["condition_number"].to_numpy()
    starts = np.broadcast_to(start, (len(kappa), *np.shape(start)))
    return slope_of(predicted(algorithm, starts, kappa, cell), kappa)


@partial(cellwise, keep=("condition_number",))
def slope(cell: xr.Dataset) -> Estimate:
    """Fit the exponent of the iterations in kappa_X."""
    return bootstrap(slope_of(iterations(cell), cell["condition_number"].to_numpy()), window="all kappa_X")


@partial(cellwise, keep=("condition_number",))
def share(cell: xr.Dataset) -> Estimate:
    """Divide the iterations by those predicted from each run's own start."""
    start = by_seed(cell, "signal_start", "condition_number", "direction")
    expected = predicted(str(cell["algorithm"].item()), start, cell["condition_number"].to_numpy(), cell)
    return bootstrap(iterations(cell) / expected, window=f"error {ACCURACY:g}")


@partial(cellwise, keep=("condition_number",))
def relative_rate(cell: xr.Dataset) -> Estimate:
    """Divide the slope of the log error between steps 15 and 60 by that of alternating Gauss-Newton."""
    expected = gauss_newton_rate(cell["step_size"])
    parts = []
    for kappa in cell["condition_number"].to_numpy():
        errors = by_seed(cell.sel(condition_number=kappa), "error", "step")
        parts.append(rate(cell["step"].to_numpy(), errors, window=(15, 60)))
    value, low, high = (np.stack([part[i] for part in parts]) / expected for i in (0, 2, 1))
    return Estimate(value, low, high, parts[0].window, sum((part.doubts for part in parts), ()))


POPULATION, GAUSSIAN = {"oversampling": "None"}, {"oversampling": "20"}
FAST = ["ScaledGD(lambda)", "PrecGD", "AGN"]
MAP = "scalar recursion of each signal's squared size, from its distance to the signals before it (SE-3-P3)"
NEAR = (
    "neglected is the square of what the last signal has grown to when the first arrives: alpha^(2 - 2 g_2/g_1), below"
    " 1e-4 with log growths g_2/g_1 < 0.7; records are 5% apart, and the log error between them is near linear"
)

CLAIMS = [
    Claim(
        ids=("SE-3.2", "SE-3-P3"),
        statement="gradient descent: the iterations to 1e-4 follow from each start, at every kappa_X",
        source="derived from the gradient step",
        label="derived",
        derivation=MAP,
        measure=share,
        at={"algorithm": "GD"} | POPULATION,
        control={"algorithm": "GD"} | GAUSSIAN,
        control_reason="20nr measurements are not the population: A*A(M*) has other singular values than M*",
        prediction=MatchesCurve(1, relative_tolerance=0.01),
        tolerance_reason=NEAR,
    ),
    *[
        Claim(
            ids=("SE-3.2", "SE-3-P3"),
            statement=f"{algorithm}: the iterations to 1e-4 follow from each start, at every kappa_X",
            source=f"derived from the step of {algorithm}",
            label="derived",
            derivation=MAP,
            measure=share,
            at={"algorithm": algorithm} | POPULATION,
            control={"algorithm": algorithm} | GAUSSIAN,
            control_reason="20nr measurements are not the population: A*A(M*) has other singular values than M*",
            prediction=MatchesCurve(1, relative_tolerance=0.01),
            tolerance_reason=NEAR,
        )
        for algorithm in ("ScaledGD(lambda)", "PrecGD")
    ],
    *[
        Claim(
            ids=("SE-3.2", "SE-3-P3"),
            statement=f"gradient descent, {words}: iterations grow like kappa_X^2, a little slower",
            source="derived from the gradient step (arXiv:2302.01186, Table 1, bounds them for r > r* by kappa_X^8)",
            label="derived",
            derivation="the last direction has rate 2 eta / kappa_X^2, over a log that falls by 4 log kappa_X",
            measure=slope,
            at={"algorithm": "GD"} | operator,
            control={"algorithm": FAST} | operator,
            control_reason="the preconditioner makes the rates of all directions equal",
            prediction=Equals(predicted_slope, tolerance=0.1),
            tolerance_reason="the exponent is that of the population's learning curve from a mean start, near"
            " 2 - 4/log(1/(alpha^2 eps)) = 1.90; measurements are said to change no exponent",
            remark=""
            if operator == POPULATION
            else "A*A(M*) has other singular values than M*: the second is raised by about n ||M*||^2/(2 m sigma_2),"
            " the more the smaller it is, so that ill-conditioned targets are learnt a little sooner (panel b)",
        )
        for words, operator in (("population", POPULATION), ("20nr measurements", GAUSSIAN))
    ],
    *[
        Claim(
            ids=("SE-3.2", "SE-3-P3", "SE-3-F3"),
            statement=f"{algorithm} from a small start: iterations do not depend on kappa_X, with either operator",
            source=source,
            label=label,
            measure=slope,
            at={"algorithm": algorithm},
            control={"algorithm": "GD"},
            control_reason="gradient descent has the exponent 2",
            prediction=Equals(0, tolerance=0.25),
            tolerance_reason="sigma_min comes nearer to the start and to the accuracy, which takes 4 log kappa_X off a"
            " log of 40 (exponent -0.1); waiting for the first direction may add as much, up to a factor 2 in all",
            remark=remark,
        )
        for algorithm, label, source, remark in (
            (
                "ScaledGD(lambda)",
                "paper",
                "arXiv:2302.01186, main theorem (at most log kappa log(kappa n) + log(1/eps) iterations) and Fig. 1",
                "with measurements they do depend on kappa_X: they fall. The theorem, a bound from above, holds. The"
                " exponent is -0.11 in the population (a claim below), -0.36 with measurements: these raise the second"
                " singular value, which then arrives sooner, by 13 steps at kappa_X = 4; what they put off the range"
                " decays at a third of the population's rate, alike at all kappa_X",
            ),
            (
                "PrecGD",
                "unconfirmed",
                "arXiv:2504.09708, abstract, for a start near the solution; this start is ours",
                "",
            ),
            ("AGN", "paper", "Jia et al., NeurIPS 2024, Table 2", ""),
        )
    ],
    *[
        Claim(
            ids=("SE-3.2", "SE-3-P3", "SE-3-F3"),
            statement=f"{algorithm}, population: what is left of kappa_X is that of the learning curve",
            source=f"derived from the step of {algorithm}",
            label="derived",
            derivation=MAP + ",\n" + why,
            measure=slope,
            at={"algorithm": algorithm} | POPULATION,
            control={"algorithm": other} | POPULATION,
            control_reason=f"{other} damps by another rule: its exponent has the other sign",
            prediction=Equals(predicted_slope, tolerance=0.02),
            tolerance_reason="the log of a start spreads by 0.7 to 1 out of 32, 3% of the iterations, but alike at all"
            " kappa_X: the difference of two directions' is 0.02 of the exponent for one run, 0.01 for the mean of 8",
        )
        for algorithm, other, why in (
            (
                "ScaledGD(lambda)",
                "PrecGD",
                "from a mean start; lambda = sigma_min lets all signals grow sooner when it is small",
            ),
            (
                "PrecGD",
                "ScaledGD(lambda)",
                "from a mean start; the error damps the last signal until the first is learnt",
            ),
        )
    ],
    Claim(
        ids=("SE-3b4", "SE-3.2"),
        statement="AGN: the error falls by 1 - eta an iteration at every kappa_X, from a small random start",
        source="Jia et al., NeurIPS 2024, main theorem at delta = 0, which bounds it",
        label="derived",
        derivation="half steps multiply the error by I - eta P_R and I - eta P_L; P_L is soon one on its columns,\n"
        "and the slowest of its rows are those outside R",
        measure=relative_rate,
        at={"algorithm": "AGN"} | POPULATION,
        control={"algorithm": ["ScaledGD(lambda)", "PrecGD"]} | POPULATION,
        control_reason="descent from the same scale is still learning signals between steps 15 and 60",
        prediction=MatchesCurve(1, relative_tolerance=0.05),
        tolerance_reason="rows within R, which fall by (1 - eta)^2, are below 0.7^15 = 0.005 of the rest",
    ),
]
