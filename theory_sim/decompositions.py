r"""Orthonormal bases, spectra and inverses of small matrices, in plain array operations.

Jitted, they are traced once a shape and process, not at every call of every program; their loops are most of a trace.

Batches of LAPACK calls block the threads that they wait for: on a CPU, `jnp.linalg` calls that overlap, of two
devices or of one program, can wait for each other for ever (jaxlib 0.10). The matrices here are small.

>>> import jax.numpy as jnp
>>> values, directions = leading_directions(jnp.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]))
>>> values.tolist(), jnp.abs(jnp.round(directions[:2], 12)).tolist()
([2.0, 1.0, 0.0], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@jax.jit
def sort_places(values: Float[Array, " count"]) -> Int[Array, " count"]:
    """Return the place of each value in increasing order, from 0; equal values are ordered by their index.

    By counting all pairs: XLA takes seconds to compile a sort for a CPU. The places of independent uniform numbers are
    a random permutation.
    """
    index = jnp.arange(len(values))
    before = (values[:, None] == values) & (index[:, None] > index)
    return jnp.sum((values[:, None] > values) | before, axis=1)


@jax.jit
def orthonormal_rows(rows: Float[Array, "count dim"]) -> Float[Array, "count dim"]:
    """Return independent rows orthonormalised in turn (Gram-Schmidt, each projection done twice).

    Gaussian rows give a uniformly random orthonormal system. Rows that are zero stay zero.
    """

    def add(i: Array, done: Float[Array, "count dim"]) -> Float[Array, "count dim"]:
        row = rows[i]
        for _ in range(2):
            row = row - (done @ row) @ done
        square = row @ row
        return done.at[i].set(row / jnp.sqrt(jnp.where(square > 0, square, 1.0)))

    return jax.lax.fori_loop(0, len(rows), add, jnp.zeros_like(rows))


@jax.jit
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
    order = jnp.zeros(even, int).at[sort_places(-squares)].set(jnp.arange(even), unique_indices=True)
    values = scale * jnp.sqrt(jnp.maximum(squares[order], 0.0))
    return values[:dim], vectors[order][:dim, :dim]


@jax.jit
def cholesky(matrix: Float[Array, "size size"]) -> Float[Array, "size size"]:
    """Return the upper triangular `R` with `R^T R = matrix`, row by row; NaN unless the matrix is positive definite.

    The rows of a factor come from those above it, so that each step reads the factor once and writes one row: under
    vmap on a CPU, several times faster than updating all that remains of the matrix.
    """
    index = jnp.arange(len(matrix))

    def row(i: Array, factor: Float[Array, "size size"]) -> Float[Array, "size size"]:
        left = matrix[i] - factor[:, i] @ factor
        root = jnp.sqrt(jnp.where(left[i] > 0, left[i], jnp.nan))
        return factor.at[i].set(jnp.where(index >= i, left / root, 0.0))

    return jax.lax.fori_loop(0, len(matrix), row, jnp.zeros_like(matrix))


@jax.jit
def forward_substitution(
    factor: Float[Array, "size size"], right: Float[Array, "size columns"]
) -> Float[Array, "size columns"]:
    """Return `R^-T right` for an upper triangular `R`."""

    def row(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        left, done = state
        value = left[i] / factor[i, i]
        return left - factor[i][:, None] * value, done.at[i].set(value)

    return jax.lax.fori_loop(0, len(factor), row, (right, jnp.zeros_like(right)))[1]


@jax.jit
def solve_cholesky(
    factor: Float[Array, "size size"], right: Float[Array, "size columns"]
) -> Float[Array, "size columns"]:
    """Return the solution `S` of `R^T R S = right`, `R` being what `cholesky` gives."""
    half = forward_substitution(factor, right)

    def row(i: Array, done: Float[Array, "size columns"]) -> Float[Array, "size columns"]:
        last = len(factor) - 1 - i
        return done.at[last].set((half[last] - factor[last] @ done) / factor[last, last])

    return jax.lax.fori_loop(0, len(factor), row, jnp.zeros_like(right))


@jax.jit
def covering_rows(rows: Float[Array, "count dim"]) -> Float[Array, "count dim"]:
    """Return orthonormal rows whose span contains the given ones, dependent or not; at most `dim` of them.

    By Householder reflections, which need no independence: where the rows are dependent, the span is larger.
    """
    count, dim = rows.shape

    def reflect(vectors: Array, mirror: Float[Array, " dim"]) -> Array:
        return vectors - 2 * jnp.outer(vectors @ mirror, mirror)

    def eliminate(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        left, mirrors = state
        row = jnp.where(jnp.arange(dim) >= i, left[i], 0.0)
        mirror = row.at[i].add(jnp.where(row[i] < 0, -1.0, 1.0) * jnp.linalg.norm(row))
        norm = jnp.linalg.norm(mirror)
        # What is left of dependent rows shrinks until its square underflows: no reflection then.
        usable = norm > jnp.sqrt(jnp.finfo(rows.dtype).tiny)
        mirror = jnp.where(usable, mirror / jnp.where(usable, norm, 1.0), 0.0)
        return reflect(left, mirror), mirrors.at[i].set(mirror)

    _, mirrors = jax.lax.fori_loop(0, count, eliminate, (rows, jnp.zeros_like(rows)))
    start = jnp.eye(count, dim, dtype=rows.dtype)
    return jax.lax.fori_loop(0, count, lambda i, basis: reflect(basis, mirrors[count - 1 - i]), start)


@jax.jit
def span_basis(rows: Float[Array, "count dim"]) -> Float[Array, "count dim"]:
    """Return an orthonormal basis of the span of the rows, with zeros in the place of rows that depend on others.

    Gram-Schmidt, each projection done twice. A row counts as dependent when less than the root of the machine
    precision of its norm is left.
    """
    least = jnp.sqrt(jnp.finfo(rows.dtype).eps)

    def add(i: Array, done: Float[Array, "count dim"]) -> Float[Array, "count dim"]:
        row = rows[i]
        for _ in range(2):
            row = row - (done @ row) @ done
        norm = jnp.linalg.norm(row)
        independent = norm > least * jnp.linalg.norm(rows[i])
        return done.at[i].set(jnp.where(independent, row / jnp.where(independent, norm, 1.0), 0.0))

    return jax.lax.fori_loop(0, len(rows), add, jnp.zeros_like(rows))


@jax.jit
def solve_spd(
    matrix: Float[Array, "size size"], right: Float[Array, "size columns"]
) -> Float[Array, "size columns"]:
    """Return the solution `S` of `matrix @ S = right` for a symmetric positive definite matrix, by elimination.

    It is as accurate as the matrix scaled to a unit diagonal is well conditioned: blocks of any size may meet. A
    pivot that rounding has eaten counts as the rounding error of its diagonal entry, so that a singular matrix
    with a positive diagonal has a finite answer, though no accurate one.
    """
    size = len(matrix)
    index = jnp.arange(size)
    rounding = size * jnp.finfo(matrix.dtype).eps * jnp.diagonal(matrix)

    def eliminate(i: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        rest, lower, pivots = state
        pivot = jnp.maximum(rest[i, i], rounding[i])
        factor = jnp.where(index > i, rest[:, i] / pivot, 0.0)[:, None]
        return rest - factor * rest[i], lower - factor * lower[i], pivots.at[i].set(pivot)

    # Eliminating in `[matrix, 1]` gives the inverse of the unit lower triangle: no second pass is needed.
    start = (matrix, jnp.eye(size, dtype=matrix.dtype), jnp.ones(size, matrix.dtype))
    _, lower, pivots = jax.lax.fori_loop(0, size, eliminate, start)
    return lower.T @ ((lower @ right) / pivots[:, None])


def of_spectrum(
    function: Callable[[Float[Array, " even"]], Float[Array, " even"]], matrix: Float[Array, "size size"]
) -> Float[Array, "size size"]:
    """Return `V function(values) V^T`, where `matrix = V values V^T` is symmetric.

    The function sees the eigenvalues in no order, and perhaps some ones that belong to no eigenvector.
    """
    size = len(matrix)
    even = max(4, size + size % 2)
    beyond = jnp.diag((jnp.arange(even) >= size).astype(matrix.dtype))
    values, vectors = _jacobi(jnp.pad(matrix, (0, even - size)) + beyond)
    return ((vectors.T * function(values)) @ vectors)[:size, :size]


@jax.jit
def pseudo_inverse(gram: Float[Array, "size size"]) -> Float[Array, "size size"]:
    """Return the Moore-Penrose inverse of a symmetric positive semi-definite matrix.

    Eigenvalues below `size` times the machine precision times the largest diagonal entry count as zero.
    """
    scale = jnp.max(jnp.diagonal(gram))
    scale = jnp.where(scale > 0, scale, 1.0)
    cutoff = len(gram) * jnp.finfo(gram.dtype).eps

    def inverse(values: Array) -> Array:
        kept = values > cutoff
        return jnp.where(kept, 1 / jnp.where(kept, values, 1.0), 0.0)

    return of_spectrum(inverse, gram / scale) / scale


@jax.jit
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
