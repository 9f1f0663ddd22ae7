"""Descent from a small start learns the directions of a matrix one after another: a staircase of best ranks."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import xarray as xr

from theory_sim import (
    Claim,
    Equals,
    Estimate,
    MatchesCurve,
    Simulation,
    Sweep,
    Variable,
    bootstrap,
    by_seed,
    exponent,
    time_to,
)
from theory_sim.sensing import (
    arrival_step,
    asymmetric_gd,
    balanced_entry_variance,
    best_rank_residual,
    direction_growth,
    initial_share,
    stage_exponent,
    stopping_step,
    symmetric_gd,
)

DIRECTIONS, COUNT = 4, {"symmetric": 4, "asymmetric": 16}
SIZES = {"symmetric": (20, 20), "asymmetric": (24, 16)}


def staircase(*, form: str, measurements: int | None, ratio: float) -> Simulation:
    """Return descent on a target whose singular values fall by `ratio`, with the distance to each best rank.

    Symmetric: a PSD target of rank 4. Asymmetric: an arbitrary matrix, of full rank, and balanced starts. The
    metrics are `error`, the `learned` shares of the first four directions and `stage_error_s`, the distance of the
    estimate to the best approximation of rank s = 1, 2, 3.
    """
    rows, cols = SIZES[form]
    count = COUNT[form]
    common = {
        "true_rank": count,
        "max_rank": 16,
        "measurements": measurements,
        "spectrum": "geometric",
    }
    if form == "symmetric":
        base = symmetric_gd(dim=rows, **common)
    else:
        base = asymmetric_gd(rows=rows, cols=cols, **common)
        base = base._replace(hyper=base.hyper._replace(right_scale=1.0))

    def observe(problem, hyper, state):
        if form == "symmetric":
            left, right, estimate = problem.basis, problem.basis, state.factor @ state.factor.T
        else:
            left, right, estimate = problem.left_basis, problem.right_basis, state.left @ state.right.T
        kept = [jnp.where(jnp.arange(count) < s, problem.singular_values, 0.0) for s in range(1, DIRECTIONS)]
        stages = [jnp.linalg.norm(estimate - (left * values) @ right.T) for values in kept]
        metrics = base.observe(problem, hyper, state)
        learned = metrics["learned"][:DIRECTIONS]
        return {"error": metrics["error"], "learned": learned, "stage_error": jnp.stack(stages)}

    def conclude(problem, hyper, records, state):
        # A run that is cut between two arrivals has settled as far as `settled` goes; one in a cycle has not.
        return {"converged": base.conclude(problem, hyper, records, state)["converged"]}

    stage = Variable("distance to the best approximation of rank s", dims={"stage": range(1, DIRECTIONS)})
    return base._replace(
        observe=observe,
        conclude=conclude,
        setting=base.setting._replace(condition_number=ratio ** (1.0 - count)),
        variables={
            "error": base.variables["error"],
            "learned": base.variables["learned"],
            "stage_error": stage,
        },
    )


def wanted(*, form, measurements, rank, run_seed, **_):
    """Select all starts of the population case, and one start of the controls: two columns, and measurements."""
    population = np.equal(measurements, None) & ((rank == 16) | (run_seed == 0))
    return population | ((form == "symmetric") & (rank == 16) & (run_seed == 0))


SWEEP = Sweep(
    simulation=staircase,
    shape={"form": ["symmetric", "asymmetric"], "measurements": [None, 1600], "ratio": [0.5]},
    run={"rank": [2, 16], "step_size": [0.2], "init_scale": [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]},
    problem_seeds=12,
    run_seeds=4,
    steps=np.arange(0, 701, 2),
    presets={
        "smoke": {"problem_seeds": 3, "run_seeds": 1, "steps": np.arange(0, 701, 5)},
        "quick": {},
        "paper": {
            "init_scale": [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2],
            "measurements": [None, 1600, 6400],
            "problem_seeds": 64,
            "steps": np.arange(0, 901, 2),
        },
    },
    where=wanted,
)


def spectrum(data: xr.Dataset, count: int = DIRECTIONS) -> np.ndarray:
    """Return the first singular values of the target."""
    return float(data["ratio"].squeeze()) ** np.arange(count)


def predicted_arrivals(data: xr.Dataset) -> np.ndarray:
    """Return the steps `[scale, direction]` at which directions are half learnt, in the mean over starts."""
    rows, cols = SIZES[data["form"].item()]
    scales = np.atleast_1d(data["init_scale"].to_numpy())[:, None]
    variance = scales**2 / rows
    if data["form"].item() == "asymmetric":
        variance = balanced_entry_variance(scales**2 / rows, scales**2 / cols)
    rank = np.maximum(int(data["rank"].max()), DIRECTIONS)
    share = initial_share(spectrum(data), entry_variance=variance, rank=rank, direction=np.arange(DIRECTIONS))
    return arrival_step(spectrum(data), data["step_size"].to_numpy(), share)


def arrivals(data: xr.Dataset) -> np.ndarray:
    """Return the steps `[seed, scale, direction]` at which the odds of the learnt share are even.

    The log odds are linear in the step, so that interpolating them adds nothing. A direction not learnt counts as
    arriving at the last step.
    """
    steps = data["step"].to_numpy()
    learned = by_seed(data, "learned", "init_scale", "direction", "step")
    return np.minimum(time_to(steps, (1 - learned) / np.maximum(learned, 1e-300), 1.0), steps[-1])


def relative_arrival(data: xr.Dataset) -> Estimate:
    """Divide each arrival by its prediction, all scales and directions."""
    return bootstrap(arrivals(data) / predicted_arrivals(data), window="even odds of the learnt share")


def ratio_of_arrivals(data: xr.Dataset) -> Estimate:
    """Divide the arrival of each direction by that of the direction before."""
    steps = arrivals(data)[:, 0]
    return bootstrap(steps[:, 1:] / steps[:, :-1], window="even odds of the learnt share")


def delay(data: xr.Dataset) -> Estimate:
    """Return the steps that each direction is delayed by for e times less alpha, times `log(1 + eta sigma_s)`."""
    logs = -np.log(data["init_scale"].to_numpy())
    centred = (logs - logs.mean()) / np.sum((logs - logs.mean()) ** 2)
    slopes = np.einsum("psd,s->pd", arrivals(data), centred)
    speed = direction_growth(data["step_size"].to_numpy(), spectrum(data))
    return bootstrap(slopes * speed, window=f"{len(logs)} scales")


def stage_exponents(data: xr.Dataset) -> Estimate:
    """Fit the power of alpha of each stage's least distance to its best approximation."""
    scales = data["init_scale"].to_numpy()
    least = by_seed(data, "stage_error", "stage", "init_scale", "step").min(axis=-1)
    window = (scales.min(), scales.max())
    fits = [exponent(scales, least[:, stage], window=window) for stage in range(least.shape[1])]
    value, low, high = (np.array([fit[part] for fit in fits]) for part in range(3))
    doubts = tuple(sorted({doubt for fit in fits for doubt in fit.doubts}))
    return Estimate(value, low, high, f"scales {window[0]:g} to {window[1]:g}", doubts)


