r"""Random linear maps from a few coordinates into all the parameters of a network.

A projection `P` [D, d] sends the trained vector `theta_d` to `P theta_d`, a displacement of all D parameters
(SU-0-F1); gradients come back through `P^T`. Columns have unit norm over the whole parameter vector (SU-A1-F6).

>>> import jax
>>> projection = dense_projection(jax.random.key(0), ambient=1000, dim=3)
>>> projection.apply(jax.numpy.ones(3)).shape, projection.transpose(jax.numpy.ones(1000)).shape
((1000,), (3,))

The first r columns drawn for `dim=d` are those drawn for `dim=r`, so that one projection serves every smaller
dimension by masking `theta_d`.
"""

import difflib
from collections.abc import Callable
from typing import Protocol

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

# A Hadamard matrix of 2^6 fills one cache level and still makes an efficient matrix product.
_BLOCK_BITS = 6


class Projection(Protocol):
    """What every kind of projection offers: `P x`, `P^T y` and `P^T P`."""

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x`."""

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return `P^T y`."""

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`."""


@flax.struct.dataclass
class DenseProjection:
    """A stored matrix; `rows` [d, D] holds `P^T`, because both products then read memory in order."""

    rows: Float[Array, "d D"]

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x`."""
        # Without the barriers XLA folds what follows into the product and leaves the fast path: a whole step of
        # 64 runs on a CPU took 1.2 times longer.
        return jax.lax.optimization_barrier(x @ self.rows)

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return `P^T y`."""
        # `y @ rows.T` would copy the transpose at every step when several problems run side by side.
        return jax.lax.optimization_barrier(self.rows @ y)

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`."""
        return self.rows @ self.rows.T


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

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x` in O(D log D) work and O(D) memory."""
        padded = jnp.pad(x * self.signs, (0, self.gaussians.size - x.size))
        mixed = hadamard_transform(padded)[self.permutation] * self.gaussians
        return hadamard_transform(mixed)[: self.ambient] * self.scale

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return `P^T y`, the exact transpose: H is symmetric, and `inverse` undoes the permutation."""
        padded = jnp.pad(y * self.scale, (0, self.gaussians.size - self.ambient))
        mixed = (hadamard_transform(padded) * self.gaussians)[self.inverse]
        return hadamard_transform(mixed)[: self.signs.size] * self.signs

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`."""
        columns = jax.vmap(self.apply)(jnp.eye(self.signs.size, dtype=self.signs.dtype))
        return columns @ columns.T


def dense_projection(key: PRNGKeyArray, ambient: int, dim: int) -> DenseProjection:
    """Draw iid N(0, 1) columns and divide each by its Euclidean norm over all D = `ambient` entries.

    Off-diagonal entries of the Gram matrix then have mean 0 and variance exactly 1/D. Memory D d.
    Source: arXiv:1804.08838 with its official code (SU-A1-F6). Raises ValueError unless 1 <= dim <= ambient.
    """
    _check_sizes(ambient, dim)
    rows = jax.random.normal(key, (dim, ambient))
    return DenseProjection(rows / jnp.linalg.norm(rows, axis=1, keepdims=True))


def fastfood_projection(key: PRNGKeyArray, ambient: int, dim: int) -> FastfoodProjection:
    """Draw one Fastfood block for all D = `ambient` parameters: `H G Pi H B / (sqrt(L sum G^2) sqrt(D/L))`.

    H is the unnormalised Hadamard matrix of size L, the least power of two >= D; B has random signs, Pi is a
    random permutation, G is N(0, 1). Squared column norms have mean 1 and variance `2 (1/D - 1/L)`;
    off-diagonal Gram entries have variance `1/D + 1/L` to leading order (SU-A1-F7). Memory O(D).
    Source: arXiv:1804.08838 with its official code (SU-A1-F6). Raises ValueError unless 1 <= dim <= ambient.
    """
    _check_sizes(ambient, dim)
    size = 1 << (ambient - 1).bit_length()
    sign_key, permutation_key, gaussian_key = jax.random.split(key, 3)
    permutation = jax.random.permutation(permutation_key, size)
    gaussians = jax.random.normal(gaussian_key, (size,))
    return FastfoodProjection(
        signs=jax.random.rademacher(sign_key, (dim,), gaussians.dtype),
        permutation=permutation,
        inverse=jnp.argsort(permutation),
        gaussians=gaussians,
        # sqrt(L sum G^2) sqrt(D/L) = sqrt(D sum G^2)
        scale=1 / jnp.sqrt(ambient * jnp.sum(gaussians**2)),
        ambient=ambient,
    )


PROJECTIONS: dict[str, Callable[[PRNGKeyArray, int, int], Projection]] = {
    "dense": dense_projection,
    "fastfood": fastfood_projection,
}


def projection_named(name: str) -> Callable[[PRNGKeyArray, int, int], Projection]:
    """Return the function `(key, ambient, dim) -> Projection` of that name; ValueError lists the legal names."""
    if name not in PROJECTIONS:
        near = difflib.get_close_matches(str(name), PROJECTIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown projection {name!r}, expected one of {sorted(PROJECTIONS)}{hint}")
    return PROJECTIONS[name]


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


def _check_sizes(ambient: int, dim: int) -> None:
    if ambient < 1:
        raise ValueError(f"ambient must be at least 1, got {ambient}")
    if not 1 <= dim <= ambient:
        raise ValueError(f"dim must lie between 1 and ambient={ambient}, got {dim}")
