r"""Random linear maps from a few coordinates into all the parameters of a network, by name.

A projection `P` [D, d] sends the trained vector `theta_d` to `P theta_d`, a displacement of all D parameters
(SU-0-F1); gradients come back through `P^T`. Columns have unit norm over the whole parameter vector (SU-A1-F6).

>>> import jax
>>> projection = PROJECTIONS["sparse"](jax.random.key(0), 1000, 3)
>>> projection.apply(jax.numpy.ones(3)).shape, projection.transpose(jax.numpy.ones(1000)).shape
((1000,), (3,))

One draw serves every smaller dimension: `projection.restricted(dim)`, with `dim` traced.
"""

import difflib
from collections.abc import Callable
from functools import partial

from jaxtyping import PRNGKeyArray

from theory_sim.subspace.dense import dense_projection
from theory_sim.subspace.fastfood import fastfood_projection
from theory_sim.subspace.linear_maps import Projection
from theory_sim.subspace.one_hot import one_hot_projection
from theory_sim.subspace.sparse import sparse_projection

PROJECTIONS: dict[str, Callable[[PRNGKeyArray, int, int], Projection]] = {
    "dense": dense_projection,
    "fastfood": fastfood_projection,
    "one_hot": one_hot_projection,
    "signed_one_hot": partial(one_hot_projection, signed=True),
    "sparse": sparse_projection,
}
"""The functions `(key, ambient, dim) -> Projection` of one projection for all parameters."""


def projection_named(name: str) -> Callable[[PRNGKeyArray, int, int], Projection]:
    """Return the function `(key, ambient, dim) -> Projection` of that name; ValueError lists the legal names."""
    if not isinstance(name, str) or name not in PROJECTIONS:
        near = difflib.get_close_matches(str(name), PROJECTIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown projection {name!r}, expected one of {sorted(PROJECTIONS)}{hint}")
    return PROJECTIONS[name]
