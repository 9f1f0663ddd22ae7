r"""The network of one layer of attention and one hidden layer, and its hinge loss.

    F_c(X) = (1/|S|) sum_{l in S} a_c^T ReLU( W_O W_V X softmax( X^T W_K^T W_Q x_l ) )

with the tokens as columns of X (arXiv:2302.06015, model; AT-B-M1). The heads `a_c` are fixed and are the same for
all tokens, so that F does not depend on their order. Two classes have opposite heads, and `F_0` is the paper's F;
more classes have one output each, trained one against the rest.

>>> import jax.numpy as jnp
>>> weights = Weights(jnp.eye(3), jnp.eye(3), jnp.eye(3), jnp.ones((4, 3)))
>>> (neurons(weights, jnp.ones((2, 5, 3)), queries=2) @ heads(2, 4, most=2, width=4).T)[0].tolist()
[0.0, 0.0]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from theory_sim.attention.products import mixtures, product, similarities


class Weights(NamedTuple):
    """The trained matrices `W_Q`, `W_K`, `W_V`, `W_O`."""

    query: Float[Array, "dim dim"]
    key: Float[Array, "dim dim"]
    value: Float[Array, "dim dim"]
    output: Float[Array, "width dim"]


def heads(classes: int | Array, used: int | Array, *, most: int, width: int) -> Float[Array, "most width"]:
    """Return the fixed heads `a_c` of `classes` classes on the first `used` neurons, and zeros elsewhere.

    Neuron i speaks for class `i mod K` with `1/sqrt(m)` and against each other one with `1/((K - 1) sqrt(m))`, so that
    the outputs sum to zero. For two classes the entries are `1/sqrt(m)` and `-1/sqrt(m)` in turn (AT-B-M3).
    """
    neuron, class_ = jnp.arange(width), jnp.arange(most)[:, None]
    sign = jnp.where(neuron % classes == class_, 1.0, -1.0 / (classes - 1))
    return jnp.where((neuron < used) & (class_ < classes), sign, 0.0) / jnp.sqrt(1.0 * used)


def neurons(
    weights: Weights,
    tokens: Float[Array, "samples tokens dim"],
    queries: int,
    score_scale: float | Array = 1.0,
) -> Float[Array, "samples width"]:
    """Return the hidden neurons, averaged over the set S of queries, the first `queries` tokens."""
    samples, _, dim = tokens.shape
    attended_BxSxD = mixtures(attention(weights, tokens, queries, score_scale), tokens)
    # One axis for all queries: each run then has few products of large matrices, which batch well over runs. Samples
    # last, so that the mean over queries adds whole rows.
    attended_DxN = attended_BxSxD.T.reshape(dim, queries * samples)
    hidden_MxN = product(weights.output, product(weights.value, attended_DxN))
    return jax.nn.relu(hidden_MxN).reshape(-1, queries, samples).mean(axis=1).T


def attention(
    weights: Weights,
    tokens: Float[Array, "samples tokens dim"],
    queries: int,
    score_scale: float | Array = 1.0,
) -> Float[Array, "samples queries tokens"]:
    """Return the attention of the first `queries` tokens to all tokens: `softmax( s X^T W_K^T W_Q x_l )`.

    `score_scale` is the factor s: 1 is the model, and 0 gives uniform attention that does not train (AT-B-U2).
    """
    samples, _, dim = tokens.shape
    asked_NxD = tokens[:, :queries].reshape(samples * queries, dim) @ (weights.query.T @ weights.key)
    scores_BxSxL = similarities(asked_NxD.reshape(samples, queries, dim), tokens)
    return jax.nn.softmax(score_scale * scores_BxSxL, axis=-1)


def hinge(
    outputs: Float[Array, "*more samples most"], labels: Int[Array, " samples"], classes: int | Array = 2
) -> Float[Array, "*more samples"]:
    """Return the mean over classes of `max(0, 1 - y_c F_c)`, `y_c` being 1 for the label and -1 for the rest.

    For two classes, with opposite outputs, that is `max(0, 1 - y F)` (AT-B-U1).
    """
    own, used = _own(outputs, labels), jnp.arange(outputs.shape[-1]) < classes
    losses = jnp.maximum(0.0, 1.0 - jnp.where(own, outputs, -outputs))
    return jnp.sum(jnp.where(used, losses, 0.0), axis=-1) / classes


def wrong(
    outputs: Float[Array, "*more samples most"], labels: Int[Array, " samples"], classes: int | Array = 2
) -> Float[Array, "*more samples"]:
    """Return 0 for each sample whose label has the largest output of all classes, else (a tie) 1."""
    own, used = _own(outputs, labels), jnp.arange(outputs.shape[-1]) < classes
    best = jnp.max(jnp.where(own | ~used, -jnp.inf, outputs), axis=-1)
    return jnp.where(jnp.sum(jnp.where(own, outputs, 0.0), axis=-1) > best, 0.0, 1.0)


def _own(outputs: Float[Array, "*more samples most"], labels: Int[Array, " samples"]) -> Array:
    return labels[:, None] == jnp.arange(outputs.shape[-1])
