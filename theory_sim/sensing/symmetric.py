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
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.decompositions import leading_directions, orthonormal_rows
from theory_sim.sensing.measurements import Operator, adjoint, gaussian, measure
from theory_sim.simulation import Metrics, Simulation, Variable

INFINITY = float("inf")


class Setting(NamedTuple):
    """What a problem is drawn with.

    `condition_number` is `kappa_M = sigma_1(M*) / sigma_r(M*)`. `noise_std` is the noise of a measurement by a
    matrix of unit variance, so that `y_i = <A_i, M*> + N(0, noise_std^2 / m)`, since `A_i` carries `1/sqrt(m)`.
    """

    condition_number: float = 1.0
    noise_std: float = 0.0


class Hyper(NamedTuple):
    """What a run is made with: columns of the factor in use, step size eta, scale alpha of the start."""

    rank: int = 1
    step_size: float = 0.1
    init_scale: float = 0.1


class Problem(NamedTuple):
    """A target `M* = U diag(sigma) U^T`, the basis `U` of its range, and what is observed of it."""

    operator: Operator
    observed: Float[Array, "..."]
    target: Float[Array, "dim dim"]
    basis: Float[Array, "dim true_rank"]


class State(NamedTuple):
    """The factor `X` and the factor the run started from; columns beyond the rank are exactly zero."""

    factor: Float[Array, "dim max_rank"]
    start: Float[Array, "dim max_rank"]


def symmetric_gd(*, dim: int, true_rank: int, max_rank: int, measurements: int | None = None) -> Simulation:
    """Return gradient descent on the symmetric factorisation, for ranks from 1 up to `max_rank`.

    The target lies in a uniformly random subspace; its `true_rank` singular values fall linearly from 1 to
    `1 / condition_number`. `measurements=None` is the population case: the target is seen whole, without
    noise. The start has independent entries N(0, init_scale^2 / dim). The step is
    `X - eta A*(A(X X^T) - y) X`, along the gradient of `(1/4) ||A(X X^T) - y||^2` (SE-0-M6, SE-1-U1).

    Metrics: `error = ||X X^T - M*||_F`, `loss`, and once a run `tail_start`, the squared singular values
    `s_i(0)` of `E_0 V_perp`, from which `symmetric_error_curve` gives the whole curve of an over-specified run
    after its transient (SE-1-P1).

    Raises ValueError when a size is below 1 or a rank is above `dim`.
    """
    _validate(dim=dim, true_rank=true_rank, max_rank=max_rank, measurements=measurements)
    return Simulation(
        sample=partial(_sample, dim=dim, true_rank=true_rank, measurements=measurements),
        init=partial(_init, dim=dim, max_rank=max_rank),
        step=_step,
        observe=_observe,
        setting=Setting(),
        hyper=Hyper(rank=max_rank),
        conclude=_conclude,
        variables={
            "error": Variable("recovery error, Frobenius norm"),
            "loss": Variable("loss"),
            "tail_start": Variable("squared singular values of the initial tail", dims={"mode": None}),
        },
        limits={
            "condition_number": (1.0, INFINITY if true_rank > 1 else 1.0),
            "noise_std": (0.0, INFINITY if measurements else 0.0),
            "rank": (1, max_rank),
            "step_size": (0.0, INFINITY),
            "init_scale": (0.0, INFINITY),
        },
    )


def _validate(*, dim: int, true_rank: int, max_rank: int, measurements: int | None) -> None:
    for name, value in {"dim": dim, "true_rank": true_rank, "max_rank": max_rank}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for name, value in {"true_rank": true_rank, "max_rank": max_rank}.items():
        if value > dim:
            raise ValueError(f"{name} must be at most dim = {dim}, got {value}")
    if measurements is not None and measurements < 1:
        raise ValueError(
            f"measurements must be at least 1, or None for the population operator, got {measurements}"
        )


def _sample(
    key: PRNGKeyArray, setting: Setting, *, dim: int, true_rank: int, measurements: int | None
) -> Problem:
    operator_key, target_key, noise_key = jax.random.split(key, 3)
    basis = orthonormal_rows(jax.random.normal(target_key, (true_rank, dim))).T
    singular_values = jnp.linspace(1.0, 1.0 / setting.condition_number, true_rank)
    target = (basis * singular_values) @ basis.T
    if measurements is None:
        return Problem(None, target, target, basis)
    operator = gaussian(operator_key, dim=dim, measurements=measurements)
    noise = setting.noise_std / jnp.sqrt(measurements) * jax.random.normal(noise_key, (measurements,))
    return Problem(operator, measure(operator, target) + noise, target, basis)


def _init(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, max_rank: int) -> State:
    # The rank is the leading axis of the draw: a run of rank k is the same whatever max_rank is.
    entries = jax.random.normal(key, (max_rank, dim)).T * hyper.init_scale / jnp.sqrt(dim)
    factor = jnp.where(jnp.arange(max_rank) < hyper.rank, entries, 0.0)
    return State(factor, factor)


def _step(key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State) -> State:
    residual = measure(problem.operator, state.factor @ state.factor.T) - problem.observed
    gradient = adjoint(problem.operator, residual) @ state.factor
    return state._replace(factor=state.factor - hyper.step_size * gradient)


def _observe(problem: Problem, hyper: Hyper, state: State) -> Metrics:
    estimate = state.factor @ state.factor.T
    residual = measure(problem.operator, estimate) - problem.observed
    return {"error": jnp.linalg.norm(estimate - problem.target), "loss": jnp.sum(residual**2) / 4}


def _conclude(problem: Problem, hyper: Hyper, records: Metrics, state: State) -> Metrics:
    """Return `s_i(0)`, the squared singular values of `E_0 V_perp`, largest first and padded with zeros.

    `E_0 = U_perp^T X_0`, and `V_perp` spans the `k - r` directions on which the final `U^T X` vanishes: the
    complement of its `min(k, r)` leading right singular vectors. Masked columns lie in that complement too, but
    `E_0` is zero on them. The directions are known only at the end, hence the start kept in the state.
    """
    true_rank, max_rank = problem.basis.shape[1], state.factor.shape[1]
    signal = problem.basis.T @ state.factor
    _, directions = leading_directions(signal)
    leading = jnp.arange(max_rank) < jnp.minimum(hyper.rank, true_rank)
    kept = jnp.where(leading, directions.T, 0.0)
    tail = state.start - problem.basis @ (problem.basis.T @ state.start)
    tail = tail - (tail @ kept) @ kept.T
    values, _ = leading_directions(tail)
    modes = jnp.arange(max_rank) < hyper.rank - true_rank
    return {"tail_start": jnp.where(modes, values**2, 0.0)}
