"""Directions of vectors and matrices: each over its norm, zero standing for itself.

>>> import jax.numpy as jnp
>>> unit(jnp.array([[0.0, 4.0], [0.0, 0.0]])).tolist()
[[0.0, 1.0], [0.0, 0.0]]
>>> distance(jnp.array([[2.0, 0.0], [0.0, 0.0]]), jnp.array([3.0, 0.0])).tolist()
[0.0, 1.0]
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def unit(values: Float[Array, "*shape"], axis: int | tuple[int, ...] = -1) -> Float[Array, "*shape"]:
    """Return vectors over their norms, or matrices over their Frobenius norms with two axes."""
    norms = jnp.sqrt(jnp.sum(values**2, axis=axis, keepdims=True))
    return values / jnp.where(norms > 0, norms, 1.0)


def distance(values: Float[Array, "*many"], solution: Float[Array, "*one"]) -> Float[Array, "*shape"]:
    """Return `| A/|A| - B/|B| |` of each value; `1 - corr(A, B)` is half its square (AT-A-M8)."""
    axes = tuple(range(-solution.ndim, 0))
    return jnp.sqrt(jnp.sum((unit(values, axes) - unit(solution, axes)) ** 2, axis=axes))
