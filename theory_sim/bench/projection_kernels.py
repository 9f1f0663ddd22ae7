"""Products with projections of 784-200-200-10 onto 768 dimensions: P x and P^T y, of one run or of several at once.

A dense matrix is read once for all runs, and is the limit of a few; for many, the matrix product is. Products with a
quarter of the dimensions tell whose time grows with d: a dense one's, and no other's (SU-A1-8, SU-A3-6).

`megabytes()` says what each projection of that network onto 750 dimensions holds, before one is drawn.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from theory_sim.bench.kernels import Kernel, Step, nbytes
from theory_sim.engine.compile import compiled
from theory_sim.subspace import (
    PROJECTIONS,
    DenseProjection,
    OneHotProjection,
    SparseProjection,
    projection_bytes,
)

AMBIENT, DIM = 199_210, 768
QUARTER = DIM // 4
TENSORS = (200, 784 * 200, 200, 200 * 200, 10, 200 * 10)
"""Biases and kernels of 784-200-200-10."""


def dense_apply_one(**size: Any) -> Kernel:
    """`P x` of one run."""
    return _product("dense", "apply", **{"runs": 1, **size})


def dense_transpose_one(**size: Any) -> Kernel:
    """`P^T y` of one run."""
    return _product("dense", "transpose", **{"runs": 1, **size})


def dense_apply_eight(**size: Any) -> Kernel:
    """`P x` of eight runs."""
    return _product("dense", "apply", **{"runs": 8, **size})


def dense_apply_quarter(**size: Any) -> Kernel:
    """`P x` of eight runs, of a quarter of the dimensions."""
    return _product("dense", "apply", **{"runs": 8, "dim": QUARTER, **size})


def dense_transpose_eight(**size: Any) -> Kernel:
    """`P^T y` of eight runs."""
    return _product("dense", "transpose", **{"runs": 8, **size})


def dense_apply_many(**size: Any) -> Kernel:
    """`P x` of 64 runs."""
    return _product("dense", "apply", **{"runs": 64, **size})


def dense_transpose_many(**size: Any) -> Kernel:
    """`P^T y` of 64 runs."""
    return _product("dense", "transpose", **{"runs": 64, **size})


def sparse_apply(**size: Any) -> Kernel:
    """`P x` of eight runs: half a million additions at random places each."""
    return _product("sparse", "apply", **{"runs": 8, **size})


def sparse_transpose(**size: Any) -> Kernel:
    """`P^T y` of eight runs."""
    return _product("sparse", "transpose", **{"runs": 8, **size})


def one_hot_apply(**size: Any) -> Kernel:
    """`P x` of eight runs: a number read for every row."""
    return _product("signed_one_hot", "apply", **{"runs": 8, **size})


def one_hot_apply_quarter(**size: Any) -> Kernel:
    """`P x` of eight runs, of a quarter of the dimensions."""
    return _product("signed_one_hot", "apply", **{"runs": 8, "dim": QUARTER, **size})


def one_hot_transpose(**size: Any) -> Kernel:
    """`P^T y` of eight runs: every row added to its column."""
    return _product("signed_one_hot", "transpose", **{"runs": 8, **size})


def fastfood_apply(**size: Any) -> Kernel:
    """`P x` of eight runs: a Hadamard transform of 2^18 entries each."""
    return _product("fastfood", "apply", **{"runs": 8, **size})


def fastfood_apply_quarter(**size: Any) -> Kernel:
    """`P x` of eight runs, of a quarter of the dimensions."""
    return _product("fastfood", "apply", **{"runs": 8, "dim": QUARTER, **size})


def fastfood_transpose(**size: Any) -> Kernel:
    """`P^T y` of eight runs."""
    return _product("fastfood", "transpose", **{"runs": 8, **size})


def megabytes(dim: int = 750, *, itemsize: int = 4) -> dict[tuple[str, str], float]:
    """Return the memory of each kind of projection of 784-200-200-10 in training, by its structure, in MB."""
    return {
        (kind, structure): projection_bytes(
            kind, AMBIENT, dim, itemsize=itemsize, sizes=TENSORS, structure=structure
        )
        / 1e6
        for kind in sorted(PROJECTIONS)
        for structure in ("whole", "tensors")
    }


def _product(kind: str, way: str, *, runs: int, ambient: int = AMBIENT, dim: int = DIM) -> Kernel:
    projection = _drawn(kind, ambient, dim)
    length = dim if way == "apply" else ambient
    vectors = jax.random.normal(jax.random.key(1), (runs, length))

    def product(projection: Any, vector: jax.Array) -> jax.Array:
        return getattr(projection, way)(vector)

    # One run alone is no batch: nothing then stands between the vector and the matrix.
    call = jax.vmap(product, (None, 0)) if runs > 1 else lambda p, x: product(p, x[0])[None]
    program = compiled(jax.jit(call).lower(projection, vectors))
    one = np.asarray(vectors[0])
    return Kernel(
        name=f"subspace.{kind}_projection {way} D={ambient} d={dim}",
        runs=runs,
        steps=1,
        call=lambda: program(projection, vectors),
        flops=_flops(projection, ambient, dim),
        shared_bytes=float(nbytes(projection.rows if kind == "dense" else projection)),
        run_bytes=float((ambient + dim) * vectors.dtype.itemsize),
        numpy=lambda: _plain(projection, way, one, ambient, dim),
        torch=(lambda: _torch(projection, way, one)) if kind == "dense" else None,
    )


@lru_cache
def _drawn(kind: str, ambient: int, dim: int) -> Any:
    """Draw once what several kernels use: a dense matrix fills a gigabyte."""
    return jax.jit(lambda key: PROJECTIONS[kind](key, ambient, dim))(jax.random.key(0))


def _flops(projection: Any, ambient: int, dim: int) -> float:
    if isinstance(projection, DenseProjection):
        return 2.0 * ambient * dim
    if isinstance(projection, SparseProjection):
        return 2.0 * projection.values.size
    if isinstance(projection, OneHotProjection):
        return 2.0 * ambient
    # Additions of a fast transform: the work that is necessary, not that of the matrix products it is written as.
    size = projection.gaussians.size
    return size * math.log2(size) + projection.head * math.log2(max(projection.head, 2))


def _plain(projection: Any, way: str, vector: np.ndarray, ambient: int, dim: int) -> Step:
    """Return the product of one run as a user writes it in NumPy."""
    forward = way == "apply"
    if isinstance(projection, DenseProjection):
        rows = np.asarray(projection.rows)
        return lambda: vector @ rows if forward else rows @ vector
    if isinstance(projection, SparseProjection):
        places, values = np.asarray(projection.positions), np.asarray(projection.values)
        if forward:
            return lambda: np.bincount(places.ravel(), (values * vector[:, None]).ravel(), ambient)
        return lambda: (values * vector[places]).sum(axis=1)
    if isinstance(projection, OneHotProjection):
        columns = np.asarray(projection.order) % dim
        entries = np.asarray(projection.signs) / np.sqrt(np.bincount(columns, minlength=dim))[columns]
        if forward:
            return lambda: vector[columns] * entries
        return lambda: np.bincount(columns, vector * entries, dim)
    return partial(_plain_fastfood, projection, forward, vector, ambient, dim)


def _plain_fastfood(projection: Any, forward: bool, vector: np.ndarray, ambient: int, dim: int) -> np.ndarray:
    signs, gaussians = np.asarray(projection.signs), np.asarray(projection.gaussians)
    permutation, scale = np.asarray(projection.permutation), float(projection.scale)
    whole = np.zeros(gaussians.size)
    if forward:
        whole[:dim] = signs * vector
        return scale * _hadamard(_hadamard(whole)[permutation] * gaussians)[:ambient]
    whole[:ambient] = vector
    mixed = np.empty_like(whole)
    mixed[permutation] = _hadamard(whole) * gaussians
    return scale * _hadamard(mixed)[:dim] * signs


def _hadamard(x: np.ndarray) -> np.ndarray:
    """The fast transform as textbooks write it: log2(L) rounds of sums and differences."""
    half = 1
    while half < x.size:
        pairs = x.reshape(-1, 2, half)
        x = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).ravel()
        half *= 2
    return x


def _torch(projection: DenseProjection, way: str, vector: np.ndarray) -> Callable[[], object]:
    import torch

    rows, x = torch.from_dlpack(projection.rows), torch.tensor(vector)
    return lambda: x @ rows if way == "apply" else rows @ x
