"""Functions that are mapped over a batch in pieces that stay in a core's cache, however they are vmapped."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


def in_pieces(function: Callable[..., PyTree], width: int) -> Callable[..., PyTree]:
    """Return the function with a rule for `jax.vmap`: on a CPU, `width` elements of the batch at a time.

    For iterative methods on small matrices: a wide batch of them leaves the cache at every operation, and all its
    elements take as many steps as the slowest. Vmaps inside each other are one batch. On other backends it is vmapped
    as it stands. It has no derivative.
    """

    @jax.custom_batching.custom_vmap
    def many(*stacked: PyTree) -> PyTree:
        size = len(jax.tree.leaves(stacked)[0])
        if size == 1:  # as it stands: what is not mapped is traced in half the time
            return jax.tree.map(lambda x: x[None], function(*jax.tree.map(lambda x: x[0], stacked)))
        if jax.default_backend() != "cpu" or size <= width:
            return jax.vmap(function)(*stacked)
        pieces = math.ceil(size / width)
        # Full pieces only: a rest of another size would be compiled as another program.
        places = jnp.minimum(jnp.arange(pieces * width), size - 1)
        split = jax.tree.map(lambda x: x[places].reshape(pieces, width, *x.shape[1:]), stacked)
        found = jax.lax.map(lambda piece: jax.vmap(function)(*piece), split)
        return jax.tree.map(lambda x: x.reshape(pieces * width, *x.shape[2:])[:size], found)

    @many.def_vmap
    def _flattened(axis_size: int, in_batched: list, *stacked: PyTree) -> tuple[PyTree, PyTree]:
        def whole(x: jax.Array, batched: bool) -> jax.Array:
            return x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))

        stacked = jax.tree.map(whole, stacked, tuple(in_batched))
        found = many(*jax.tree.map(lambda x: x.reshape(axis_size * x.shape[1], *x.shape[2:]), stacked))
        found = jax.tree.map(lambda x: x.reshape(axis_size, -1, *x.shape[1:]), found)
        return found, jax.tree.map(lambda _: True, found)

    def one(*arguments: Any) -> PyTree:
        return jax.tree.map(lambda x: x[0], many(*jax.tree.map(lambda x: jnp.asarray(x)[None], arguments)))

    one.__doc__ = function.__doc__
    return one
