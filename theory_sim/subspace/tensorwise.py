"""One projection for each parameter tensor (DID of arXiv:2012.13255), instead of one for the whole network."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.subspace.dense import draw_dense
from theory_sim.subspace.fastfood import draw_fastfood
from theory_sim.subspace.linear_maps import Projection, check_sizes
from theory_sim.subspace.one_hot import draw_one_hot
from theory_sim.subspace.products import check_vector
from theory_sim.subspace.sparse import draw_sparse

DRAWS: dict[str, Callable[[PRNGKeyArray, int, int], Projection]] = {
    "dense": draw_dense,
    "fastfood": draw_fastfood,
    "one_hot": draw_one_hot,
    "signed_one_hot": partial(draw_one_hot, signed=True),
    "sparse": lambda key, ambient, dim: draw_sparse(key, [ambient], dim),
}
"""Each kind of projection, also for tensors with fewer entries than there are dimensions."""


@flax.struct.dataclass
class TensorwiseProjection:
    """`P` is a stack of projections of the same d coordinates, one for each tensor in turn."""

    parts: tuple[Projection, ...]
    sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x`."""
        return jnp.concatenate([part.apply(x) for part in self.parts])

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return `P^T y`."""
        check_vector("transpose", "D", sum(self.sizes), y)
        pieces = jnp.split(y, np.cumsum(self.sizes)[:-1])
        return sum(
            (p.transpose(y) for p, y in zip(self.parts[1:], pieces[1:], strict=True)),
            start=self.parts[0].transpose(pieces[0]),
        )

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`."""
        return sum((part.gram() for part in self.parts[1:]), start=self.parts[0].gram())

    def restricted(self, dim: Int[Array, ""] | int) -> "TensorwiseProjection":
        """Return the stack of the restricted projections."""
        return TensorwiseProjection(tuple(part.restricted(dim) for part in self.parts), self.sizes)

    def spread(self, scales: Float[Array, " tensors"]) -> Float[Array, " D"]:
        """Return the scale of each parameter: SAID moves by `spread(lambda) * apply(theta_d)` (SU-A2-F2)."""
        return jnp.repeat(scales, np.asarray(self.sizes), total_repeat_length=sum(self.sizes))


def tensorwise_projection(
    kind: str, sizes: Sequence[int], *, dtype: Any = float
) -> Callable[[PRNGKeyArray, int, int], TensorwiseProjection]:
    """Return the function `(key, ambient, dim) -> projection` that draws one projection of a kind for each tensor.

    Tensor i has `sizes[i]` parameters, in the order of the flat vector. Columns have unit norm within every tensor
    (in expectation for Fastfood), hence `sqrt(len(sizes))` in all (SU-A2-F1): a step of size s moves the parameters
    that much farther than with one projection for the whole network. Fastfood pads a tensor of fewer than d entries to
    d, instead of ignoring the rest of theta_d (SU-A2-P2). A one-hot column that no row of a tensor reads is zero there.
    Dense matrices are drawn in the floating type `dtype`, the others, which hold little, in the default one.

    Raises ValueError for an unknown kind, for sizes below 1 and, when drawing, unless the sizes sum to ambient and
    1 <= dim <= ambient. Source: arXiv:2012.13255 with the normalisation of arXiv:1804.08838 (SU-A1-F6).
    """
    if kind not in DRAWS:
        raise ValueError(f"unknown projection {kind!r}, expected one of {sorted(DRAWS)}")
    if min(sizes, default=0) < 1:
        raise ValueError(f"sizes must be one positive number for each tensor, got {list(sizes)}")

    def draw(key: PRNGKeyArray, ambient: int, dim: int) -> TensorwiseProjection:
        check_sizes(ambient, dim)
        if sum(sizes) != ambient:
            raise ValueError(f"the sizes of the tensors must sum to ambient={ambient}, got {list(sizes)}")
        drawn = partial(draw_dense, dtype=dtype) if kind == "dense" else DRAWS[kind]
        parts = [drawn(jax.random.fold_in(key, i), size, dim) for i, size in enumerate(sizes)]
        return TensorwiseProjection(tuple(parts), tuple(sizes))

    return draw
