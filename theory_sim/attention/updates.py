r"""The geometry of a weight update `dW = W(t) - W(0)`: its rank, and where its leading directions point.

>>> import jax.numpy as jnp
>>> from theory_sim.decompositions import leading_directions
>>> values, directions = leading_directions(jnp.diag(jnp.array([3.0, 2.0, 0.1, 0.0])))
>>> int(effective_rank(values)), round(float(energy_outside(values, 2)), 5), round(float(stable_rank(values)), 3)
(2, 0.00077, 1.446)
>>> [round(float(angle), 3) for angle in principal_angles(directions[:2], jnp.eye(4)[1:3])]
[90.0, 0.0]
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from theory_sim.decompositions import leading_directions

ENERGY = 0.95
"""The share of the energy that the directions counted by `effective_rank` hold."""


def effective_rank(values: Float[Array, " rank"]) -> Int[Array, ""]:
    """Return how many leading directions hold the share `ENERGY` of `sum_k s_k^2`; 0 for an update of zero."""
    energy = jnp.cumsum(jnp.square(values))
    return jnp.where(energy[-1] > 0, jnp.sum(energy < ENERGY * energy[-1]) + 1, 0)


def stable_rank(values: Float[Array, "*updates rank"], outside: Any = 0.0) -> Float[Array, "*updates"]:
    """Return `||dW||_F^2 / ||dW||_2^2 = sum_k s_k^2 / s_1^2`, at most the rank; 0 for an update of zero (AT-C1).

    Of the first few singular values, largest first, and the share of the energy `outside` of them it is the same.
    """
    energy = values**2
    largest = energy[..., 0]
    return energy.sum(-1) / (1 - outside) / (largest + (largest == 0))


def energy_outside(values: Float[Array, " rank"], count: int | Array) -> Float[Array, ""]:
    """Return `sum_{k > count} s_k^2 / sum_k s_k^2`; 0 for an update of zero (AT-C1)."""
    energy = jnp.square(values)
    total = jnp.sum(energy)
    beyond = jnp.where(jnp.arange(len(values)) >= count, energy, 0.0)
    return jnp.sum(beyond) / jnp.where(total > 0, total, 1.0)


def principal_angles(
    directions: Float[Array, "most dim"], plane: Float[Array, "most dim"]
) -> Float[Array, " most"]:
    """Return the principal angles in degrees between two subspaces of the same dimension, the largest first.

    Each is given by orthonormal rows, and perhaps by rows of zeros, for each of which the angles end with a 0. Their
    sines are the singular values of what is left of the directions outside the other subspace: to 1e-6 degrees, and
    better where all are small.
    """
    outside = directions - (directions @ plane.T) @ plane
    values, _ = leading_directions(outside.T)
    return jnp.rad2deg(jnp.arcsin(jnp.minimum(values, 1.0)))
