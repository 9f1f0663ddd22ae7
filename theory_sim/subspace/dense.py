"""The dense Gaussian projection of arXiv:1804.08838: a stored matrix with unit columns."""

from collections.abc import Sequence

import flax.struct
import jax.numpy as jnp
from jax.lax import optimization_barrier
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.draws import normal
from theory_sim.subspace.linear_maps import Restricted, check_sizes
from theory_sim.subspace.products import Product, exact_transposes, together


@flax.struct.dataclass
class DenseProjection:
    """A stored matrix; `rows` [d, D] holds `P^T`, because both products then read memory in order."""

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


def _apply_one(projection: DenseProjection, x: Float[Array, " d"]) -> Float[Array, " D"]:
    # Without the barriers XLA folds what follows into the product and leaves the fast path: a whole step of
    # 64 runs on a CPU took 1.2 times longer.
    return optimization_barrier(x @ projection.rows)


def _transpose_one(projection: DenseProjection, y: Float[Array, " D"]) -> Float[Array, " d"]:
    # `y @ rows.T` would copy the transpose at every step when several problems run side by side.
    return optimization_barrier(projection.rows @ y)


def _transpose_many(
    plain: Product,
    again: Product,
    batched: Sequence[bool],
    projection: DenseProjection,
    ys: Float[Array, "runs D"],
) -> Float[Array, "runs d"]:
    """With one P for all runs, `P^T Y` with the runs as columns: XLA's product with runs as rows is half as fast."""
    if batched[0]:
        return together(plain, again, batched, projection, ys)
    return optimization_barrier(projection.rows @ optimization_barrier(ys.T)).T


_apply, _transpose = exact_transposes(_apply_one, _transpose_one, (together, _transpose_many))


def dense_projection(key: PRNGKeyArray, ambient: int, dim: int) -> DenseProjection:
    """Draw iid N(0, 1) columns and divide each by its Euclidean norm over all D = `ambient` entries.

    Off-diagonal entries of the Gram matrix then have mean 0 and variance exactly 1/D. Memory and work of a
    product O(D d). Source: arXiv:1804.08838 with its official code (SU-A1-F6). Raises ValueError unless
    1 <= dim <= ambient.
    """
    check_sizes(ambient, dim)
    return draw_dense(key, ambient, dim)


def draw_dense(key: PRNGKeyArray, ambient: int, dim: int) -> DenseProjection:
    """Draw a dense projection of any sizes: one tensor of a network may have fewer than d entries."""
    rows = normal(key, (dim, ambient))
    return DenseProjection(rows / jnp.linalg.norm(rows, axis=1, keepdims=True))
