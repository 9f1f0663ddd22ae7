r"""Preconditioned descent for matrix sensing: the last direction of the target is learnt as fast as the first.

Gradient descent learns a direction of singular value sigma at the rate `eta sigma`, so that its iterations grow like
the condition number. Here the gradient is multiplied by the inverse Gram matrix of the factor, damped in one way or
another.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = scaled_gd(dim=5, true_rank=2, max_rank=3)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=100.0))
>>> hyper = simulation.hyper._replace(damping=0.01, init_scale=1e-6)
>>> bool(trajectory(simulation, [160])(jax.random.key(1), problem, hyper)["error"][0] < 1e-5)
True
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.decompositions import orthonormal_rows, pseudo_inverse, solve_spd
from theory_sim.sensing.measurements import general_gaussian
from theory_sim.sensing.problems import (
    INFINITY,
    SPECTRA,
    Problem,
    Setting,
    check_choice,
    check_sizes,
    gaussian_start,
    misfit,
    observations,
    sample_psd,
    setting_limits,
    settled,
    unstable,
)
from theory_sim.simulation import Metrics, Simulation, Variable


class Hyper(NamedTuple):
    """What a run is made with: columns of the factors in use, step size eta, scale alpha of the start."""

    rank: int = 1
    step_size: float = 0.3
    init_scale: float = 1e-3


class ScaledHyper(NamedTuple):
    """What a run of `scaled_gd` is made with: as `Hyper`, and the damping lambda."""

    rank: int = 1
    step_size: float = 0.3
    init_scale: float = 1e-3
    damping: float = 0.1


class State(NamedTuple):
    """The factor `X`, its columns beyond the rank exactly zero, and `signal_start` of the factor it started from."""

    factor: Float[Array, "dim max_rank"]
    signal_start: Float[Array, " true_rank"]


class Pair(NamedTuple):
    """The factors `L` and `R`; columns beyond the rank are exactly zero."""

    left: Float[Array, "dim max_rank"]
    right: Float[Array, "dim max_rank"]


Damping = Callable[[Any, Float[Array, ""]], Float[Array, ""]]
"""What is added to the diagonal of `X^T X`, from the hyperparameters and `||A(X X^T) - y||^2`."""


def scaled_gd(
    *,
    dim: int,
    true_rank: int,
    max_rank: int,
    measurements: int | None = None,
    spectrum: str = "linear",
) -> Simulation:
    """Return ScaledGD(lambda) of Xu, Shen, Chi, Ma (arXiv:2302.01186), for ranks from 1 up to `max_rank`.

    The step is `X - eta A*(A(X X^T) - y) X (X^T X + lambda I)^{-1}`, from a start of independent entries
    N(0, init_scale^2 / dim) (SE-3b1). Their theorem asks for a `damping` lambda of the order of
    `sigma_min(X*)^2 = sigma_r(M*)`, which is `1 / condition_number` here: the field is `kappa_M`, their kappa is that
    of the factor, its square root. `damping = 0` is ScaledGD of Tong, Ma, Chi (SE-3b3), made for a spectral start at
    the exact rank: from a small start its first step leads to a factor of size `1 / init_scale`, and above the true
    rank `X^T X` becomes singular. Problems are those of `symmetric_gd`.

    Metrics: `error = ||X X^T - M*||_F`, `loss`, and `off_range = ||(I - U U^T) X||_F`, which is what noise amplifies
    (SE-3-P4). Once a run `signal_start`: the squared distance of each row of `U^T X_0`, in the order of the singular
    values, from the span of those before it, for `scaled_learning_curve`.

    Raises ValueError when a size is not a whole number or below 1, a rank is above `dim` or the spectrum is unknown.
    """
    return _preconditioned(
        lambda hyper, square: hyper.damping,
        ScaledHyper(rank=max_rank),
        lambda setting, hyper: unstable(
            hyper.step_size / (1 + hyper.damping),
            1,
            "step_size / (1 + damping)",
            measurements=measurements,
            freedom=(dim + 1) * true_rank / 2,
            told_freedom="(n + 1) r/2",
        ),
        dim=dim,
        true_rank=true_rank,
        max_rank=max_rank,
        measurements=measurements,
        spectrum=spectrum,
    )


def prec_gd(
    *,
    dim: int,
    true_rank: int,
    max_rank: int,
    measurements: int | None = None,
    spectrum: str = "linear",
) -> Simulation:
    """Return PrecGD of Zhang, Fattahi, Zhang (arXiv:2504.09708), for ranks from 1 up to `max_rank`.

    As `scaled_gd`, with the damping `lambda_t = sqrt(f(X_t)) = ||A(X_t X_t^T) - y|| / 2` (SE-3b2). Its guarantee is
    local; here it starts from the same small random factor as the other methods, not near the solution (SE-3-F3).
    Once the loss is zero to rounding, nothing damps the columns above the true rank: rounding errors may blow up.

    Metrics and errors raised: those of `scaled_gd`.
    """
    return _preconditioned(
        lambda hyper, square: jnp.sqrt(square) / 2,
        Hyper(rank=max_rank),
        # Its damping vanishes together with the columns above the true rank, which therefore count.
        lambda setting, hyper: unstable(
            hyper.step_size,
            1,
            "step_size",
            measurements=measurements,
            freedom=(dim + 1) * hyper.rank / 2,
            told_freedom="(n + 1) k/2",
        ),
        dim=dim,
        true_rank=true_rank,
        max_rank=max_rank,
        measurements=measurements,
        spectrum=spectrum,
    )


def gauss_newton(
    *,
    dim: int,
    true_rank: int,
    max_rank: int,
    measurements: int | None = None,
    spectrum: str = "linear",
) -> Simulation:
    """Return the alternating Gauss-Newton method of Jia et al. (NeurIPS 2024), for ranks from 1 up to `max_rank`.

    A step is `L - eta Z R (R^T R)^+` and then, with `Z = A*(A(L R^T) - y)` computed again,
    `R - eta Z^T L (L^T L)^+` (SE-3b4). Both factors start with independent entries N(0, init_scale^2 / dim). Targets
    are those of `symmetric_gd` of the same problem key, but `L R^T` is not symmetric, so that the operator is a
    general one. Pseudo-inverses come from Gram matrices: directions of a factor whose singular values are below
    `sqrt(rank eps)` times the largest, 3e-8 or so in float64, are left alone.

    Metrics: `error = ||L R^T - M*||_F` and `loss = ||A(L R^T) - y||^2 / 2`.

    Raises ValueError when a size is not a whole number or below 1, a rank is above `dim` or the spectrum is unknown.
    """
    _check(dim, true_rank, max_rank, measurements, spectrum)
    return Simulation(
        sample=partial(
            _sample_general, dim=dim, true_rank=true_rank, measurements=measurements, spectrum=spectrum
        ),
        init=partial(_init_pair, dim=dim, max_rank=max_rank),
        step=_alternate,
        observe=_observe_pair,
        setting=Setting(),
        hyper=Hyper(rank=max_rank),
        conclude=lambda problem, hyper, records, state: {
            "converged": settled(_alternate, _product, problem, hyper, state)
        },
        variables={"error": ERROR, "loss": LOSS},
        limits=_limits(true_rank, max_rank, measurements),
        # A half step is plain descent on `||A(E V^T)||^2 / 2`, V orthonormal, and lowers it below the bound.
        caution=lambda setting, hyper: unstable(
            hyper.step_size,
            2,
            "step_size",
            measurements=measurements,
            freedom=dim * hyper.rank,
            told_freedom="n k",
        ),
    )


ERROR, LOSS = Variable("recovery error, Frobenius norm"), Variable("loss")


def _preconditioned(
    damping: Damping,
    hyper: Any,
    caution: Callable[[Setting, Any], dict[str, Any]],
    *,
    dim: int,
    true_rank: int,
    max_rank: int,
    measurements: int | None,
    spectrum: str,
) -> Simulation:
    """Return the descent on the symmetric factorisation with a damping of one's choice.

    At the solution a change `X S`, S symmetric, is multiplied by `1 - 2 eta sigma / (sigma + lambda)`: steps
    are stable up to `1 + lambda`, sigma_1 being one. That is what `caution` tells. With measurements the curvature is
    that of `L: E -> (Y E^T + E Y^T) / sqrt(2)`, where `Y = X (X^T X + lambda I)^{-1/2}`: as for gradient descent,
    `||L||_F^2 = (n + 1) ||Y||_F^2`, which is at most `(n + 1) ||L||^2 / 2` for each column that does not vanish.
    """
    _check(dim, true_rank, max_rank, measurements, spectrum)
    step = partial(_descend, damping)
    return Simulation(
        sample=partial(
            sample_psd, dim=dim, true_rank=true_rank, measurements=measurements, spectrum=spectrum
        ),
        init=partial(_init, dim=dim, max_rank=max_rank),
        step=step,
        observe=_observe,
        setting=Setting(),
        hyper=hyper,
        conclude=lambda problem, hyper, records, state: {
            "converged": settled(step, _square, problem, hyper, state),
            "signal_start": state.signal_start,
        },
        variables={
            "error": ERROR,
            "loss": LOSS,
            "off_range": Variable("part of the factor off the range of the target, Frobenius norm"),
            "signal_start": Variable("squared size of a signal at the start", dims={"direction": None}),
        },
        limits=_limits(true_rank, max_rank, measurements),
        caution=caution,
    )


def _check(dim: int, true_rank: int, max_rank: int, measurements: int | None, spectrum: str) -> None:
    check_sizes(dim=dim, true_rank=true_rank, max_rank=max_rank, measurements=measurements)
    check_choice("spectrum", spectrum, SPECTRA)


def _limits(true_rank: int, max_rank: int, measurements: int | None) -> dict[str, tuple[float, float]]:
    return {
        **setting_limits(true_rank, measurements),
        "rank": (1, max_rank),
        **dict.fromkeys(("step_size", "init_scale", "damping"), (0.0, INFINITY)),
    }


def _init(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, max_rank: int) -> State:
    factor = gaussian_start(key, dim=dim, max_rank=max_rank, rank=hyper.rank, scale=hyper.init_scale)
    return State(factor, squared_distances(problem.basis.T @ factor, hyper.rank))


def squared_distances(
    signal: Float[Array, "true_rank max_rank"], rank: Float[Array, ""] | int
) -> Float[Array, " true_rank"]:
    """Return the squared distance of each row from the span of the rows before it; `rank` columns are in use."""
    distances = jnp.sum(orthonormal_rows(signal) * signal, axis=1)
    # With fewer columns than rows the later ones lie in the span of the others: what is left is rounding.
    independent = jnp.arange(len(signal)) < rank
    return jnp.where(independent, distances**2, 0.0)


def _descend(damping: Damping, key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State) -> State:
    factor = state.factor
    pull, square = misfit(problem, factor @ factor.T)
    max_rank = factor.shape[1]
    # A one on the diagonal of columns not in use: without damping their rows of the Gram matrix are zero.
    diagonal = jnp.where(jnp.arange(max_rank) < hyper.rank, damping(hyper, square), 1.0)
    update = solve_spd(factor.T @ factor + jnp.diag(diagonal), (pull @ factor).T)
    return state._replace(factor=factor - hyper.step_size * update.T)


def _square(state: State) -> Float[Array, "dim dim"]:
    return state.factor @ state.factor.T


def _observe(problem: Problem, hyper: Hyper, state: State) -> Metrics:
    estimate = _square(state)
    _, square = misfit(problem, estimate)
    off_range = state.factor - problem.basis @ (problem.basis.T @ state.factor)
    return {
        "error": jnp.linalg.norm(estimate - problem.target),
        "loss": square / 4,
        "off_range": jnp.linalg.norm(off_range),
    }


def _sample_general(
    key: PRNGKeyArray,
    setting: Setting,
    *,
    dim: int,
    true_rank: int,
    measurements: int | None,
    spectrum: str,
) -> Problem:
    """Draw the target that `sample_psd` draws, and a general operator and noise from the keys that it leaves."""
    problem = sample_psd(key, setting, dim=dim, true_rank=true_rank, measurements=None, spectrum=spectrum)
    if measurements is None:
        return problem
    operator_key, _, noise_key = jax.random.split(key, 3)
    operator = general_gaussian(operator_key, rows=dim, cols=dim, measurements=measurements)
    return problem._replace(**observations(operator, problem.target, noise_key, setting))


def _init_pair(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, max_rank: int) -> Pair:
    start = partial(gaussian_start, dim=dim, max_rank=max_rank, rank=hyper.rank, scale=hyper.init_scale)
    left_key, right_key = jax.random.split(key)
    return Pair(start(left_key), start(right_key))


def _alternate(key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: Pair) -> Pair:
    left, right = state
    left = left - hyper.step_size * misfit(problem, left @ right.T)[0] @ (
        right @ pseudo_inverse(right.T @ right)
    )
    right = right - hyper.step_size * misfit(problem, left @ right.T)[0].T @ (
        left @ pseudo_inverse(left.T @ left)
    )
    return Pair(left, right)


def _product(state: Pair) -> Float[Array, "dim dim"]:
    return state.left @ state.right.T


def _observe_pair(problem: Problem, hyper: Hyper, state: Pair) -> Metrics:
    estimate = _product(state)
    _, square = misfit(problem, estimate)
    return {"error": jnp.linalg.norm(estimate - problem.target), "loss": square / 2}
