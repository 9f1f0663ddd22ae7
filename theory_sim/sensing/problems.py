r"""Problems with a symmetric target: `M* = U diag(sigma) U^T`, and what is observed of it.

Shared by every method on the symmetric factorisation `X X^T`, so that methods meet the same problems.

>>> import jax
>>> problem = sample_psd(jax.random.key(0), Setting(), dim=4, true_rank=2, measurements=None)
>>> problem.target.shape, problem.basis.shape
((4, 4), (4, 2))
"""

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from theory_sim.decompositions import orthonormal_rows
from theory_sim.draws import normal
from theory_sim.sensing.measurements import Operator, adjoint, gaussian, measure, normal_product, with_gram
from theory_sim.simulation import check_counts

INFINITY = float("inf")
SPECTRA = ("linear", "geometric")


class Setting(NamedTuple):
    """What a problem is drawn with.

    `condition_number` is `kappa_M = sigma_1(M*) / sigma_r(M*)`. `noise_std` is the noise of a measurement by a
    matrix of unit variance, so that `y_i = <A_i, M*> + N(0, noise_std^2 / m)`, since `A_i` carries `1/sqrt(m)`.
    """

    condition_number: float = 1.0
    noise_std: float = 0.0


class Problem(NamedTuple):
    """A target `M* = U diag(sigma) U^T`, the basis `U` of its range, and what is observed of it: see `observations`."""

    operator: Operator
    observed: Float[Array, "..."]
    noise_pull: Float[Array, "dim dim"]
    noise_square: Float[Array, ""]
    target: Float[Array, "dim dim"]
    basis: Float[Array, "dim true_rank"]
    singular_values: Float[Array, " true_rank"]


def sample_psd(
    key: PRNGKeyArray,
    setting: Setting,
    *,
    dim: int,
    true_rank: int,
    measurements: int | None,
    spectrum: str = "linear",
) -> Problem:
    """Draw a target in a uniformly random subspace, a Gaussian operator, and noisy measurements.

    `measurements=None` is the population case: the target is seen whole, without noise.
    """
    operator_key, target_key, noise_key = jax.random.split(key, 3)
    basis = orthonormal_rows(normal(target_key, (true_rank, dim))).T
    values = singular_values(true_rank, setting.condition_number, spectrum)
    target = (basis * values) @ basis.T
    drawn = None if measurements is None else gaussian(operator_key, dim=dim, measurements=measurements)
    return Problem(
        **observations(drawn, target, noise_key, setting), target=target, basis=basis, singular_values=values
    )


def observations(
    operator: Operator, target: Float[Array, "rows cols"], key: PRNGKeyArray, setting: Setting
) -> dict[str, Any]:
    """Draw the noise z and return what is observed, as fields of a problem: the operator and `y = A(M*) + z`.

    Of the noise a square loss needs `A*(z)` and `||z||^2`: see `misfit`. The population operator has none.
    """
    if operator is None:
        pull, square = jnp.zeros_like(target), jnp.zeros((), target.dtype)
        return {"operator": None, "observed": target, "noise_pull": pull, "noise_square": square}
    measured = measure(operator, target)
    noise = setting.noise_std / np.sqrt(len(measured)) * jax.random.normal(key, measured.shape)
    return {
        "operator": with_gram(operator),
        "observed": measured + noise,
        "noise_pull": adjoint(operator, noise),
        "noise_square": jnp.sum(noise**2),
    }


def misfit(
    problem: Any, estimate: Float[Array, "rows cols"]
) -> tuple[Float[Array, "rows cols"], Float[Array, ""]]:
    """Return `A*(A(E) - y)` and `||A(E) - y||^2`, of the estimate E of `problem.target`.

    As `A*A(E - M*) - A*(z)`, since `y = A(M*) + z`: so it needs one product with `A*A`, and loses nothing to rounding
    where E is near the target and there is no noise.
    """
    error = estimate - problem.target
    back = normal_product(problem.operator, error)
    square = jnp.sum(error * (back - 2 * problem.noise_pull)) + problem.noise_square
    return back - problem.noise_pull, jnp.maximum(square, 0.0)


