r"""The sign field `Q(X) = (1/m) sum_i sign(<A_i, X> - s_i) A_i` of one matrix, sampled: the l1 loss's sub-gradient.

Its mean over Gaussian measurements is `phi X / ||X||_F`, where `phi` depends on `||X||_F` and the corruption alone
(SE-2-M4). A run is a static object: it takes no steps.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = sign_field(dim=4, max_rank=2, measurements=4000)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> metrics = trajectory(simulation, 0)(jax.random.key(1), problem, simulation.hyper)
>>> bool(abs(metrics["strength"][0] / (2 / jnp.pi) ** 0.5 - 1) < 0.05)
True
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.draws import normal
from theory_sim.sensing.measurements import Gaussian, adjoint, gaussian, measure
from theory_sim.sensing.problems import INFINITY, check_sizes
from theory_sim.simulation import Metrics, Simulation, Variable


class Setting(NamedTuple):
    """The corruption, of measurements by matrices of unit variance: as in `robust.Setting`."""

    outlier_fraction: float = 0.0
    outlier_std: float = 10.0
    noise_std: float = 0.0


class Hyper(NamedTuple):
    """The matrix at which the field is sampled: its Frobenius norm and its rank."""

    norm: float = 1.0
    rank: int = 1


class Problem(NamedTuple):
    """An operator with `E[A*A] = I`, and the `s_i` of unit-variance measurements."""

    operator: Gaussian
    corruption: Float[Array, " m"]


def sign_field(*, dim: int, max_rank: int, measurements: int) -> Simulation:
    """Return the sign field of a random symmetric matrix: indefinite, of any norm and of ranks up to `max_rank`.

    The matrix is `G_1 G_1^T - G_2 G_2^T` for Gaussian factors with columns taken in turn, scaled to the norm.

    Metrics: `strength = <Q, X / ||X||_F>`, of mean `phi` and variance `(1 - phi^2) / m`; `deviation`, the Frobenius
    norm of the rest of `Q`, of mean square `(d (d + 1) / 2 - 1) / m`.

    Raises ValueError when a size is not a whole number, or below 1, or `max_rank` above `dim`.
    """
    check_sizes(dim=dim, true_rank=1, max_rank=max_rank, measurements=measurements)
    return Simulation(
        sample=partial(_sample, dim=dim, measurements=measurements),
        init=partial(_init, dim=dim, max_rank=max_rank),
        step=lambda key, problem, hyper, matrix: matrix,
        observe=_observe,
        setting=Setting(),
        hyper=Hyper(rank=max_rank),
        variables={
            "strength": Variable("strength of the sign field"),
            "deviation": Variable("rest of the sign field, Frobenius norm"),
        },
        limits={
            "outlier_fraction": (0.0, float(np.nextafter(1.0, 0.0))),
            "outlier_std": (0.0, INFINITY),
            "noise_std": (0.0, INFINITY),
            "norm": (float(np.nextafter(0.0, 1.0)), INFINITY),
            "rank": (1, max_rank),
        },
    )


def _sample(key: PRNGKeyArray, setting: Setting, *, dim: int, measurements: int) -> Problem:
    operator_key, place_key, size_key, noise_key = jax.random.split(key, 4)
    hit = jax.random.uniform(place_key, (measurements,)) < setting.outlier_fraction
    outliers = setting.outlier_std * jax.random.normal(size_key, (measurements,))
    noise = setting.noise_std * jax.random.normal(noise_key, (measurements,))
    return Problem(
        gaussian(operator_key, dim=dim, measurements=measurements), jnp.where(hit, outliers, 0.0) + noise
    )


def _init(
    key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, max_rank: int
) -> Float[Array, "dim dim"]:
    columns = normal(key, (max_rank, dim)).T
    index = jnp.arange(max_rank)
    signs = jnp.where(index < hyper.rank, jnp.where(index % 2 == 0, 1.0, -1.0), 0.0)
    matrix = (columns * signs) @ columns.T
    return hyper.norm * matrix / jnp.linalg.norm(matrix)


def _observe(problem: Problem, hyper: Hyper, matrix: Float[Array, "dim dim"]) -> Metrics:
    count = len(problem.corruption)
    signs = jnp.sign(jnp.sqrt(count) * measure(problem.operator, matrix) - problem.corruption)
    field = adjoint(problem.operator, signs) / jnp.sqrt(count)
    direction = matrix / hyper.norm
    strength = jnp.sum(field * direction)
    return {"strength": strength, "deviation": jnp.linalg.norm(field - strength * direction)}