def predicted_stops(data: xr.Dataset) -> np.ndarray:
    """Return the steps `[scale, stage]` at which each stage is to be stopped."""
    return stopping_step(predicted_arrivals(data), data["step_size"].to_numpy(), spectrum(data))


def plateau(data: xr.Dataset) -> Estimate:
    """Divide the error at the predicted stops by the residual of the best approximation of that rank."""
    at = [np.abs(data["step"].to_numpy() - stop).argmin() for stop in predicted_stops(data)[0]]
    residual = best_rank_residual(spectrum(data, COUNT[data["form"].item()]))[1:DIRECTIONS]
    return bootstrap(by_seed(data, "error", "step")[:, at] / residual, window="at the predicted stops")


def final_residual(data: xr.Dataset) -> Estimate:
    """Divide the last error by the residual of the best approximation of rank 2."""
    residual = best_rank_residual(spectrum(data, COUNT[data["form"].item()]))[2]
    last = by_seed(data.isel(step=[-1]), "error", "init_scale")
    return bootstrap(last / residual, window=f"step {int(data['step'][-1])}")


SMALL_SCALES = [1e-6, 1e-5, 1e-4, 1e-3]
POPULATION = {"measurements": "None", "rank": 16}
FORMS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("symmetric", "PSD of rank 4", ("SE-3.6", "SE-3c'", "SE-3-P1"), "arXiv:2301.11500"),
    ("asymmetric", "arbitrary matrix", ("SE-3.6", "SE-3d", "SE-3-P1"), "arXiv:2203.02839, abstract"),
)
TWO_COLUMNS_END = {
    "symmetric": "derived; arXiv:2301.11500 (under-parameterised descent ends at the best approximation)",
    "asymmetric": "derived; as arXiv:2301.11500 has it of symmetric factors",
}
NO_COLUMN = "two columns learn two directions: the third and the fourth never arrive"


