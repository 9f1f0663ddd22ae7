r"""The pattern data model: sequences of noisy patterns, `K` of which decide the label.

A sequence of class `y` holds, on average, a fraction alpha_* of tokens with the discriminative pattern of
its own class (label-relevant), a fraction alpha_# with those of other classes (confusion), and irrelevant
patterns, uniformly. On average the class is that of the most frequent discriminative pattern as long as alpha_*
exceeds what each other class gets, `alpha_# / (K - 1)` (for `K = 2` the majority vote, arXiv:2302.06015; AT-B-M2). In
a sequence, whose counts are whole, it may tie or lose once `alpha_* - alpha_#` is of the order of `1 / tokens`.

>>> import jax
>>> setting = Setting(patterns=5, relevant_fraction=0.5, confusion_fraction=0.25)
>>> mu, data = draw_data(jax.random.key(1), setting, dim=8, samples=3, tokens=4)
>>> data.tokens.shape, data.relevant.sum(axis=1).tolist()
((3, 4, 8), [2, 2, 2])
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from theory_sim.decompositions import orthonormal_rows, sort_places
from theory_sim.draws import uniform

UNBOUNDED = 1e9
"""A bound on the norm of a token's noise that no Gaussian reaches."""


class Setting(NamedTuple):
    """What a problem is drawn with.

    `patterns` is the number M of patterns in use and `classes` the number K of discriminative ones among them;
    `relevant_fraction` is alpha_*, `confusion_fraction` alpha_#. Each coordinate of a token has Gaussian noise of
    standard deviation `token_noise`; noise of a norm above `noise_bound` is scaled back to it (tau of AT-B-M3).
    Two patterns have inner product `correlation`. With probability `label_noise` a training label is replaced by
    one drawn uniformly from all classes: 1 makes the labels random.
    """

    patterns: int = 3
    classes: int = 2
    relevant_fraction: float = 0.4
    confusion_fraction: float = 0.1
    token_noise: float = 0.1
    noise_bound: float = UNBOUNDED
    correlation: float = 0.0
    label_noise: float = 0.0


class Sequences(NamedTuple):
    """Sequences with their true classes, 0 to K - 1, and the classes given to a learner, some of them noise.

    `relevant` marks the tokens with the pattern of the true class, `irrelevant` those with a pattern of no class;
    `noise` is the norm of a token's noise.
    """

    tokens: Float[Array, "samples tokens dim"]
    labels: Int[Array, " samples"]
    given: Int[Array, " samples"]
    relevant: Bool[Array, "samples tokens"]
    irrelevant: Bool[Array, "samples tokens"]
    noise: Float[Array, "samples tokens"]


def draw_data(
    key: PRNGKeyArray, setting: Setting, *, dim: int, samples: int, tokens: int, opposite: bool = False
) -> tuple[Float[Array, "dim dim"], Sequences]:
    """Draw patterns `mu` in a uniformly random orthonormal basis, and `samples` sequences (see `draw_sequences`).

    With `opposite` the second pattern is minus the first: one discriminative direction (AT-C-T3).
    """
    # One draw for all that is random: every further call costs up to a second of compilation.
    uniform = _uniform(key, dim + samples, dim=dim, tokens=tokens)
    basis = orthonormal_rows(_gaussian(uniform[:dim, :dim]))
    mu = equicorrelated(basis, setting.patterns, setting.correlation)
    mu = mu.at[1].set(-mu[0]) if opposite else mu
    return mu, _sequences(uniform[dim:], mu, setting, tokens=tokens)


