r"""Linear measurements of matrices: `A(M)_i = <A_i, M>` and the adjoint `A*(v) = sum_i v_i A_i`.

A Gaussian operator with `E[A*A] = I` is a dense matrix with independent entries N(0, 1/m) that acts on the entries
of `M`. A symmetric `n x n` matrix is a point of a space of dimension `n (n + 1) / 2`, and `vech` is an isometry onto
it: `<S, T> = vech(S) . vech(T)`. The operator then acts on `vech(S)`: half the memory and the traffic.

Descent on a square loss needs `A*A` alone, a matrix of `entries x entries`: with more than half as many measurements as
entries, a product with it is less work than one with `A` and one with `A*`, and no more with ever more measurements.

>>> import jax
>>> operator = gaussian(jax.random.key(0), dim=4, measurements=7)
>>> measure(operator, jnp.eye(4)).shape, adjoint(operator, jnp.ones(7)).shape
((7,), (4, 4))
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.lax import optimization_barrier
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.draws import normal
from theory_sim.simulation import check_counts


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gaussian:
    """A Gaussian operator: row i of `matrix` holds the entries of `A_i`, or `vech(A_i)` on symmetric matrices.

    The transpose is stored too, because a product is fast only along contiguous rows. `shape` is that of the
    matrices measured; None says symmetric ones, packed. `gram` is the matrix of `A*A`, where `with_gram` has it.
    """

    matrix: Float[Array, "measurements entries"]
    transpose: Float[Array, "entries measurements"]
    shape: tuple[int, int] | None = field(default=None, metadata={"static": True})
    gram: Float[Array, "entries entries"] | None = None


Operator = Gaussian | None
"""`None` is the population operator: the identity, which measures a matrix as itself."""


def gaussian(key: PRNGKeyArray, *, dim: int, measurements: int) -> Gaussian:
    """Draw `measurements` symmetric Gaussian matrices with `E[A*A] = I`.

    Their diagonal entries have variance `1/m` and the others `1/(2m)` (arXiv:2302.01186; SE-0-M2, packed as in
    SE-0-M3). Raises ValueError unless both sizes are whole numbers of at least 1.
    """
    check_counts(dim=dim, measurements=measurements)
    matrix = normal(key, (measurements, packed_size(dim))) / np.sqrt(measurements)
    return Gaussian(matrix, matrix.T)


def general_gaussian(key: PRNGKeyArray, *, rows: int, cols: int, measurements: int) -> Gaussian:
    """Draw `measurements` Gaussian `rows x cols` matrices with `E[A*A] = I`: entries N(0, 1/m) (SE-0-M1).

    Raises ValueError unless all sizes are whole numbers of at least 1.
    """
    check_counts(rows=rows, cols=cols, measurements=measurements)
    matrix = normal(key, (measurements, rows * cols)) / np.sqrt(measurements)
    return Gaussian(matrix, matrix.T, (rows, cols))


def measure(operator: Operator, matrix: Float[Array, "rows cols"]) -> Float[Array, "..."]:
    """Return `A(M)`: `m` numbers, or `M` itself under the population operator. A packed operator needs `M = M^T`."""
    return matrix if operator is None else _measure(operator, matrix)


def adjoint(operator: Operator, vector: Float[Array, "..."]) -> Float[Array, "rows cols"]:
    """Return `A*(v)`: `<A(M), v> = <M, A*(v)>` for every `M` that the operator measures (SE-0-M1)."""
    return vector if operator is None else _adjoint(operator, vector)


def normal_product(operator: Operator, matrix: Float[Array, "rows cols"]) -> Float[Array, "rows cols"]:
    """Return `A*(A(M))`, by one product with `A*A` where the operator holds it."""
    if operator is None or operator.gram is None:
        return adjoint(operator, measure(operator, matrix))
    return _normal(operator, matrix)


def with_gram(operator: Gaussian) -> Gaussian:
    """Return the operator with the matrix of `A*A`, if a product with that is less work than with `A` and `A*`."""
    measurements, entries = operator.matrix.shape
    if entries >= 2 * measurements:
        return operator
    return replace(operator, gram=operator.transpose @ operator.matrix)


def packed_size(dim: int) -> int:
    """Return `dim (dim + 1) / 2`, the dimension of the symmetric matrices."""
    return dim * (dim + 1) // 2


def vech(matrix: Float[Array, "dim dim"]) -> Float[Array, " packed"]:
    """Pack a symmetric matrix isometrically: its diagonal, then `sqrt(2)` times its upper triangle."""
    layout = _layout(matrix.shape[-1])
    entries = matrix.reshape(-1).at[layout.pack].get(mode="promise_in_bounds")
    return entries * jnp.asarray(layout.pack_scale, matrix.dtype)


def unvech(packed: Float[Array, " packed"]) -> Float[Array, "dim dim"]:
    """Return the symmetric matrix that `vech` packs into `packed`."""
    layout = _layout((int(np.sqrt(8 * packed.shape[-1] + 1)) - 1) // 2)
    entries = packed.at[layout.unpack].get(mode="promise_in_bounds")
    return entries * jnp.asarray(layout.unpack_scale, packed.dtype)


def _pack(operator: Gaussian, matrix: Float[Array, "rows cols"]) -> Float[Array, " entries"]:
    return vech(matrix) if operator.shape is None else matrix.reshape(-1)


def _unpack(operator: Gaussian, entries: Float[Array, " entries"]) -> Float[Array, "rows cols"]:
    return unvech(entries) if operator.shape is None else entries.reshape(operator.shape)


class _Layout(NamedTuple):
    """Where each packed entry lies in the flat matrix, where each entry is packed, and the factors."""

    pack: np.ndarray
    unpack: np.ndarray
    pack_scale: np.ndarray
    unpack_scale: np.ndarray


@lru_cache
def _layout(dim: int) -> _Layout:
    upper, right = np.triu_indices(dim, 1)
    rows, columns = np.r_[np.arange(dim), upper], np.r_[np.arange(dim), right]
    unpack = np.empty((dim, dim), np.int32)
    unpack[rows, columns] = unpack[columns, rows] = np.arange(len(rows))
    pack_scale = np.where(rows == columns, 1.0, np.sqrt(2.0))
    return _Layout((rows * dim + columns).astype(np.int32), unpack, pack_scale, 1 / pack_scale[unpack])


Product = Callable[[Gaussian, Array], Array]


def _of_many(many: Product) -> Callable[[Product], Product]:
    """Give a product with an operator a rule for many arguments: `many` where the operator is shared.

    All products are then plain matrix products, with the runs as columns. The barriers in the rules keep XLA
    from fusing the gathers and transposes with each other or with the product, which is slower on CPU: by half
    without any, by a twentieth without those around the packed arrays.
    """

    def decorate(single: Product) -> Product:
        product = custom_vmap(single)

        @product.def_vmap
        def rule(size: int, batched: tuple, operator: Gaussian, argument: Array) -> tuple[Array, bool]:
            if any(jax.tree.leaves(batched[0])):
                axes = jax.tree.map(lambda mapped: 0 if mapped else None, tuple(batched))
                return jax.vmap(single, axes)(operator, argument), True
            return many(operator, argument), True

        return product

    return decorate


def _measure_many(operator: Gaussian, matrices: Float[Array, "runs rows cols"]) -> Float[Array, "runs m"]:
    packed = optimization_barrier(jax.vmap(partial(_pack, operator))(optimization_barrier(matrices)))
    return optimization_barrier(operator.matrix @ optimization_barrier(packed.T)).T


def _adjoint_many(operator: Gaussian, vectors: Float[Array, "runs m"]) -> Float[Array, "runs rows cols"]:
    packed = optimization_barrier(operator.transpose @ vectors.T)
    return jax.vmap(partial(_unpack, operator))(optimization_barrier(packed.T))


def _normal_many(
    operator: Gaussian, matrices: Float[Array, "runs rows cols"]
) -> Float[Array, "runs rows cols"]:
    packed = optimization_barrier(jax.vmap(partial(_pack, operator))(optimization_barrier(matrices)))
    packed = optimization_barrier(jnp.asarray(operator.gram) @ optimization_barrier(packed.T))
    return jax.vmap(partial(_unpack, operator))(optimization_barrier(packed.T))


@_of_many(_measure_many)
def _measure(operator: Gaussian, matrix: Float[Array, "rows cols"]) -> Float[Array, " m"]:
    return operator.matrix @ _pack(operator, matrix)


@_of_many(_adjoint_many)
def _adjoint(operator: Gaussian, vector: Float[Array, " m"]) -> Float[Array, "rows cols"]:
    return _unpack(operator, operator.transpose @ vector)


@_of_many(_normal_many)
def _normal(operator: Gaussian, matrix: Float[Array, "rows cols"]) -> Float[Array, "rows cols"]:
    return _unpack(operator, jnp.asarray(operator.gram) @ _pack(operator, matrix))