def of_form(form: str, target: str, ids: tuple[str, ...], source: str) -> list[Claim]:
    """Return the claims about one form."""
    here: dict[str, object] = {"form": form} | POPULATION
    two_columns = here | {"rank": 2, "init_scale": SMALL_SCALES}
    staircase_of: Callable[[str], str] = lambda what: f"{source} (the staircase); {what} derived"  # noqa: E731
    return [
        Claim(
            ids=ids,
            statement=f"{target}: every direction is half learnt when the start and its growth say",
            source=staircase_of("times"),
            label="derived",
            derivation="the log odds of the learnt share grow by 2 log(1 + eta sigma_s) a step, from a Gaussian"
            " overlap with k - s degrees of freedom;\n(3/4) log 2 steps are gained on the way to one half",
            measure=relative_arrival,
            at=here,
            control=two_columns,
            control_reason=NO_COLUMN,
            prediction=MatchesCurve(1, relative_tolerance=0.04),
            tolerance_reason="the log of a share spreads by sqrt(2/k) between starts: 0.35 of 7 at the largest scale,"
            " 0.007 in the mean of 48, thrice; of order eta sigma_s steps and alpha^2 are neglected",
        ),
        Claim(
            ids=ids,
            statement=f"{target}: from alpha = 1e-6 consecutive arrivals are as sigma_s to sigma_{{s+1}} of the target",
            source=staircase_of("ratio"),
            label="derived",
            derivation="direction s arrives after log(1/alpha) / (eta sigma_s) steps, to first order in eta and for the"
            " logarithm of alpha alone",
            measure=ratio_of_arrivals,
            at=here | {"init_scale": [1e-6]},
            control=here | {"init_scale": [1e-2]},
            control_reason="from a large start the logarithm is 10 only, of which a constant is a tenth",
            prediction=Equals(lambda data: 1 / float(data["ratio"].squeeze()), tolerance=0.15),
            tolerance_reason="growths are logarithms, log(1.2)/log(1.1) = 1.913 for the first two; the next direction"
            " has 1/sigma times the share at the start, log 2 less of a log of 28: 0.047. Together 0.134, and the rest"
            " for the mean of 48 starts; worked out when the arrivals themselves had been seen",
        ),
        Claim(
            ids=ids,
            statement=f"{target}: a direction is delayed by 1/log(1 + eta sigma_s) steps for e times less alpha",
            source=staircase_of("times"),
            label="derived",
            derivation="alpha enters an arrival by the logarithm of the initial share, alpha^2 times a constant",
            measure=delay,
            at=here | {"init_scale": SMALL_SCALES},
            control=two_columns,
            control_reason=NO_COLUMN,
            prediction=Equals(1, tolerance=0.01),
            tolerance_reason="starts are the same at all scales: what is left is the coupling of directions of"
            " neighbouring arrivals, a power of alpha",
        ),
        Claim(
            ids=ids,
            statement=f"{target}: the distance to the best rank s falls like alpha to the power"
            " 2 (sigma_s - sigma_{s+1}) / (sigma_s + sigma_{s+1})",
            source=staircase_of("exponent"),
            label="derived",
            derivation="what direction s lacks, alpha^-2 exp(-2 eta sigma_s t), what s + 1 has, alpha^2"
            " exp(2 eta sigma_{s+1} t), and their inner product,\nthe geometric mean, are equal at one step: there",
            measure=stage_exponents,
            at=here | {"init_scale": SMALL_SCALES},
            control=two_columns,
            control_reason=NO_COLUMN + ", and the distance to the best rank three stays",
            prediction=Equals(lambda data: stage_exponent(1.0, float(data["ratio"].squeeze())), 0.03),
            tolerance_reason="direction s + 2 adds a fraction alpha^(1/3) to the square, 0.05 at alpha = 1e-3 and"
            " 0.01 at 1e-6 with a factor of one half or so: 0.02/ln(1e3) on the slope; growths are logarithms,"
            " log(1 + x) not x: 0.02 at x = 0.2",
        ),
        Claim(
            ids=ids,
            statement=f"{target}: stopped between two arrivals, the error is that of the best approximation",
            source=source,
            label="paper",
            measure=plateau,
            at=here | {"init_scale": 1e-6},
            control=here | {"init_scale": 1e-2},
            control_reason="from a large start the stages overlap: the next direction is there before the last is",
            prediction=Equals(1, tolerance=0.01),
            tolerance_reason="the square of the distance to the best rank, and twice what of the next direction is"
            " there already: alpha^(2/3), 1e-4, with a factor below 100",
        ),
        Claim(
            ids=ids,
            statement=f"{target}: with two columns descent ends at the best approximation of rank two",
            source=TWO_COLUMNS_END[form],
            label="derived",
            derivation="the gradient vanishes at truncations of the singular value decomposition; where a direction"
            " left out is larger than one kept, turning towards it lowers the loss:\nonly Eckart and Young's, which"
            " keeps the two largest, is stable",
            measure=final_residual,
            at=here | {"rank": 2},
            control=here,
            control_reason="sixteen columns go on to the next directions",
            prediction=Equals(1, tolerance=1e-3),
            tolerance_reason="the last part decays by eta (sigma_2 - sigma_3) a step, for over 300 steps",
        ),
    ]


CLAIMS = [claim for form in FORMS for claim in of_form(*form)]
