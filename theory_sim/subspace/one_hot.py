"""The one-hot projection of Uni-LoRA (arXiv:2506.00799): every parameter reads one trained number, isometrically."""

import math

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.subspace.linear_maps import check_sizes, random_order
from theory_sim.subspace.products import exact_transposes, in_turn, together


@flax.struct.dataclass
class OneHotProjection:
    """Row i has one entry, `signs[i] / sqrt(n_j)` in column `j = order[i] mod dim`; n_j rows share column j.

    `order` [D] is a random permutation and `inverse` [D] its inverse, so that every column serves floor(D/dim) or
    ceil(D/dim) rows, drawn uniformly among all such assignments, for every `dim` alike: each dimension has a balanced
    and exactly isometric projection. `signs` is None for positive entries; `width` is the length d of the vectors,
    `dim` <= d is traced.
    """

    order: Int[Array, " D"]
    inverse: Int[Array, " D"]
    signs: Int[Array, " D"] | None
    dim: Int[Array, ""]
    width: int = flax.struct.field(pytree_node=False)

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x` in O(D) work."""
        return _apply(self, x)

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return `P^T y` in O(D) work."""
        return _transpose(self, y)

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`: diagonal, since no two columns share a row."""
        loads = jnp.zeros(self.width).at[self.columns()].add(1.0)
        return jnp.diag(loads * self.scales(loads.dtype) ** 2)

    def restricted(self, dim: Int[Array, ""] | int) -> "OneHotProjection":
        """Return the balanced projection of `dim` dimensions made from the same permutation and signs.

        Its columns are no subset of these, which would leave rows without a column: the rows are dealt out anew.
        """
        return OneHotProjection(self.order, self.inverse, self.signs, jnp.minimum(self.dim, dim), self.width)

    def loads(self) -> Int[Array, " d"]:
        """Return n_j, the number of rows that read coordinate j: floor or ceil of D/dim, and 0 beyond `dim`."""
        index = jnp.arange(self.width)
        # order mod dim = j for order = j, j + dim, ... < D
        count = (self.order.size - 1 - index) // jnp.maximum(self.dim, 1) + 1
        return jnp.where(index < self.dim, jnp.maximum(count, 0), 0)

    def scales(self, dtype: jnp.dtype) -> Float[Array, " d"]:
        """Return `1/sqrt(n_j)`, and 0 where no row reads the coordinate."""
        loads = self.loads()
        return jnp.where(loads > 0, jax.lax.rsqrt(jnp.maximum(loads, 1).astype(dtype)), 0)

    def columns(self) -> Int[Array, " D"]:
        """Return the column of each row's entry."""
        # Without signs: half of the time of a remainder that looks at them.
        order, dim = self.order.astype(jnp.uint32), jnp.maximum(self.dim, 1).astype(jnp.uint32)
        return jax.lax.rem(order, dim).astype(jnp.int32)

    def signed(self, y: Float[Array, " D"]) -> Float[Array, " D"]:
        """Return a vector of rows times the signs of their entries."""
        return y if self.signs is None else y * self.signs.astype(y.dtype)


def _apply_one(p: OneHotProjection, x: Float[Array, " d"]) -> Float[Array, " D"]:
    return p.signed((x * p.scales(x.dtype)).at[p.columns()].get(mode="promise_in_bounds"))


def _transpose_one(p: OneHotProjection, y: Float[Array, " D"]) -> Float[Array, " d"]:
    def scattered(y: Float[Array, " D"]) -> Float[Array, " d"]:
        return jnp.zeros(p.width, y.dtype).at[p.columns()].add(y)

    def folded(y: Float[Array, " D"]) -> Float[Array, " d"]:
        # XLA adds to random places one by one, 150 ns each. In the order of the permutation, column j has the entries
        # j, j + dim, ...: first every multiple of dim near sqrt(D d) is laid over the one before, then every dim.
        dim = jnp.maximum(p.dim, 1)
        length = max(p.width, math.isqrt(y.size * p.width))
        stride = dim * jnp.maximum(length // dim, 1)
        return _wrapped(_wrapped(y.at[p.inverse].get(mode="promise_in_bounds"), stride, length), dim, p.width)

    total = jax.lax.platform_dependent(p.signed(y), cpu=folded, default=scattered)
    return total * p.scales(y.dtype)


def _wrapped(y: Float[Array, " n"], stride: Int[Array, ""], length: int) -> Float[Array, " length"]:
    """Return the sums of all entries of y whose places are equal modulo `stride` <= `length`, then zeros."""
    padded = jnp.pad(y, (0, length))
    kept = jnp.arange(length) < stride

    def add(turn: Int[Array, ""], total: Float[Array, " length"]) -> Float[Array, " length"]:
        return total + jnp.where(kept, jax.lax.dynamic_slice(padded, (turn * stride,), (length,)), 0)

    return jax.lax.fori_loop(0, (y.size + stride - 1) // stride, add, jnp.zeros(length, y.dtype))


_apply, _transpose = exact_transposes(
    _apply_one, _transpose_one, (together, in_turn), lambda p: (p.order.size, p.width)
)


def one_hot_projection(
    key: PRNGKeyArray, ambient: int, dim: int, *, signed: bool = False
) -> OneHotProjection:
    """Deal D = `ambient` rows out to `dim` columns at random, floor(D/dim) or ceil(D/dim) each: entry `1/sqrt(n_j)`.

    `P^T P = I` exactly (SU-A3-1), but P is not isotropic: it always reaches the all-ones direction (SU-A3-3).
    `signed` gives the entries random signs, which makes it so (SU-A3-5). Memory and work of a product O(D).
    Raises ValueError unless 1 <= dim <= ambient. Source: arXiv:2506.00799 with its official code (SU-A3-F2, SU-A3-I1).
    """
    check_sizes(ambient, dim)
    return draw_one_hot(key, ambient, dim, signed=signed)


def draw_one_hot(key: PRNGKeyArray, ambient: int, dim: int, *, signed: bool = False) -> OneHotProjection:
    """Draw a one-hot projection of any sizes: with more columns than rows, those that serve no row are zero."""
    order, signs = random_order(key, ambient)
    inverse = jnp.zeros_like(order).at[order].set(jnp.arange(ambient, dtype=jnp.int32), unique_indices=True)
    return OneHotProjection(order, inverse, signs if signed else None, jnp.asarray(dim, jnp.int32), dim)
