"""The very sparse random projection that arXiv:1804.08838 uses: about sqrt(D) random signs in each column."""

import math
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.draws import uniform as uniform_draw
from theory_sim.subspace.linear_maps import Restricted, check_sizes, gram_by_columns
from theory_sim.subspace.products import exact_transposes, in_turn


@flax.struct.dataclass
class SparseProjection:
    """Column j has the entries `values[j]` at the rows `positions[j]`, both padded: a zero at row D - 1."""

    positions: Int[Array, "d entries"]
    values: Float[Array, "d entries"]
    ambient: int = flax.struct.field(pytree_node=False)

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x` in the work of its entries, O(d sqrt(D)) for one tensor."""
        return _apply(self, x)

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return `P^T y` in the work of its entries."""
        return _transpose(self, y)

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`, with memory O(D) beside the result."""
        return gram_by_columns(self, len(self.values), self.values.dtype)

    def restricted(self, dim: Int[Array, ""] | int) -> Restricted:
        """Return the first `dim` columns, the others counting as zero."""
        return Restricted(self, dim)


def _apply_one(projection: SparseProjection, x: Float[Array, " d"]) -> Float[Array, " D"]:
    entries = projection.values * x[:, None]
    return jnp.zeros(projection.ambient, x.dtype).at[projection.positions].add(entries)


def _transpose_one(projection: SparseProjection, y: Float[Array, " D"]) -> Float[Array, " d"]:
    return jnp.sum(projection.values * y[projection.positions], axis=1)


_apply, _transpose = exact_transposes(
    _apply_one, _transpose_one, (in_turn, in_turn), lambda p: (p.ambient, len(p.values))
)


def sparse_projection(
    key: PRNGKeyArray, ambient: int, dim: int, *, sizes: Sequence[int] | None = None
) -> SparseProjection:
    """Draw entries `+-1/sqrt(q)` with probability q/2 each, else 0, and divide each column by its Euclidean norm.

    With `sizes` the density q is `1/sqrt(D_i)` in each tensor of D_i = `sizes[i]` rows, as in the official code and in
    training, so that small tensors are reached too; without, `1/sqrt(D)` everywhere, with D = `ambient` (recalled as
    the paper's, unconfirmed). The norm is that of the whole column. Its inner products with other columns have mean 0
    and variance 1/D, exactly without `sizes` and to leading order with them. Memory and work of a product
    O(d sum_i sqrt(D_i)): `column_entries(D_i)` places a column and tensor, which a column overflows with probability
    below 1e-8; no column is empty. Rows are found in the default floating type: float32 counts to 2^24 alone.

    Raises ValueError unless 1 <= dim <= ambient and `sizes` are positive and sum to ambient.
    Source: arXiv:1804.08838 with its official code (SU-A1-F6).
    """
    check_sizes(ambient, dim)
    sizes = [ambient] if sizes is None else list(sizes)
    if min(sizes, default=0) < 1 or sum(sizes) != ambient:
        raise ValueError(f"sizes must be positive and sum to ambient={ambient}, got {sizes}")
    return draw_sparse(key, sizes, dim)


def draw_sparse(key: PRNGKeyArray, sizes: Sequence[int], dim: int) -> SparseProjection:
    """Draw a sparse projection for tensors of any sizes."""
    largest = max(range(len(sizes)), key=sizes.__getitem__)
    parts = [
        _draw_part(jax.random.fold_in(key, i), size, dim, offset=sum(sizes[:i]), never_empty=i == largest)
        for i, size in enumerate(sizes)
    ]
    positions, values = (jnp.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    values = values / jnp.sqrt(jnp.sum(values**2, axis=1, keepdims=True))
    return SparseProjection(positions, values, sum(sizes))


def column_entries(size: int) -> int:
    """Return the places kept for the entries of one column in a tensor of `size` rows.

    The number of entries is binomial with mean `m = sqrt(size)`; by Bernstein's inequality it exceeds
    `m + 7 sqrt(m) + 7` with probability below `exp(-20)`.
    """
    mean = math.sqrt(size)
    return min(size, math.ceil(mean + 7 * math.sqrt(mean) + 7))


def _draw_part(
    key: PRNGKeyArray, size: int, dim: int, *, offset: int, never_empty: bool
) -> tuple[Int[Array, "d entries"], Float[Array, "d entries"]]:
    """Return the rows and the values of the entries of all columns in one tensor.

    The gaps between the successes of independent trials are geometric, so that the work is that of the entries.
    """
    density, places = 1 / math.sqrt(size), (dim, column_entries(size))
    # One draw gives both: which half of [0, 1) it lies in, and where in that half.
    doubled = 2 * uniform_draw(key, places)
    signs, uniform = jnp.where(doubled < 1, -1.0, 1.0), doubled % 1
    if never_empty:
        # The first success given that there is one.
        uniform = uniform.at[:, 0].multiply(1 - (1 - density) ** size)
    gaps = 1 + jnp.floor(jnp.log1p(-uniform) / (math.log1p(-density) if density < 1 else -math.inf))
    rows = jnp.cumsum(gaps, axis=1) - 1
    present = rows < size
    positions = jnp.where(present, rows, size - 1).astype(jnp.int32) + offset
    return positions, jnp.where(present, signs / math.sqrt(density), 0)
