r"""The network of one layer of attention and one hidden layer, and its hinge loss.

    F(X) = (1/|S|) sum_{l in S} a^T ReLU( W_O W_V X softmax( X^T W_K^T W_Q x_l ) )

with the tokens as columns of X (arXiv:2302.06015, model; AT-B-M1). The head `a` is fixed and is the same for
all tokens, so that F does not depend on their order.

>>> import jax.numpy as jnp
>>> weights = Weights(jnp.eye(3), jnp.eye(3), jnp.eye(3), jnp.ones((4, 3)))
>>> contributions(weights, jnp.ones((2, 5, 3)), queries=2)[0].tolist()
[1.5, -1.5, 1.5, -1.5]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Weights(NamedTuple):
    """The trained matrices `W_Q`, `W_K`, `W_V`, `W_O`."""

    query: Float[Array, "dim dim"]
    key: Float[Array, "dim dim"]
    value: Float[Array, "dim dim"]
    output: Float[Array, "width dim"]


def head(width: int) -> Float[Array, " width"]:
    """Return the fixed head `a`: `1/sqrt(width)` and `-1/sqrt(width)` in turn."""
    return jnp.where(jnp.arange(width) % 2 == 0, 1.0, -1.0) / jnp.sqrt(1.0 * width)


def contributions(
    weights: Weights, tokens: Float[Array, "samples tokens dim"], queries: int
) -> Float[Array, "samples width"]:
    """Return what each hidden neuron adds to the output `F(X)`; the first `queries` tokens are the set S."""
    samples, _, dim = tokens.shape
    width = len(weights.output)
    attended_BxSxD = attention(weights, tokens, queries) @ tokens
    # One axis for all queries: each run then has few products of large matrices, which batch well over runs.
    hidden_NxM = (attended_BxSxD.reshape(samples * queries, dim) @ weights.value.T) @ weights.output.T
    return jax.nn.relu(hidden_NxM).reshape(samples, queries, width).mean(axis=1) * head(width)


def attention(
    weights: Weights, tokens: Float[Array, "samples tokens dim"], queries: int
) -> Float[Array, "samples queries tokens"]:
    """Return the attention of the first `queries` tokens to all tokens: `softmax( X^T W_K^T W_Q x_l )`."""
    samples, _, dim = tokens.shape
    asked_NxD = tokens[:, :queries].reshape(samples * queries, dim) @ (weights.query.T @ weights.key)
    scores_BxSxL = asked_NxD.reshape(samples, queries, dim) @ jnp.swapaxes(tokens, 1, 2)
    return jax.nn.softmax(scores_BxSxL, axis=-1)


def hinge(
    outputs: Float[Array, "*more samples"], labels: Float[Array, " samples"]
) -> Float[Array, "*more samples"]:
    """Return the hinge loss `max(0, 1 - y F)` of each sample (AT-B-U1)."""
    return jnp.maximum(0.0, 1.0 - labels * outputs)


def wrong(
    outputs: Float[Array, "*more samples"], labels: Float[Array, " samples"]
) -> Float[Array, "*more samples"]:
    """Return 1 for each sample that is on the wrong side or undecided, else 0."""
    return jnp.where(labels * outputs > 0, 0.0, 1.0)
