r"""Symmetric matrix sensing: gradient descent on `f(X) = (1/4) ||A(X X^T) - y||^2`, with `X` of any rank.

The model of Xiong, Ding, Du (arXiv:2310.01769): `M*` is PSD of rank r and `X` has k columns. From a random start
of scale alpha, `k = r` converges linearly and `k > r` only like `1/t`.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = symmetric_gd(dim=5, true_rank=1, max_rank=1)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> error = trajectory(simulation, [0, 400])(jax.random.key(1), problem, simulation.hyper)["error"]
>>> bool(error[-1] < 1e-6 < error[0])
True
"""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.decompositions import leading_directions
from theory_sim.sensing.problems import (
    INFINITY,
    SPECTRA,
    Problem,
    Setting,
    check_choice,
    check_sizes,
    gaussian_start,
    misfit,
    sample_psd,
    setting_limits,
    settled,
    unstable,
)
from theory_sim.simulation import Metrics, Simulation, Variable


class Hyper(NamedTuple):
    """What a run is made with: columns of the factor in use, step size eta, scale alpha of the start."""

    rank: int = 1
    step_size: float = 0.1
    init_scale: float = 0.1


class State(NamedTuple):
    """The factor `X` and the factor the run started from; columns beyond the rank are exactly zero."""

    factor: Float[Array, "dim max_rank"]
    start: Float[Array, "dim max_rank"]


def symmetric_gd(
    *,
    dim: int,
    true_rank: int,
    max_rank: int,
    measurements: int | None = None,
    spectrum: str = "linear",
) -> Simulation:
    """Return gradient descent on the symmetric factorisation, for ranks from 1 up to `max_rank`.

    The target lies in a uniformly random subspace; its `true_rank` singular values fall from 1 to
    `1 / condition_number`, at equal differences (`spectrum="linear"`) or equal ratios (`"geometric"`).
    `measurements=None` is the population case: the target is seen whole, without noise. The start has
    independent entries N(0, init_scale^2 / dim). The step is `X - eta A*(A(X X^T) - y) X`, along the gradient of
    `(1/4) ||A(X X^T) - y||^2` (SE-0-M6, SE-1-U1).

    Metrics: `error = ||X X^T - M*||_F`, `loss`, `learned_s = u_s^T X X^T u_s / sigma_s`, the share of each
    direction of the target that is learnt, and once a run `tail_start`, the squared singular values `s_i(0)` of
    `E_0 V_perp`, of the start alone, from which `symmetric_error_curve` gives the whole curve of an over-specified run
    after its transient (SE-1-P1).

    A run that grows without bound is flagged as diverged, and one that has not settled, as in a cycle, as not
    converged: see `settled`.

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
            "learned": Variable("learnt share of a direction of the target", dims={"direction": None}),
            "tail_start": Variable("squared singular values of the initial tail", dims={"mode": None}),
        },
        limits={
            **setting_limits(true_rank, measurements),
            "rank": (1, max_rank),
            "step_size": (0.0, INFINITY),
            "init_scale": (0.0, INFINITY),
        },
        caution=partial(_caution, dim, true_rank, measurements),
    )


def _caution(
    dim: int, true_rank: int, measurements: int | None, setting: Setting, hyper: Hyper
) -> dict[str, Any]:
    """Near the solution the curvature is that of `L: E -> (X E^T + E X^T) / sqrt(2)`.

    `||L||^2 = 2 sigma_1 = 2`, and `||L||_F^2 = (n + 1) sum_s sigma_s`, at most `(n + 1) r`.
    """
    return unstable(
        hyper.step_size,
        1,
        "step_size",
        measurements=measurements,
        freedom=(dim + 1) * true_rank / 2,
        told_freedom="(n + 1) r/2",
    )


def _init(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, max_rank: int) -> State:
    factor = gaussian_start(key, dim=dim, max_rank=max_rank, rank=hyper.rank, scale=hyper.init_scale)
    return State(factor, factor)


def _step(key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State) -> State:
    pull, _ = misfit(problem, _estimate(state))
    return state._replace(factor=state.factor - hyper.step_size * (pull @ state.factor))


def _estimate(state: State) -> Float[Array, "dim dim"]:
    return state.factor @ state.factor.T


def _observe(problem: Problem, hyper: Hyper, state: State) -> Metrics:
    estimate = _estimate(state)
    _, square = misfit(problem, estimate)
    signal = problem.basis.T @ state.factor
    return {
        "error": jnp.linalg.norm(estimate - problem.target),
        "loss": square / 4,
        "learned": jnp.sum(signal**2, axis=1) / problem.singular_values,
    }


def _conclude(problem: Problem, hyper: Hyper, records: Metrics, state: State) -> Metrics:
    """Return `s_i(0)`, the squared singular values of `E_0 V_perp`, largest first and padded with zeros.

    `E_0 = U_perp^T X_0`, and `V_perp` spans the `k - r` directions on which `S_0 = U^T X_0` vanishes: the
    complement of its `min(k, r)` leading right singular vectors. Masked columns lie in that complement too, but
    `E_0` is zero on them. A step is `S -> (I + eta (Sigma - S S^T)) S - eta S E^T E`: the row space of S turns by its
    last term alone. With `E = [E_r, E_q]` on the rows of `S_0` and on `V_perp`, and sums over the steps in which `E_r`
    lasts, `E_q` itself loses `eta sum E_r E_r^T E_q`, of relative order `alpha^2`, and the null space of the last S
    turns by `eta sum E_r^T E_q`. On that null space `E_0` would be larger by `eta E_r(0) sum E_r^T E_q`, as the last E
    is not: its squares would err by more than those on `V_perp`.
    """
    true_rank, max_rank = problem.basis.shape[1], state.start.shape[1]
    signal = problem.basis.T @ state.start
    _, directions = leading_directions(signal)
    leading = jnp.arange(max_rank) < jnp.minimum(hyper.rank, true_rank)
    kept = jnp.where(leading, directions.T, 0.0)
    tail = state.start - problem.basis @ signal
    tail = tail - (tail @ kept) @ kept.T
    values, _ = leading_directions(tail)
    modes = jnp.arange(max_rank) < hyper.rank - true_rank
    return {
        "converged": settled(_step, _estimate, problem, hyper, state),
        "tail_start": jnp.where(modes, values**2, 0.0),
    }