def draw_sequences(
    key: PRNGKeyArray, mu: Float[Array, "dim dim"], setting: Setting, *, samples: int, tokens: int
) -> Sequences:
    """Draw `samples` sequences of uniformly random classes; row `y` of `mu` is the pattern of class `y`.

    Token counts are the fractions times `tokens`, rounded up or down at random, so that their means are exact
    for every real fraction: token l compares `(l + U) / tokens` with the cumulative fractions, with one
    U(0, 1) for each sequence. The tokens are then shuffled, so that the first few are a uniform subset. Each
    confusion token has the pattern of one of the other classes, uniformly. Where the two fractions sum to more
    than 1, confusion gets what the relevant tokens leave.
    """
    return _sequences(_uniform(key, samples, dim=len(mu), tokens=tokens), mu, setting, tokens=tokens)


def equicorrelated(
    basis: Float[Array, "dim dim"], patterns: int | Array, correlation: float | Array
) -> Float[Array, "dim dim"]:
    """Return unit patterns mu_j as rows, the first `patterns` of them with inner products `correlation`.

    The symmetric root of their Gram matrix `(1 - rho) I + rho 1 1^T` applied to the basis: each pattern is its basis
    vector, shrunk, plus a multiple of the sum of all. Rows beyond `patterns` are in no use.
    """
    own = jnp.sqrt(1.0 - correlation)
    common = (jnp.sqrt(1.0 - correlation + correlation * patterns) - own) / patterns
    used = jnp.arange(len(basis)) < patterns
    return own * basis + common * jnp.sum(jnp.where(used[:, None], basis, 0.0), axis=0)


def _uniform(key: PRNGKeyArray, rows: int, *, dim: int, tokens: int) -> Float[Array, "rows columns"]:
    # float32 at any precision: the draws stay the same, and cost half.
    columns = 4 + tokens * (dim + 2)
    return uniform(key, (rows, columns), jnp.float32)


def _gaussian(uniform: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return standard normal numbers from uniform ones in [0, 1)."""
    tiny = jnp.finfo(jnp.float32).eps / 2
    return (jnp.sqrt(2.0) * jax.lax.erf_inv(jnp.maximum(2 * uniform - 1, tiny - 1))).astype(float)


def _sequences(
    uniform: Float[Array, "samples columns"], mu: Float[Array, "dim dim"], setting: Setting, *, tokens: int
) -> Sequences:
    samples, dim = len(uniform), len(mu)
    label, offset, replaced, other = uniform[:, :4].T
    order, choice = uniform[:, 4 : 4 + tokens], uniform[:, 4 + tokens : 4 + 2 * tokens]
    classes = setting.classes
    labels = _below(classes, label)
    place = (jax.vmap(sort_places)(order) + offset[:, None].astype(float)) / tokens
    relevant = place < setting.relevant_fraction
    confusion = ~relevant & (place < setting.relevant_fraction + setting.confusion_fraction)
    own = labels[:, None]
    rival = (own + 1 + _below(classes - 1, choice)) % classes
    irrelevant = jnp.minimum(classes + _below(setting.patterns - classes, choice), setting.patterns - 1)
    kind = jnp.where(relevant, own, jnp.where(confusion, rival, irrelevant))
    standard = _gaussian(uniform[:, 4 + 2 * tokens :]).reshape(samples, tokens, dim)
    noise = setting.token_noise * standard
    norm = jnp.sqrt(jnp.sum(noise**2, axis=-1))
    bounded = norm > setting.noise_bound
    shrunk = jnp.where(bounded, setting.noise_bound / jnp.where(bounded, norm, 1.0), 1.0)
    return Sequences(
        tokens=mu[kind] + shrunk[..., None] * noise,
        labels=labels,
        given=jnp.where(replaced < setting.label_noise, _below(classes, other), labels),
        relevant=relevant,
        irrelevant=~relevant & ~confusion,
        noise=jnp.minimum(norm, setting.noise_bound),
    )


def _below(count: int | Array, uniform: Float[Array, "..."]) -> Int[Array, "..."]:
    """Return whole numbers below `count`, from uniform ones in [0, 1)."""
    return jnp.minimum((uniform * count).astype(int), jnp.maximum(count - 1, 0))
