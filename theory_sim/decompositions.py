r"""Orthonormal bases and spectra of small matrices, in plain array operations.

Batches of LAPACK calls block the threads that they wait for: on a CPU, `jnp.linalg` calls that overlap, of two
devices or of one program, can wait for each other for ever (jaxlib 0.10). The matrices here are small.

>>> import jax.numpy as jnp
>>> values, directions = leading_directions(jnp.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]))
>>> values.tolist(), jnp.abs(jnp.round(directions[:2], 12)).tolist()
([2.0, 1.0, 0.0], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def ranks(values: Float[Array, " count"]) -> Int[Array, " count"]:
    """Return the place of each value in increasing order, from 0; equal values are ordered by their index.

    By counting all pairs: XLA takes seconds to compile a sort for a CPU. The ranks of independent uniform numbers are
    a random permutation.
    """
    index = jnp.arange(len(values))
    before = (values[:, None] == values) & (index[:, None] > index)
    return jnp.sum((values[:, None] > values) | before, axis=1)


def orthonormal_rows(rows: Float[Array, "count dim"]) -> Float[Array, "count dim"]:
    """Return independent rows orthonormalised in turn (Gram-Schmidt, each projection done twice).

    Gaussian rows give a uniformly random orthonormal system.
    """

    def add(i: Array, done: Float[Array, "count dim"]) -> Float[Array, "count dim"]:
        row = rows[i]
        for _ in range(2):
            row = row - (done @ row) @ done
        return done.at[i].set(row / jnp.linalg.norm(row))

    return jax.lax.fori_loop(0, len(rows), add, jnp.zeros_like(rows))


def leading_directions(
    update: Float[Array, "rows columns"],
) -> tuple[Float[Array, " columns"], Float[Array, "columns columns"]]:
    """Return the singular values, decreasing and with zeros appended, and the right singular vectors as rows.

    By Jacobi's method on the Gram matrix: values below the first times the root of the machine precision are noise.
    """
    dim = update.shape[1]
    even = max(4, dim + dim % 2)
    scale = jnp.max(jnp.abs(update))
    scaled = update / jnp.where(scale > 0, scale, 1.0)
    gram = jnp.pad(scaled.T @ scaled, (0, even - dim))
    squares, vectors = _jacobi(gram)
    order = jnp.zeros(even, int).at[ranks(-squares)].set(jnp.arange(even), unique_indices=True)
    values = scale * jnp.sqrt(jnp.maximum(squares[order], 0.0))
    return values[:dim], vectors[order][:dim, :dim]


def _jacobi(matrix: Float[Array, "even even"]) -> tuple[Float[Array, " even"], Float[Array, "even even"]]:
    """Return eigenvalues and eigenvectors, as rows, of a symmetric matrix.

    Each round zeroes the entries of `even / 2` disjoint pairs, (i, i + half), then moves all but index 0 one place
    round a circle, so that `even - 1` rounds meet every pair. Convergence is quadratic after a few such sweeps.
    """
    even = len(matrix)
    half = even // 2
    circle = np.r_[0, half, 1 : half - 1, half + 1 : even, half - 1]
    sweeps = 5 + int(np.ceil(np.log2(even) / 2)) + 1

    def turn(rows: Array, cosine: Array, sine: Array) -> Array:
        top, bottom = rows[:half], rows[half:]
        c, s = cosine[:, None], sine[:, None]
        return jnp.concatenate([c * top - s * bottom, s * top + c * bottom])[circle]

    def one_round(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        current, vectors = state
        diagonal, off = jnp.diagonal(current), jnp.diagonal(current, half)
        ratio = (diagonal[half:] - diagonal[:half]) / (2 * jnp.where(off == 0, 1.0, off))
        tangent = jnp.where(ratio < 0, -1.0, 1.0) / (jnp.abs(ratio) + jnp.sqrt(1 + ratio**2))
        tangent = jnp.where(off == 0, 0.0, tangent)
        cosine = 1 / jnp.sqrt(1 + tangent**2)
        sine = tangent * cosine
        return turn(turn(current, cosine, sine).T, cosine, sine), turn(vectors, cosine, sine)

    last, vectors = jax.lax.fori_loop(
        0, sweeps * (even - 1), one_round, (matrix, jnp.eye(even, dtype=matrix.dtype))
    )
    return jnp.diagonal(last), vectors
