r"""Attention under a head that is not linear: `h(x) = v^T x - penalty |x|^2` selects several tokens of one sequence.

The setting of arXiv:2308.16898, Lemma 6 (AT-A-T14): one sequence of orthonormal tokens, loss `-h`, label 1. From
zero, weights stay of the form `W = X^T a z^T`, so that the logits `a` of the tokens are the whole state (derived: the
gradient is `X^T c z^T`, and `X X^T = I`, `|z| = 1`). Steps are stable below about `4 / penalty`.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> jax.config.update("jax_enable_x64", True)
>>> simulation = quadratic_head(tokens=6)
>>> scores = simulation.sample(jax.random.key(0), simulation.setting)
>>> found = trajectory(simulation, [5000])(jax.random.key(1), scores, Hyper(penalty=0.5))
>>> int(found["selected"]), int(found["predicted"])
(3, 3)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.attention.directions import distance
from theory_sim.simulation import Metrics, Simulation, Variable, check_counts

ATTENDED = 1e-3
"""The attention above which a token counts as selected."""


class Hyper(NamedTuple):
    """The step size and the weight of the squared norm in the head."""

    step_size: float = 1.0
    penalty: float = 0.2


def quadratic_head(*, tokens: int) -> Simulation:
    """Return gradient descent on the logits of `tokens` orthonormal tokens, whose scores are a random unit vector.

    Conclusions: `selected`, the number of tokens with attention above `ATTENDED`; `predicted`, the number with any in
    the optimal attention (`selected_tokens`); `attention_error`, the largest distance of the attention from that;
    `direction_error`, the distance of the logits' direction from that of (Gen-SVM) for the predicted tokens.

    Raises ValueError on fewer than two tokens, or a number that is not whole.
    """
    check_counts({"tokens": 2}, tokens=tokens)
    return Simulation(
        sample=partial(_sample, tokens=tokens),
        init=lambda key, scores, hyper: jnp.zeros_like(scores),
        step=_step,
        observe=lambda scores, hyper, logits: {},
        setting=(),
        hyper=Hyper(),
        conclude=_conclude,
        variables={
            "selected": Variable("number of selected tokens"),
            "predicted": Variable("number of tokens in the optimal attention"),
            "attention_error": Variable("largest distance from the optimal attention"),
            "direction_error": Variable("distance from the max margin direction of the optimal tokens"),
        },
        limits={"step_size": (0.0, float("inf")), "penalty": (0.0, float("inf"))},
    )


def selected_tokens(scores: Float[Array, " tokens"], penalty: Float[Array, ""] | float) -> Int[Array, ""]:
    """Return how many tokens the optimal attention is on (AT-A-P7).

    Derived: it minimises `penalty |s|^2 - scores . s` on the simplex, so that it is the projection of `scores / (2
    penalty)`, which keeps the largest k scores for the largest k with `sum_{j <= k} (score_j - score_k) < 2 penalty`.
    """
    ordered = jnp.sort(scores)[::-1]
    above = jnp.cumsum(ordered) - jnp.arange(1, len(scores) + 1) * ordered
    return jnp.maximum(jnp.sum(above < 2 * penalty), 1)


def optimal_attention(
    scores: Float[Array, " tokens"], penalty: Float[Array, ""] | float
) -> Float[Array, " tokens"]:
    """Return the attention that maximises the head's output; with no penalty, all on the best token."""
    count = selected_tokens(scores, penalty)
    ordered = jnp.sort(scores)[::-1]
    total = jnp.sum(jnp.where(jnp.arange(len(scores)) < count, ordered, 0.0))
    safe = jnp.where(penalty > 0, penalty, 1.0)
    spread = jnp.maximum(scores - (total - 2 * penalty) / count, 0.0) / (2 * safe)
    return jnp.where(
        penalty > 0, spread, (jnp.argmax(scores) == jnp.arange(len(scores))).astype(scores.dtype)
    )


def _sample(key: PRNGKeyArray, setting: tuple, *, tokens: int) -> Float[Array, " tokens"]:
    drawn = jax.random.normal(key, (tokens,))
    return drawn / jnp.linalg.norm(drawn)


def _step(key: PRNGKeyArray, scores: Array, hyper: Hyper, logits: Array) -> Array:
    attended = jax.nn.softmax(logits)
    gains = scores - 2 * hyper.penalty * attended
    return logits + hyper.step_size * attended * (gains - attended @ gains)


def _conclude(scores: Array, hyper: Hyper, records: Metrics, logits: Array) -> Metrics:
    attended, best = jax.nn.softmax(logits), optimal_attention(scores, hyper.penalty)
    # Orthonormal tokens: the least logits that are one apart on the two sets are their indicator, centred.
    margin = (best > 0) - jnp.mean(best > 0)
    found = {
        "selected": jnp.sum(attended > ATTENDED),
        "predicted": selected_tokens(scores, hyper.penalty),
        "attention_error": jnp.max(jnp.abs(attended - best)),
        "direction_error": distance(logits, margin.astype(scores.dtype)),
    }
    return {name: value.astype(scores.dtype) for name, value in found.items()}