def singular_values(
    true_rank: int, condition_number: Float[Array, ""] | float, spectrum: str = "linear"
) -> Float[Array, " true_rank"]:
    """Return `true_rank` values from 1 down to `1 / condition_number`, at equal differences or equal ratios."""
    if spectrum == "linear":
        return jnp.linspace(1.0, 1.0 / condition_number, true_rank)
    return jnp.exp(-jnp.log(condition_number) * jnp.linspace(0.0, 1.0, true_rank))


def gaussian_start(
    key: PRNGKeyArray,
    *,
    dim: int,
    max_rank: int,
    rank: Float[Array, ""] | int,
    scale: Float[Array, ""] | float,
) -> Float[Array, "dim max_rank"]:
    """Draw a factor with independent entries N(0, scale^2 / dim), its columns beyond the rank exactly zero."""
    # The rank is the leading axis of the draw: a run of rank k is the same whatever max_rank is.
    entries = normal(key, (max_rank, dim)).T * scale / jnp.sqrt(dim)
    return jnp.where(jnp.arange(max_rank) < rank, entries, 0.0)


def settled(
    step: Callable[[Any, Any, Any, Any], Any],
    estimate: Callable[[Any], Float[Array, "rows cols"]],
    problem: Any,
    hyper: Any,
    state: Any,
) -> Bool[Array, ""]:
    """Return whether one more step moves the estimate of `problem.target` by less than a tenth of its Frobenius norm.

    That is `converged` of every method whose step draws nothing. Slow convergence, steps that decay and the floor that
    noise leaves pass. A cycle or chaos does not, nor a run that is cut where it is fastest, nor one whose next step
    is not finite. A cycle of less than that size passes, as an error of less than that size.
    """
    after = step(None, problem, hyper, state)
    middle = jax.tree.map(lambda before, after: (before + after) / 2, state, after)
    # By way of the middle: a factor whose sign alone changes at every step is in a cycle that its square does not show.
    places = [estimate(place) for place in (state, middle, after)]
    moved = jnp.linalg.norm(places[1] - places[0]) + jnp.linalg.norm(places[2] - places[1])
    return moved < jnp.linalg.norm(problem.target) / 10


def unstable(
    number: np.ndarray | float,
    bound: float,
    told: str,
    *,
    measurements: int | None,
    freedom: np.ndarray | float,
    told_freedom: str,
) -> dict[str, np.ndarray]:
    """Return the caution where `number`, a step size times a curvature of the population, reaches its bound.

    With Gaussian measurements the largest curvature is that of `||A(L E)||^2`, where `L` takes a change E of the
    factors, in the metric of the method, to that of the estimate. By Chevet's inequality its root is at most
    `||L|| + ||L||_F / sqrt(m)` in expectation: the population's curvature `||L||^2` is multiplied by at most
    `(1 + sqrt(q/m))^2`, q being `||L||_F^2 / ||L||^2`, the `freedom` given. Instability starts at most there.
    """
    if measurements is None:
        return {f"{told} >= {bound:g}: unstable at the solution": np.asarray(number >= bound)}
    spread = (1 + np.sqrt(freedom / measurements)) ** 2
    message = f"{told} * (1 + sqrt(q/m))^2 >= {bound:g}, q = {told_freedom}: may be unstable at the solution"
    return {message: np.asarray(number * spread >= bound)}


def check_sizes(*, true_rank: int, max_rank: int, measurements: int | None, **dims: int) -> None:
    """Raise ValueError when a size is not a whole number or below 1, or a rank above one of the dimensions `dims`."""
    check_counts(**dims, true_rank=true_rank, max_rank=max_rank)
    largest = min(dims, key=lambda name: dims[name])
    for name, value in {"true_rank": true_rank, "max_rank": max_rank}.items():
        if value > dims[largest]:
            raise ValueError(f"{name} must be at most {largest} = {dims[largest]}, got {value}")
    if measurements is None:
        return
    if isinstance(measurements, Integral) and measurements < 1:
        raise ValueError(
            f"measurements must be at least 1, or None for the population operator, got {measurements}"
        )
    check_counts(measurements=measurements)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError when a word is not one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def setting_limits(true_rank: int, measurements: int | None) -> dict[str, tuple[float, float]]:
    """Return the legal intervals of the fields of `Setting`."""
    return {
        "condition_number": (1.0, INFINITY if true_rank > 1 else 1.0),
        "noise_std": (0.0, INFINITY if measurements else 0.0),
    }
