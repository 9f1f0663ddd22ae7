r"""Asymmetric matrix sensing: gradient descent on `f(F, G) = (1/2) ||A(F G^T) - y||^2`, both factors of any rank.

The model of Xiong, Ding, Du (arXiv:2310.01769): unlike `X X^T`, the product of two factors of different sizes
converges linearly when over-specified, at a rate that the imbalance of the start sets: alpha squared. One change of
the factors, which leaves their product alone, frees the rate of alpha.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = asymmetric_gd(rows=5, cols=4, true_rank=1, max_rank=2)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> hyper = simulation.hyper._replace(init_scale=0.5)
>>> error = trajectory(simulation, [0, 2000])(jax.random.key(1), problem, hyper)["error"]
>>> bool(error[-1] < 1e-6 < error[0])
True
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from theory_sim.decompositions import leading_directions, orthonormal_rows
from theory_sim.draws import normal
from theory_sim.sensing.measurements import Operator, general_gaussian
from theory_sim.sensing.problems import (
    INFINITY,
    SPECTRA,
    Setting,
    check_choice,
    check_sizes,
    gaussian_start,
    misfit,
    observations,
    setting_limits,
    settled,
    singular_values,
    unstable,
)
from theory_sim.simulation import Metrics, Simulation, Variable


class Hyper(NamedTuple):
    """What a run is made with.

    Columns of the factors in use; step size eta; scale alpha of the left factor's start and the ratio of the right
    one's to it; beta of the change of factors (0: none) and the relative residual below which it is made, once.
    """

    rank: int = 1
    step_size: float = 0.1
    init_scale: float = 0.1
    right_scale: float = 1 / 3
    rebalance: float = 0.0
    rebalance_below: float = 0.1


class Problem(NamedTuple):
    """A target `M* = U diag(sigma) V^T`, the bases of its ranges, and what is observed of it."""

    operator: Operator
    observed: Float[Array, "..."]
    noise_pull: Float[Array, "rows cols"]
    noise_square: Float[Array, ""]
    observed_norm: Float[Array, ""]
    target: Float[Array, "rows cols"]
    left_basis: Float[Array, "rows true_rank"]
    right_basis: Float[Array, "cols true_rank"]
    singular_values: Float[Array, " true_rank"]


class State(NamedTuple):
    """The factors, their imbalance `F^T F - G^T G` at the start, the steps made, and when the factors were changed.

    Columns beyond the rank are exactly zero; `rebalanced_at` is -1 as long as the factors have not been changed.
    """

    left: Float[Array, "rows max_rank"]
    right: Float[Array, "cols max_rank"]
    start_imbalance: Float[Array, "max_rank max_rank"]
    step: Int[Array, ""]
    rebalanced_at: Int[Array, ""]


def asymmetric_gd(
    *,
    rows: int,
    cols: int,
    true_rank: int,
    max_rank: int,
    measurements: int | None = None,
    spectrum: str = "linear",
) -> Simulation:
    """Return gradient descent on the asymmetric factorisation, for ranks from 1 up to `max_rank`.

    The target's singular spaces are uniformly random and independent; its `true_rank` singular values fall from 1
    to `1 / condition_number`, at equal differences (`spectrum="linear"`) or equal ratios (`"geometric"`). A PSD
    target is the same problem: Gaussian starts and operators are rotation invariant on either side.
    `measurements=None` is the population case. The starts have independent entries: N(0, init_scale^2 / rows) on the
    left, and N(0, (right_scale init_scale)^2 / cols) on the right. With `Z = A*(A(F G^T) - y)` the step is, for both
    factors at once, `F - eta Z G` and `G - eta Z^T F` (SE-0-M6, SE-1-U1). With `rebalance = beta > 0` the factors are
    changed once, before the first step at which `||A(F G^T) - y|| <= rebalance_below ||y||`: see `rebalance`.

    Metrics: `error = ||F G^T - M*||_F`; `loss`; `learned_s = u_s^T F G^T v_s / sigma_s`; `drift`, the Frobenius norm
    of the change of `F^T F - G^T G`. Once a run, for `asymmetric_linear_rate`: `tail_curvature`, the least of the
    squared singular values that the `k - r` directions off the signal have in the last F or G, whichever has them
    (`sigma_k(F)^2` at exact rank, and when `right_scale` is well below 1); `left_curvature = sigma_r(F)^2` and
    `right_curvature = sigma_r(G)^2`; and `start_curvature`, the least absolute eigenvalue of the imbalance of the
    start on those directions, zero at exact rank (SE-1-P3); and `rebalanced_at`, the step before which the factors
    were changed, -1 if never.

    A run whose step size is unstable at the solution may diverge, settle elsewhere, or go round in a cycle: it is
    flagged as diverged in the first case and, as it has not `settled`, as not converged in the last.

    Raises ValueError when a size is not a whole number or below 1, a rank is above a dimension or the spectrum is
    unknown.
    """
    check_sizes(rows=rows, cols=cols, true_rank=true_rank, max_rank=max_rank, measurements=measurements)
    check_choice("spectrum", spectrum, SPECTRA)
    return Simulation(
        sample=partial(
            _sample, rows=rows, cols=cols, true_rank=true_rank, measurements=measurements, spectrum=spectrum
        ),
        init=partial(_init, rows=rows, cols=cols, max_rank=max_rank),
        step=_step,
        observe=_observe,
        setting=Setting(),
        hyper=Hyper(rank=max_rank),
        conclude=_conclude,
        variables={
            "error": Variable("recovery error, Frobenius norm"),
            "loss": Variable("loss"),
            "learned": Variable("learnt share of a direction of the target", dims={"direction": None}),
            "drift": Variable("change of the imbalance, Frobenius norm"),
            "tail_curvature": Variable("least squared singular value off the signal, in either factor"),
            "left_curvature": Variable("least squared singular value of the left factor's signal"),
            "right_curvature": Variable("least squared singular value of the right factor's signal"),
            "start_curvature": Variable("least imbalance of the start off the signal"),
            "rebalanced_at": Variable("step at which the factors were changed, -1: never"),
        },
        limits={
            **setting_limits(true_rank, measurements),
            "rank": (1, max_rank),
            "step_size": (0.0, INFINITY),
            "init_scale": (0.0, INFINITY),
            "right_scale": (0.0, INFINITY),
            "rebalance": (0.0, INFINITY),
            "rebalance_below": (0.0, INFINITY),
        },
        caution=partial(
            _caution,
            rows=rows,
            cols=cols,
            true_rank=true_rank,
            measurements=measurements,
            spectrum=spectrum,
        ),
    )


def _caution(
    setting: Setting,
    hyper: Hyper,
    *,
    rows: int,
    cols: int,
    true_rank: int,
    measurements: int | None,
    spectrum: str,
) -> dict[str, Any]:
    """Tell of unstable steps (SE-1-U3), and of a change of factors that noise may prevent.

    Derived: `R -> R - eta (F F^T R + R G G^T)`, that is `L: (D, E) -> D G^T + F E^T`, and `sigma_1 = 1`. Balanced
    factors have `||L||^2 = 2 sigma_1`, changed ones `beta^2 + sigma_1^2 / beta^2`; `||L||_F^2 = rows ||G||_F^2 +
    cols ||F||_F^2`, where changed factors have `||F||_F^2 = k beta^2`. At the target the residual is the noise.
    """
    changed = hyper.rebalance > 0
    beta = np.where(changed, hyper.rebalance, 1.0)
    curvature = beta**2 + 1 / beta**2
    columns = np.where(changed, hyper.rank, true_rank)
    bounds = unstable(
        hyper.step_size * curvature,
        2,
        "step_size * (beta^2 + 1/beta^2)",
        measurements=measurements,
        freedom=(rows * true_rank / beta**2 + cols * columns * beta**2) / curvature,
        told_freedom="(rows r/beta^2 + cols k beta^2)/(beta^2 + 1/beta^2)",
    )
    messages = {f"{told} (SE-1-U3; beta = rebalance, or 1 and k = r)": at for told, at in bounds.items()}
    if measurements is not None:
        spaced = np.linspace if spectrum == "linear" else np.geomspace
        squares = np.sum(spaced(1.0, 1 / np.asarray(setting.condition_number), true_rank) ** 2, axis=0)
        noise = np.asarray(setting.noise_std)
        late = noise > hyper.rebalance_below * np.sqrt(squares + noise**2)
        messages["noise_std > rebalance_below * ||y||: the factors may never be changed"] = changed & late
    return messages


def rebalance(
    left: Float[Array, "rows max_rank"],
    right: Float[Array, "cols max_rank"],
    beta: Float[Array, ""] | float,
) -> tuple[Float[Array, "rows max_rank"], Float[Array, "cols max_rank"]]:
    """Return `beta Q` and `G T^T / beta`, where `F = Q T` and Q has orthonormal columns: the product is unchanged.

    The one-step modification of arXiv:2310.01769, eq. (5.1) (SE-1-U2; its form is unconfirmed): the paper's is by the
    singular value decomposition of F, which differs by a rotation of the columns, under which descent is
    equivariant. Columns that are zero stay so; the others must be independent.
    """
    basis = orthonormal_rows(left.T).T
    return beta * basis, right @ (basis.T @ left).T / beta


def _sample(
    key: PRNGKeyArray,
    setting: Setting,
    *,
    rows: int,
    cols: int,
    true_rank: int,
    measurements: int | None,
    spectrum: str,
) -> Problem:
    operator_key, left_key, right_key, noise_key = jax.random.split(key, 4)
    left = orthonormal_rows(normal(left_key, (true_rank, rows))).T
    right = orthonormal_rows(normal(right_key, (true_rank, cols))).T
    values = singular_values(true_rank, setting.condition_number, spectrum)
    target = (left * values) @ right.T
    operator = None
    if measurements is not None:
        operator = general_gaussian(operator_key, rows=rows, cols=cols, measurements=measurements)
    seen = observations(operator, target, noise_key, setting)
    return Problem(
        **seen,
        observed_norm=jnp.linalg.norm(seen["observed"]),
        target=target,
        left_basis=left,
        right_basis=right,
        singular_values=values,
    )


def _init(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, rows: int, cols: int, max_rank: int) -> State:
    left_key, right_key = jax.random.split(key)
    scale = hyper.init_scale
    left = gaussian_start(left_key, dim=rows, max_rank=max_rank, rank=hyper.rank, scale=scale)
    right = gaussian_start(
        right_key, dim=cols, max_rank=max_rank, rank=hyper.rank, scale=scale * hyper.right_scale
    )
    return State(left, right, _imbalance(left, right), jnp.asarray(0, jnp.int32), jnp.asarray(-1, jnp.int32))


def _step(key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State) -> State:
    pull, square = misfit(problem, _estimate(state))
    near = jnp.sqrt(square) <= hyper.rebalance_below * problem.observed_norm
    due = (hyper.rebalance > 0) & near & (state.rebalanced_at < 0)
    left, right = _rebalance_if(due, state.left, state.right, hyper.rebalance)
    return state._replace(
        left=left - hyper.step_size * (pull @ right),
        right=right - hyper.step_size * (pull.T @ left),
        step=state.step + 1,
        rebalanced_at=jnp.where(due, state.step, state.rebalanced_at),
    )


@custom_vmap
def _rebalance_if(due: Bool[Array, ""], left: Array, right: Array, beta: Array) -> tuple[Array, Array]:
    # A beta of 0 is never due, but its branch is computed too when runs are batched: no division by it.
    changed = rebalance(left, right, jnp.where(due, beta, 1.0))
    return jnp.where(due, changed[0], left), jnp.where(due, changed[1], right)


@_rebalance_if.def_vmap
def _rebalance_those(size: int, batched: list, due: Array, *rest: Array) -> tuple[Any, Any]:
    """Change factors only in the steps in which some run of the batch is due: the change is made once a run."""
    arguments = [
        x if mapped else jnp.broadcast_to(x, (size, *jnp.shape(x)))
        for x, mapped in zip((due, *rest), batched, strict=True)
    ]
    changed = jax.lax.cond(
        jnp.any(due), jax.vmap(_rebalance_if.fun), lambda due, left, right, beta: (left, right), *arguments
    )
    return changed, (True, True)


def _estimate(state: State) -> Float[Array, "rows cols"]:
    return state.left @ state.right.T


def _observe(problem: Problem, hyper: Hyper, state: State) -> Metrics:
    estimate = _estimate(state)
    _, square = misfit(problem, estimate)
    signals = (problem.left_basis.T @ state.left) * (problem.right_basis.T @ state.right)
    return {
        "error": jnp.linalg.norm(estimate - problem.target),
        "loss": square / 2,
        "learned": jnp.sum(signals, axis=1) / problem.singular_values,
        "drift": jnp.linalg.norm(_imbalance(state.left, state.right) - state.start_imbalance),
    }


def _conclude(problem: Problem, hyper: Hyper, records: Metrics, state: State) -> Metrics:
    true_rank, max_rank = problem.left_basis.shape[1], state.left.shape[1]
    place = jnp.arange(max_rank)
    rank, signal = hyper.rank, jnp.minimum(hyper.rank, true_rank)
    left_values, _ = leading_directions(state.left)
    right_values, _ = leading_directions(state.right)
    # Each direction off the signal ends in one of the factors alone: the i-th is the next of F or the last of G.
    in_left = left_values[jnp.minimum(signal + place, max_rank - 1)]
    in_right = right_values[jnp.clip(rank - 1 - place, 0, max_rank - 1)]
    tails = jnp.where(place < rank - signal, jnp.maximum(in_left, in_right), jnp.inf)
    least = jnp.where(rank > signal, jnp.min(tails), left_values[rank - 1])
    _, directions = leading_directions(problem.right_basis.T @ state.right)
    kept = jnp.where(place < signal, directions.T, 0.0)
    off = jnp.where(place < rank, jnp.eye(max_rank), 0.0) - kept @ kept.T
    # What is not of the tail is given an eigenvalue larger than all others.
    beyond = (1 + jnp.linalg.norm(state.start_imbalance)) * (jnp.eye(max_rank) - off)
    start, _ = leading_directions(off @ state.start_imbalance @ off + beyond)
    return {
        "converged": settled(_step, _estimate, problem, hyper, state),
        "tail_curvature": least**2,
        "left_curvature": left_values[signal - 1] ** 2,
        "right_curvature": right_values[signal - 1] ** 2,
        "start_curvature": jnp.where(rank > true_rank, jnp.min(start), 0.0),
        "rebalanced_at": state.rebalanced_at,
    }


def _imbalance(left: Array, right: Array) -> Float[Array, "max_rank max_rank"]:
    return left.T @ left - right.T @ right
