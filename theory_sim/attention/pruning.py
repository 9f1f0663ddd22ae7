r"""Pruning of hidden neurons by the norm of their rows, and the two groups those norms fall into.

>>> import jax.numpy as jnp
>>> groups = two_groups(jnp.array([0.01, 0.5, 0.012, 0.6, 0.011, 0.55]))
>>> float(groups.small_fraction), bool(groups.separation > UNIMODAL_SEPARATION)
(0.5, True)
>>> kept(jnp.array([2, 0, 1]), jnp.array([0.0, 1 / 3, 1.0])).tolist()
[[True, True, True], [True, False, True], [False, False, False]]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from theory_sim.decompositions import ranks

ORDERS = ("small_first", "large_first", "random")
UNIMODAL_SEPARATION = 0.75
"""The most that the between-group share of the variance can be for a symmetric unimodal distribution.

Derived: such a distribution is a mixture of uniforms on [-w, w] (Khinchin). Cut at its centre, the share is
`(E|x|)^2 / E x^2 = ((E w)^2 / 4) / (E w^2 / 3) <= 3/4`, and 3/4 for one uniform. A Gaussian has `2 / pi`.
"""


class Groups(NamedTuple):
    """Two groups of norms, the norm of a group being its geometric mean.

    `separation` is the share of the variance of the log norms that lies between the groups, from 0 to 1;
    above `UNIMODAL_SEPARATION` there are two modes.
    """

    small_fraction: Float[Array, ""]
    small_norm: Float[Array, ""]
    large_norm: Float[Array, ""]
    separation: Float[Array, ""]


def two_groups(norms: Float[Array, " width"]) -> Groups:
    """Split positive norms in two where the between-group variance of their logarithms is largest (Otsu).

    Logarithms, because the groups differ by a factor. Otsu's split and not the largest gap, which a single
    outlier decides. Ashman's D above 2 is no test of a sample that was cut in two: a Gaussian has 2.6.
    Equal norms have separation 0 and a small group of one.
    """
    logs = jnp.log(in_order(norms))
    width = len(logs)
    small = jnp.arange(1, width)
    sums = jnp.cumsum(logs)
    low, high = sums[:-1] / small, (sums[-1] - sums[:-1]) / (width - small)
    between = small * (width - small) / width**2 * jnp.square(high - low)
    best = jnp.argmax(between)
    variance = jnp.var(logs)
    return Groups(
        small_fraction=small[best] / width,
        small_norm=jnp.exp(low[best]),
        large_norm=jnp.exp(high[best]),
        separation=between[best] / jnp.where(variance > 0, variance, 1.0),
    )


def in_order(values: Float[Array, " count"]) -> Float[Array, " count"]:
    """Return the values in increasing order."""
    return jnp.zeros_like(values).at[ranks(values)].set(values, unique_indices=True)


def quantiles(values: Float[Array, " count"], levels: Float[Array, " levels"]) -> Float[Array, " levels"]:
    """Return quantiles; the i-th of n values in order is that of level `(i + 1/2) / n`, linear in between."""
    count = len(values)
    return jnp.interp(levels, (jnp.arange(count) + 0.5) / count, in_order(values))


def pruning_ranks(norms: Float[Array, " width"], shuffle: Int[Array, " width"]) -> Int[Array, "orders width"]:
    """Return for each of `ORDERS` the place of each neuron in the order of removal, from 0.

    `shuffle` is a permutation, the places in random order.
    """
    by_norm = ranks(norms)
    return jnp.stack([by_norm, len(norms) - 1 - by_norm, shuffle])


def kept(removal: Int[Array, " width"], fractions: Float[Array, " cuts"]) -> Bool[Array, "cuts width"]:
    """Return which neurons remain when the given fractions of them, to the nearest neuron, are removed."""
    return removal >= jnp.round(fractions * len(removal))[:, None]


def pruned_outputs(
    contributions: Float[Array, "samples width"],
    removal: Int[Array, "orders width"],
    fractions: Float[Array, " cuts"],
) -> Float[Array, "orders cuts samples"]:
    """Return the network's outputs for every order and fraction of pruning, as one matrix product.

    `contributions` is what each neuron adds to the output. Removing a row of `W_O` removes exactly its
    contribution, since it leaves attention and the other neurons as they are (AT-C-U1).
    """
    masks = jax.vmap(kept, in_axes=(0, None))(removal, fractions)
    return masks.astype(contributions.dtype) @ contributions.T
