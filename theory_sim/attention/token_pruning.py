r"""Pruning of tokens at test time: irrelevant ones first, noisy ones first, or at random (AT-B5).

A token that is removed is neither attended to nor asks: what is left is the network on a shorter sequence, all of whose
tokens are in the set S.

>>> import numpy as np
>>> removed_counts(12).tolist()
[0, 2, 4, 6, 8, 10]
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from theory_sim.attention.network import Weights
from theory_sim.attention.patterns import Sequences
from theory_sim.decompositions import sort_places

TOKEN_ORDERS = ("irrelevant_first", "noisy_first", "at_random")


def removed_counts(tokens: int) -> Int[np.ndarray, " cuts"]:
    """Return the numbers of removed tokens that are looked at: at most six, from none, at least one token left."""
    return np.arange(0, tokens, max(1, -(-tokens // 6)))


def removals(data: Sequences, dtype: jnp.dtype) -> Int[Array, "orders samples tokens"]:
    """Return for each of `TOKEN_ORDERS` the place of each token in the order of removal, from 0.

    Irrelevant first: then confusion tokens, then relevant ones, each kind in the random order of the sequence.
    Noisy first: by the norm of the noise. At random: the order in the sequence.
    """
    harm = jnp.where(data.irrelevant, 0, jnp.where(data.relevant, 2, 1)).astype(dtype)
    in_turn = jnp.broadcast_to(jnp.arange(data.noise.shape[1], dtype=dtype), data.noise.shape)
    return jax.vmap(jax.vmap(sort_places))(jnp.stack([harm, -data.noise, in_turn]))


def outputs_without(
    weights: Weights,
    tokens: Float[Array, "samples tokens dim"],
    removal: Int[Array, "orders samples tokens"],
    score_scale: float | Array = 1.0,
) -> Float[Array, "orders cuts samples width"]:
    """Return the hidden neurons, averaged over the tokens left, for all orders and all of `removed_counts`."""
    count = tokens.shape[1]
    asked = tokens @ (weights.query.T @ weights.key)
    scores_BxLxL = score_scale * asked @ jnp.swapaxes(tokens, 1, 2)

    def without(place: tuple[Array, Array]) -> Float[Array, "samples width"]:
        order, removed = place
        left: Bool[Array, "samples tokens"] = removal[order] >= removed
        attention = jax.nn.softmax(jnp.where(left[:, None], scores_BxLxL, -jnp.inf), axis=-1)
        hidden = jax.nn.relu(attention @ tokens @ weights.value.T @ weights.output.T)
        return jnp.sum(jnp.where(left[..., None], hidden, 0.0), axis=1) / (count - removed)

    cuts = removed_counts(count)
    orders, counts = np.meshgrid(np.arange(len(removal)), cuts, indexing="ij")
    # One cut at a time: all at once would need their number of times the memory of the test set's neurons.
    outputs = jax.lax.map(without, (jnp.asarray(orders.ravel()), jnp.asarray(counts.ravel())))
    return outputs.reshape(len(removal), len(cuts), *outputs.shape[1:])
