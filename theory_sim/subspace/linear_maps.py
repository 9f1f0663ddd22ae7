r"""What every random projection is: two products that are each other's exact transpose, and what follows from them."""

from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

GRAM_COLUMNS = 4
"""How many columns of a Gram matrix are made at once: its memory beside the result is that many times D."""


class Projection(Protocol):
    """A linear map `P` [D, d], and its restriction to fewer dimensions."""

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x`."""

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return `P^T y`."""

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`."""

    def restricted(self, dim: Int[Array, ""] | int) -> "Projection":
        """Return the projection of `dim` <= d dimensions, for a traced `dim`; 0 maps everything to zero.

        Vectors keep their length d: `apply` ignores what lies beyond `dim`, `transpose` gives zeros there, and so
        does `gram`. One compilation, and one projection for all runs, then serve every dimension of a sweep.
        """


@flax.struct.dataclass
class Restricted:
    """The first `dim` columns of a projection; the others count as zero."""

    projection: Projection
    dim: Int[Array, ""] | int

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x` of the first `dim` entries of x."""
        return self.projection.apply(self._kept(x))

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return the first `dim` entries of `P^T y`, then zeros."""
        return self._kept(self.projection.transpose(y))

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`, zero outside the first `dim` rows and columns."""
        gram = self.projection.gram()
        kept = jnp.arange(len(gram)) < self.dim
        return jnp.where(kept[:, None] & kept, gram, 0)

    def restricted(self, dim: Int[Array, ""] | int) -> "Restricted":
        """Return the restriction to the smaller of both dimensions."""
        return Restricted(self.projection, jnp.minimum(self.dim, dim))

    def _kept(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.where(jnp.arange(x.shape[-1]) < self.dim, x, 0)


def gram_by_columns(projection: Projection, dim: int, dtype: Any) -> Float[Array, "d d"]:
    """Return `P^T P` column by column, with memory O(D) beside the result."""
    eye = jnp.eye(dim, dtype=dtype)
    return jax.lax.map(lambda e: projection.transpose(projection.apply(e)), eye, batch_size=GRAM_COLUMNS)


def random_order(key: PRNGKeyArray, size: int) -> tuple[Int[Array, " size"], Int[Array, " size"]]:
    """Return a uniformly random permutation of 0 .. size - 1, and independent random signs, from one draw of bits.

    The order is that of random numbers, the signs are their lowest bits. For a CPU, XLA takes a second to compile
    them drawn apart by `jax.random`, and half of that here.
    """
    bits = jax.random.bits(key, (size,), "uint32")
    return jnp.argsort(bits).astype(jnp.int32), 1 - 2 * (bits & 1).astype(jnp.int8)


def check_sizes(ambient: int, dim: int) -> None:
    """Raise ValueError unless 1 <= dim <= ambient."""
    if ambient < 1:
        raise ValueError(f"ambient must be at least 1, got {ambient}")
    if not 1 <= dim <= ambient:
        raise ValueError(f"dim must lie between 1 and ambient={ambient}, got {dim}")
