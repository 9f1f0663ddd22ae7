"""The Fastfood projection of arXiv:1804.08838: signs, Hadamard transforms, a permutation, a Gaussian diagonal."""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.subspace.linear_maps import Restricted, check_sizes, gram_by_columns, random_order
from theory_sim.subspace.products import exact_transposes, in_turn

# A Hadamard matrix of 2^6 fills one cache level and still makes an efficient matrix product.
_BLOCK_BITS = 6


@flax.struct.dataclass
class FastfoodProjection:
    """`P x` = the first D entries of `scale H G Pi H B [x; 0]`, with H the Hadamard matrix of size L >= D.

    `signs` [d] is the part of B that meets a non-zero entry, `permutation` [L] is Pi (as the index read by each
    row) and `inverse` [L] its inverse, `gaussians` [L] is the diagonal of G.
    """

    signs: Float[Array, " d"]
    permutation: Int[Array, " L"]
    inverse: Int[Array, " L"]
    gaussians: Float[Array, " L"]
    scale: Float[Array, ""]
    ambient: int = flax.struct.field(pytree_node=False)

    @property
    def head(self) -> int:
        """The least power of two n >= d: `H_L = H_(L/n) (x) H_n` repeats `H_n x` for every block of n rows."""
        return 1 << (self.signs.size - 1).bit_length()

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x` in O(D log D) work and O(D) memory."""
        return _apply(self, x)

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return `P^T y`, the exact transpose: H is symmetric, and `inverse` undoes the permutation."""
        return _transpose(self, y)

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`, with memory O(D) beside the result."""
        return gram_by_columns(self, self.signs.size, self.signs.dtype)

    def restricted(self, dim: Int[Array, ""] | int) -> Restricted:
        """Return the first `dim` columns, the others counting as zero."""
        return Restricted(self, dim)


def _apply_one(p: FastfoodProjection, x: Float[Array, " d"]) -> Float[Array, " D"]:
    padded = jnp.pad(x * p.signs * p.scale, (0, p.head - x.size))
    mixed = hadamard_transform(padded)[p.permutation % p.head] * p.gaussians
    return hadamard_transform(mixed)[: p.ambient]


def _transpose_one(p: FastfoodProjection, y: Float[Array, " D"]) -> Float[Array, " d"]:
    padded = jnp.pad(y, (0, p.gaussians.size - p.ambient))
    mixed = (hadamard_transform(padded) * p.gaussians)[p.inverse]
    # The transpose of a repetition is a sum.
    head = hadamard_transform(mixed.reshape(-1, p.head).sum(axis=0))
    return head[: p.signs.size] * p.signs * p.scale


_apply, _transpose = exact_transposes(
    _apply_one, _transpose_one, (in_turn, in_turn), lambda p: (p.ambient, p.signs.size)
)


def fastfood_projection(key: PRNGKeyArray, ambient: int, dim: int) -> FastfoodProjection:
    """Draw one Fastfood block for all D = `ambient` parameters: `H G Pi H B / (sqrt(L sum G^2) sqrt(D/L))`.

    H is the unnormalised Hadamard matrix of size L, the least power of two >= D; B has random signs, Pi is a
    random permutation, G is N(0, 1). Squared column norms have mean 1 and variance `2 (1/D - 1/L)`;
    off-diagonal Gram entries have variance `1/D + 1/L` to leading order (SU-A1-F7). Memory O(D), work O(D log D).
    Source: arXiv:1804.08838 with its official code (SU-A1-F6). Raises ValueError unless 1 <= dim <= ambient.
    """
    check_sizes(ambient, dim)
    return draw_fastfood(key, ambient, dim)


def draw_fastfood(key: PRNGKeyArray, ambient: int, dim: int) -> FastfoodProjection:
    """Draw a Fastfood block of any sizes: H grows to d where a tensor has fewer entries, so that no column is lost.

    The authors' code of arXiv:2012.13255 truncates theta_d there (SU-A2-P2).
    """
    size = 1 << (max(ambient, dim) - 1).bit_length()
    order_key, gaussian_key = jax.random.split(key)
    inverse, signs = random_order(order_key, size)
    gaussians = jax.random.normal(gaussian_key, (size,))
    return FastfoodProjection(
        signs=signs[:dim].astype(gaussians.dtype),
        permutation=jnp.zeros_like(inverse)
        .at[inverse]
        .set(jnp.arange(size, dtype=jnp.int32), unique_indices=True),
        inverse=inverse,
        gaussians=gaussians,
        # sqrt(L sum G^2) sqrt(D/L) = sqrt(D sum G^2)
        scale=1 / jnp.sqrt(ambient * jnp.sum(gaussians**2)),
        ambient=ambient,
    )


@jax.jit
def hadamard_transform(x: Float[Array, " L"]) -> Float[Array, " L"]:
    """Return `H x` for the unnormalised Hadamard matrix in Sylvester's order, L a power of two.

    H is the Kronecker product of Hadamard matrices of at most 2^6, so that H x is a few small matrix products
    on a reshaped x: 2 L (L1 + L2 + ...) operations that a matrix unit does at full speed.
    """
    bits = x.size.bit_length() - 1
    if x.size != 1 << bits:
        raise ValueError(f"hadamard_transform needs a power of two, got size {x.size}")
    factors = max(1, -(-bits // _BLOCK_BITS))
    sizes = [1 << (bits // factors + (i < bits % factors)) for i in range(factors)]
    block = x.reshape(sizes)
    for size in sizes:
        # Contracting the first axis moves it to the end: after all factors the order is the first one again.
        block = jnp.tensordot(block, _hadamard(size, x.dtype), axes=(0, 0))
    return block.reshape(x.shape)


def _hadamard(size: int, dtype: jnp.dtype) -> Float[Array, "size size"]:
    """Entries (-1)^(number of ones in i AND j): made in the program, so that it carries no constant."""
    index = jnp.arange(size)
    odd = jax.lax.population_count(index[:, None] & index[None, :]) % 2
    return (1 - 2 * odd).astype(dtype)
