r"""The pattern data model: sequences of noisy orthonormal patterns, two of which decide the label.

A sequence of label `y` holds, on average, a fraction alpha_* of tokens with the discriminative pattern of
its own label (label-relevant), a fraction alpha_# with that of the other label (confusion), and irrelevant
patterns, uniformly. The label is the majority vote of the discriminative tokens (arXiv:2302.06015; AT-B-M2).

>>> import jax
>>> basis = orthonormal_patterns(jax.random.key(0), dim=8)
>>> data = draw_sequences(jax.random.key(1), basis, Setting(5, 0.5, 0.25), samples=3, tokens=4)
>>> data.tokens.shape, data.relevant.sum(axis=1).tolist()
((3, 4, 8), [2, 2, 2])
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from theory_sim.decompositions import orthonormal_rows, ranks


class Setting(NamedTuple):
    """What a problem is drawn with.

    `patterns` is the number M of patterns in use, `relevant_fraction` alpha_*, `confusion_fraction` alpha_#.
    Each coordinate of a token has Gaussian noise of standard deviation `token_noise`. With probability
    `label_noise` a training label is replaced by a fair coin: 1 makes the labels random.
    """

    patterns: int = 3
    relevant_fraction: float = 0.4
    confusion_fraction: float = 0.1
    token_noise: float = 0.1
    label_noise: float = 0.0


class Sequences(NamedTuple):
    """Sequences with their true labels, -1 or 1, and the labels given to a learner, some of them noise.

    `relevant` marks the tokens whose pattern is that of the true label.
    """

    tokens: Float[Array, "samples tokens dim"]
    labels: Float[Array, " samples"]
    given: Float[Array, " samples"]
    relevant: Bool[Array, "samples tokens"]


def orthonormal_patterns(key: PRNGKeyArray, *, dim: int) -> Float[Array, "dim dim"]:
    """Draw `dim` random orthonormal rows, of which a problem uses the first M; rows 0 and 1 are mu_1, mu_2."""
    return orthonormal_rows(jax.random.normal(key, (dim, dim)))


def draw_sequences(
    key: PRNGKeyArray, basis: Float[Array, "dim dim"], setting: Setting, *, samples: int, tokens: int
) -> Sequences:
    """Draw `samples` sequences whose labels are fair coins; mu_1 is the pattern of label 1, mu_2 of label -1.

    Token counts are the fractions times `tokens`, rounded up or down at random, so that their means are exact
    for every real fraction: token l compares `(l + U) / tokens` with the cumulative fractions, with one
    U(0, 1) for each sequence. The tokens are then shuffled, so that the first few are a uniform subset. Where
    the two fractions sum to more than 1, confusion gets what the relevant tokens leave.
    """
    uniform_key, noise_key = jax.random.split(key)
    # One draw for all that is uniform: every further call would cost a fifth of a second of compilation.
    uniform = jax.random.uniform(uniform_key, (samples, 2 * tokens + 4))
    label, offset, replaced, coin = uniform[:, :4].T
    order, choice = uniform[:, 4 : 4 + tokens], uniform[:, 4 + tokens :]
    labels = jnp.where(label < 0.5, -1.0, 1.0)
    place = (jax.vmap(ranks)(order) + offset[:, None]) / tokens
    relevant = place < setting.relevant_fraction
    confusion = ~relevant & (place < setting.relevant_fraction + setting.confusion_fraction)
    own = jnp.where(labels > 0, 0, 1)[:, None]
    irrelevant = jnp.minimum(2 + (choice * (setting.patterns - 2)).astype(int), setting.patterns - 1)
    kind = jnp.where(relevant, own, jnp.where(confusion, 1 - own, irrelevant))
    noise = setting.token_noise * jax.random.normal(noise_key, (samples, tokens, len(basis)))
    given = jnp.where(replaced < setting.label_noise, jnp.where(coin < 0.5, -1.0, 1.0), labels)
    return Sequences(basis[kind] + noise, labels, given, relevant)
