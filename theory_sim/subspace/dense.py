"""The dense Gaussian projection of arXiv:1804.08838: a stored matrix with unit columns."""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.subspace.linear_maps import Restricted, check_sizes
from theory_sim.subspace.products import Product, Rule, exact_transposes, together


@flax.struct.dataclass
class DenseProjection:
    """A stored matrix, in both orders: `columns` is `P` and `rows` is `P^T`. Made by `stored`.

    On a CPU a product of several runs is fast only along contiguous rows: with one order alone, one of the two products
    of eight runs took twice the time, for half the memory.
    """

    columns: Float[Array, "D d"]
    rows: Float[Array, "d D"]

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x`."""
        return _apply(self, x)

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return `P^T y`."""
        return _transpose(self, y)

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`."""
        return self.rows @ self.rows.T

    def restricted(self, dim: Int[Array, ""] | int) -> Restricted:
        """Return the first `dim` columns, the others counting as zero."""
        return Restricted(self, dim)


def _times(matrix: Float[Array, "out in"], vector: Float[Array, " in"]) -> Float[Array, " out"]:
    # Without the barrier XLA folds what follows into the product and leaves the fast path: a whole step of 64 runs on a
    # CPU took 1.2 times longer.
    return optimization_barrier(matrix @ vector)


def _times_many(matrix: Float[Array, "out in"], vectors: Float[Array, "runs in"]) -> Float[Array, "runs out"]:
    # The runs as columns: XLA's product with runs as rows is half as fast.
    return optimization_barrier(matrix @ optimization_barrier(vectors.T)).T


def _of(order: str) -> tuple[Product, Rule]:
    """Return the product with the matrix in one of the two orders, and its rule for many runs."""

    def one(projection: DenseProjection, vector: Array) -> Array:
        return _times(getattr(projection, order), vector)

    def many(
        plain: Product, again: Product, batched: Sequence[bool], projection: DenseProjection, vectors: Array
    ) -> Array:
        if any(batched[:-1]):
            return together(plain, again, batched, projection, vectors)
        return _times_many(getattr(projection, order), vectors)

    return one, many


(_apply_one, _apply_many), (_transpose_one, _transpose_many) = _of("columns"), _of("rows")
_apply, _transpose = exact_transposes(
    _apply_one, _transpose_one, (_apply_many, _transpose_many), lambda p: p.columns.shape
)


def stored(rows: Float[Array, "d D"]) -> DenseProjection:
    """Return the projection whose columns are the given rows."""
    # The barrier keeps XLA from reading the rows instead, as in a product with a transpose.
    return DenseProjection(optimization_barrier(rows.T), rows)


def dense_projection(key: PRNGKeyArray, ambient: int, dim: int, *, dtype: Any = float) -> DenseProjection:
    """Draw iid N(0, 1) columns and divide each by its Euclidean norm over all D = `ambient` entries.

    Off-diagonal entries of the Gram matrix then have mean 0 and variance exactly 1/D. Memory, of both orders,
    2 D d floats of the type `dtype`, in which they are drawn; work of a product O(D d). Source: arXiv:1804.08838 with
    its official code (SU-A1-F6).

    Raises ValueError unless 1 <= dim <= ambient.
    """
    check_sizes(ambient, dim)
    return draw_dense(key, ambient, dim, dtype)


def draw_dense(key: PRNGKeyArray, ambient: int, dim: int, dtype: Any = float) -> DenseProjection:
    """Draw a dense projection of any sizes: one tensor of a network may have fewer than d entries."""
    # A vector compiles faster than a matrix, with the same values. Drawn in its own type: a matrix that is drawn in
    # float64 and rounded to float32 takes twice the memory while it is made.
    rows = jax.random.normal(key, (dim * ambient,), dtype).reshape(dim, ambient)
    return stored(rows / jnp.linalg.norm(rows, axis=1, keepdims=True))
