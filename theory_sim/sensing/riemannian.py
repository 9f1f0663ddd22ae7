r"""Riemannian descent for matrix sensing: an orthonormal factor and a core, `M = X Theta X^T`.

Weight normalisation: `X` is kept on the Stiefel manifold and the core `Theta` carries the scale. At an over-specified
rank the error then falls exponentially, where descent on `X X^T` slows to `1/t` (arXiv:2510.01175).

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = weight_normalized(dim=6, true_rank=1, max_rank=3)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> bool(trajectory(simulation, [150])(jax.random.key(1), problem, simulation.hyper)["error"][0] < 1e-5)
True
"""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.decompositions import of_spectrum, orthonormal_rows
from theory_sim.draws import normal
from theory_sim.sensing.problems import (
    INFINITY,
    SPECTRA,
    Problem,
    Setting,
    check_choice,
    check_sizes,
    misfit,
    sample_psd,
    setting_limits,
    settled,
    unstable,
)
from theory_sim.simulation import Metrics, Simulation, Variable


class Hyper(NamedTuple):
    """What a run is made with: columns of the factor in use, step sizes eta of the factor and mu of the core."""

    rank: int = 1
    step_size: float = 0.3
    core_step_size: float = 2.0


class State(NamedTuple):
    """The orthonormal `X`, the symmetric core `Theta`, and the start's `U^T X_0 X_0^T U`.

    Columns of `X`, and rows and columns of `Theta`, are exactly zero beyond the rank.
    """

    factor: Float[Array, "dim max_rank"]
    core: Float[Array, "max_rank max_rank"]
    overlap_start: Float[Array, "true_rank true_rank"]


def weight_normalized(
    *,
    dim: int,
    true_rank: int,
    max_rank: int,
    measurements: int | None = None,
    spectrum: str = "linear",
) -> Simulation:
    """Return descent on `f(X, Theta) = (1/4) ||A(X Theta X^T) - y||^2`, `X^T X = I`, for ranks up to `max_rank`.

    With `Z = A*(A(X Theta X^T) - y)` and the Riemannian gradient `G = Z X Theta - X sym(X^T Z X Theta)`, a step is
    `X <- (X - eta G)(I + eta^2 G^T G)^{-1/2}`, and then, with `Z` computed at the new `X`,
    `Theta <- Theta - mu (1/2) X^T Z X` (SE-3b5; arXiv:2510.01175, whose update is known to us at second hand: the
    order of the two and the metric are ours). `X_0` is uniformly random, and `Theta_0 = 0`, so that the first step
    moves the core alone. The population and `mu = 2` make it `Theta = X^T M* X` from then on. With measurements the
    core sees curvatures of `(1 +- sqrt(k (k + 1) / (2 m)))^2`, and `mu = 2` is stable where they are below 2. Problems
    are those of `symmetric_gd`.

    Metrics: `error = ||X Theta X^T - M*||_F` and `loss`. Once a run `overlap_start = U^T X_0 X_0^T U`, from which
    `weight_normalized_curve` gives the whole curve in the population.

    Raises ValueError when a size is not a whole number or below 1, a rank is above `dim` or the spectrum is unknown.
    """
    check_sizes(dim=dim, true_rank=true_rank, max_rank=max_rank, measurements=measurements)
    check_choice("spectrum", spectrum, SPECTRA)
    return Simulation(
        sample=partial(
            sample_psd, dim=dim, true_rank=true_rank, measurements=measurements, spectrum=spectrum
        ),
        init=partial(_init, dim=dim, max_rank=max_rank),
        step=_step,
        observe=_observe,
        setting=Setting(),
        hyper=Hyper(rank=max_rank),
        conclude=_conclude,
        variables={
            "error": Variable("recovery error, Frobenius norm"),
            "loss": Variable("loss"),
            "overlap_start": Variable(
                "overlap of the start with the target", dims={"direction": None, "other_direction": None}
            ),
        },
        limits={
            **setting_limits(true_rank, measurements),
            "rank": (1, max_rank),
            "step_size": (0.0, INFINITY),
            "core_step_size": (0.0, INFINITY),
        },
        caution=partial(_caution, dim, true_rank, measurements),
    )


def _caution(
    dim: int, true_rank: int, measurements: int | None, setting: Setting, hyper: Hyper
) -> dict[str, Any]:
    """The core sees half the curvature of the measurements; an angle to the signal is multiplied by `1 - eta`.

    For changes W of the factor across its range, `L: W -> (W Theta X^T + X Theta W^T) / sqrt(2)` has
    `||L||^2 = sigma_1^2 = 1`, and `||L||_F^2 = (n - k) sum_s sigma_s^2`, at most `(n - k) r`. Either half step lowers
    the loss below its own bound.
    """
    rank = hyper.rank
    return {
        **unstable(
            hyper.core_step_size,
            4,
            "core_step_size",
            measurements=measurements,
            freedom=rank * (rank + 1) / 2,
            told_freedom="k (k + 1)/2",
        ),
        **unstable(
            hyper.step_size,
            2,
            "step_size",
            measurements=measurements,
            freedom=(dim - rank) * true_rank,
            told_freedom="(n - k) r",
        ),
    }


def _init(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, max_rank: int) -> State:
    # The rank is the leading axis of the draw: a run of rank k is the same whatever max_rank is.
    rows = orthonormal_rows(normal(key, (max_rank, dim)))
    factor = jnp.where(jnp.arange(max_rank) < hyper.rank, rows.T, 0.0)
    signal = problem.basis.T @ factor
    return State(factor, jnp.zeros((max_rank, max_rank), factor.dtype), signal @ signal.T)


def _step(key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State) -> State:
    factor, core = state.factor, state.core
    pull, _ = misfit(problem, _estimate(state))
    euclidean = pull @ (factor @ core)
    inner = factor.T @ euclidean
    moved = factor - hyper.step_size * (euclidean - factor @ (inner + inner.T) / 2)
    # `I + eta^2 G^T G`, computed as what it is the Gram matrix of: rounding errors are then corrected, not collected.
    unused = jnp.diag(jnp.where(jnp.arange(len(core)) < hyper.rank, 0.0, 1.0))
    factor = moved @ of_spectrum(lambda values: 1 / jnp.sqrt(values), moved.T @ moved + unused)
    pull, _ = misfit(problem, factor @ core @ factor.T)
    gradient = factor.T @ pull @ factor / 2
    # Symmetric up to rounding, which a packed operator would not see.
    core = core - hyper.core_step_size * (gradient + gradient.T) / 2
    return state._replace(factor=factor, core=core)


def _estimate(state: State) -> Float[Array, "dim dim"]:
    return state.factor @ state.core @ state.factor.T


def _observe(problem: Problem, hyper: Hyper, state: State) -> Metrics:
    estimate = _estimate(state)
    _, square = misfit(problem, estimate)
    return {
        "error": jnp.linalg.norm(estimate - problem.target),
        "loss": square / 4,
    }


def _conclude(problem: Problem, hyper: Hyper, records: Metrics, state: State) -> Metrics:
    return {
        "converged": settled(_step, _estimate, problem, hyper, state),
        "overlap_start": state.overlap_start,
    }
