r"""The geometry of a weight update `dW = W(t) - W(0)`: its rank, and where its leading directions point.

>>> import jax.numpy as jnp
>>> from theory_sim.decompositions import leading_directions
>>> values, directions = leading_directions(jnp.diag(jnp.array([3.0, 2.0, 0.1, 0.0])))
>>> int(effective_rank(values)), round(float(energy_outside(values, 2)), 5)
(2, 0.00077)
>>> round(float(largest_angle(directions[:2], jnp.eye(4)[1:3])), 3)
90.0
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

ENERGY = 0.95
"""The share of the energy that the directions counted by `effective_rank` hold."""


def effective_rank(values: Float[Array, " rank"]) -> Int[Array, ""]:
    """Return how many leading directions hold the share `ENERGY` of `sum_k s_k^2`; 0 for an update of zero."""
    energy = jnp.cumsum(jnp.square(values))
    return jnp.where(energy[-1] > 0, jnp.sum(energy < ENERGY * energy[-1]) + 1, 0)


def energy_outside(values: Float[Array, " rank"], count: int) -> Float[Array, ""]:
    """Return `sum_{k > count} s_k^2 / sum_k s_k^2`; 0 for an update of zero (AT-C1)."""
    energy = jnp.square(values)
    total = jnp.sum(energy)
    return jnp.sum(energy[count:]) / jnp.where(total > 0, total, 1.0)


def largest_angle(directions: Float[Array, "2 dim"], plane: Float[Array, "2 dim"]) -> Float[Array, ""]:
    """Return the largest principal angle in degrees between two planes, each given by two orthonormal rows.

    Its sine is the norm of what is left of the directions outside the plane, its cosine their smallest
    singular value inside it; both are used, because each is inaccurate where the other is accurate.
    """
    inside = directions @ plane.T
    _, sine = _extreme_singular_values(directions - inside @ plane)
    cosine, _ = _extreme_singular_values(inside)
    return jnp.rad2deg(jnp.arctan2(sine, cosine))


def _extreme_singular_values(
    rows: Float[Array, "2 dim"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the smallest and largest singular value of two rows, from the closed form of a 2 x 2 Gram."""
    (first, cross), (_, second) = rows @ rows.T
    middle, radius = (first + second) / 2, jnp.hypot((first - second) / 2, cross)
    return jnp.sqrt(jnp.maximum(middle - radius, 0.0)), jnp.sqrt(middle + radius)
