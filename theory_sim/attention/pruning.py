r"""Pruning of hidden neurons by the norm of their rows, and the two groups those norms fall into.

Where `count` is given, the first `count` rows are in use and the others do not matter.

>>> import jax.numpy as jnp
>>> groups = two_groups(jnp.array([0.01, 0.5, 0.012, 0.6, 0.011, 0.55, 0.0]), count=6)
>>> float(groups.small_fraction), bool(groups.separation > UNIMODAL_SEPARATION)
(0.5, True)
>>> kept(jnp.array([2, 0, 1]), jnp.array([0.0, 1 / 3, 1.0])).tolist()
[[True, True, True], [True, False, True], [False, False, False]]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from theory_sim.decompositions import sort_places

ORDERS = ("small_first", "large_first", "random")
UNIMODAL_SEPARATION = 0.75
"""The most that the between-group share of the variance can be for a symmetric unimodal distribution.

Derived: such a distribution is a mixture of uniforms on [-w, w] (Khinchin). Cut at its centre, the share is
`(E|x|)^2 / E x^2 = ((E w)^2 / 4) / (E w^2 / 3) <= 3/4`, and 3/4 for one uniform. A Gaussian has `2 / pi`.
"""


class Groups(NamedTuple):
    """Two groups of norms, the norm of a group being its geometric mean.

    `threshold` is the geometric mean of the largest small norm and the smallest large one. `separation` is the share
    of the variance of the log norms that lies between the groups, from 0 to 1; above `UNIMODAL_SEPARATION` there are
    two modes.
    """

    small_fraction: Float[Array, ""]
    small_norm: Float[Array, ""]
    large_norm: Float[Array, ""]
    threshold: Float[Array, ""]
    separation: Float[Array, ""]


def two_groups(norms: Float[Array, " width"], count: int | Array | None = None) -> Groups:
    """Split positive norms in two where the between-group variance of their logarithms is largest (Otsu).

    Logarithms, because the groups differ by a factor. Otsu's split and not the largest gap, which a single
    outlier decides. Ashman's D above 2 is no test of a sample that was cut in two: a Gaussian has 2.6.
    Equal norms have separation 0 and a small group of one.
    """
    width = len(norms)
    count = width if count is None else count
    used = jnp.arange(width) < count
    logs = jnp.where(used, in_order(jnp.log(jnp.where(used, norms, jnp.inf))), 0.0)
    small = jnp.arange(1, width)
    sums = jnp.cumsum(logs)
    low, high = sums[:-1] / small, (sums[-1] - sums[:-1]) / jnp.maximum(count - small, 1)
    between = jnp.where(small < count, small * (count - small) / count**2 * jnp.square(high - low), 0.0)
    best = jnp.argmax(between)
    variance = jnp.var(logs, where=used)
    return Groups(
        small_fraction=small[best] / count,
        small_norm=jnp.exp(low[best]),
        large_norm=jnp.exp(high[best]),
        threshold=jnp.exp((logs[best] + logs[jnp.minimum(best + 1, count - 1)]) / 2),
        separation=between[best] / jnp.where(variance > 0, variance, 1.0),
    )


def in_order(values: Float[Array, " count"]) -> Float[Array, " count"]:
    """Return the values in increasing order."""
    return jnp.zeros_like(values).at[sort_places(values)].set(values, unique_indices=True)


def quantiles(
    values: Float[Array, " width"], levels: Float[Array, " levels"], count: int | Array | None = None
) -> Float[Array, " levels"]:
    """Return quantiles; the i-th of n values in order is that of level `(i + 1/2) / n`, linear in between."""
    width = len(values)
    count = width if count is None else count
    used = jnp.arange(width) < count
    # What is not in use counts as one more largest value each, beyond the level 1.
    filled = jnp.where(used, values, jnp.max(jnp.where(used, values, -jnp.inf)))
    return jnp.interp(levels, (jnp.arange(width) + 0.5) / count, in_order(filled))


def pruning_ranks(
    norms: Float[Array, " width"], shuffle: Int[Array, " width"], count: int | Array | None = None
) -> Int[Array, "orders width"]:
    """Return for each of `ORDERS` the place of each neuron in the order of removal, from 0.

    `shuffle` is a permutation of all neurons. Those that are not in use come after the others.
    """
    width = len(norms)
    used = jnp.arange(width) < (width if count is None else count)
    scores = jnp.stack([norms, -norms, shuffle.astype(norms.dtype)])
    return jax.vmap(sort_places)(jnp.where(used, scores, jnp.inf))


def kept(
    removal: Int[Array, " width"], fractions: Float[Array, " cuts"], count: int | Array | None = None
) -> Bool[Array, "cuts width"]:
    """Return which neurons remain when the given fractions of them, to the nearest neuron, are removed."""
    count = len(removal) if count is None else count
    return removal >= jnp.round(fractions * count)[:, None]


def pruned_outputs(
    neurons: Float[Array, "samples width"],
    heads: Float[Array, "classes width"],
    removal: Int[Array, "orders width"],
    fractions: Float[Array, " cuts"],
    count: int | Array | None = None,
) -> Float[Array, "orders cuts samples classes"]:
    """Return the network's outputs for every order and fraction of pruning, as one matrix product.

    Removing a row of `W_O` removes exactly what its neuron adds to the outputs, since it leaves attention and the
    other neurons as they are (AT-C-U1).
    """
    masks = jax.vmap(lambda order: kept(order, fractions, count))(removal)
    heads_PxFxCxM = masks[:, :, None].astype(heads.dtype) * heads
    return jnp.swapaxes(heads_PxFxCxM @ neurons.T, -1, -2)
