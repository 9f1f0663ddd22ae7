r"""Gradients of one-layer attention that neither underflow nor cancel, however saturated the softmax is.

The model of arXiv:2308.16898 (AT-A-M1): `L(W) = (1/n) sum_i l(Y_i v^T X_i^T s_i)`, `s_i = softmax(X_i W z_i)`. Its
gradient is `(1/n) sum_i l'_i X_i^T c_i z_i^T` with `c_it = s_it (gamma_it - s_i^T gamma_i)`, `gamma_it = Y_i v^T x_it`
(AT-A-M4). Once a token is selected, all of `c_i` underflows, and the entry of that token cancels long before.

>>> import jax
>>> import jax.numpy as jnp
>>> jax.config.update("jax_enable_x64", True)
>>> tokens, queries = jnp.array([[[1.0, 0.0], [0.0, 1.0]]]), jnp.array([[0.0, 1.0]])
>>> problem = Problem(tokens, queries, labels=jnp.array([1.0]), head=jnp.array([1.0, 0.0]))
>>> weights = jnp.array([[0.0, 2000.0], [0.0, 0.0]])
>>> scale, gradient = log_gradient(problem, weights, "correlation")
>>> float(scale), (gradient + 0.0).tolist(), float(log_excess_loss(problem, weights, "correlation"))
(-2000.0, [[0.0, -1.0], [0.0, 1.0]], -2000.0)
>>> bool(jnp.any(plain_gradient(problem, weights, "correlation")))
False
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

LOSSES = ("logistic", "exponential", "correlation")


class Problem(NamedTuple):
    """Sequences of tokens, each with a query and a label +1 or -1, and the fixed linear head `v` (AT-A-M1)."""

    tokens: Float[Array, "inputs tokens dim"]
    queries: Float[Array, "inputs dim"]
    labels: Float[Array, " inputs"]
    head: Float[Array, " dim"]


def token_scores(problem: Problem) -> Float[Array, "inputs tokens"]:
    """Return `gamma_it = Y_i v^T x_it`; the optimal token of a sequence has the largest (AT-A-M3)."""
    return problem.labels[:, None] * (problem.tokens @ problem.head)


def log_attention(problem: Problem, weights: Float[Array, "dim dim"]) -> Float[Array, "inputs tokens"]:
    """Return the logarithm of `softmax(X_i W z_i)`."""
    return jax.nn.log_softmax(logits_of(problem, weights))


def logits_of(problem: Problem, weights: Float[Array, "dim dim"]) -> Float[Array, "inputs tokens"]:
    """Return `X_i W z_i`."""
    return jnp.einsum("ntd,nd->nt", problem.tokens, problem.queries @ weights.T)


def falling_slope(loss: str, output: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return `-l'(u)` of `log(1 + e^-u)`, `e^-u` or `-u` (AT-A-M2)."""
    if loss == "logistic":
        return jax.nn.sigmoid(-output)
    return jnp.exp(-output) if loss == "exponential" else jnp.ones_like(output)


def balances(
    loss: str,
    best: Float[Array, "inputs 1"],
    scores: Float[Array, "inputs tokens"],
    multipliers: Float[Array, "inputs tokens"],
    support: Bool[Array, "inputs tokens"],
) -> Float[Array, "inputs tokens"]:
    """Return `log(w_k / lambda_k)` at the support tokens (see `selection_direction`), but for a constant, 0 elsewhere.

    A token that scores as the selected one, or more, has no pull, and counts as 0, as one without a multiplier does.
    """
    ratio = falling_slope(loss, best) * (best - scores)
    pulled = support & (ratio > 0) & (multipliers > 0)
    return jnp.log(jnp.where(pulled, ratio / jnp.where(pulled, multipliers, 1.0), 1.0))


def log_gradient(
    problem: Problem, weights: Float[Array, "dim dim"], loss: str
) -> tuple[Float[Array, ""], Float[Array, "dim dim"]]:
    """Return `a` and `G`, of order one, with `grad L(W) = e^a G` (AT-A-U3).

    The pulls `c_it` are those of `log_pulls`, in the unit `e^a` for all sequences together.
    """
    scale, pulls, outputs = log_pulls(token_scores(problem), log_attention(problem, weights))
    return scale[0, 0], _assemble(problem, pulls, falling_slope(loss, outputs))


def log_pulls(
    scores: Float[Array, "inputs tokens"], logs: Float[Array, "inputs tokens"], *, apart: bool = False
) -> tuple[Float[Array, "units 1"], Float[Array, "inputs tokens"], Float[Array, "inputs 1"]]:
    """Return `a`, `c` of order one and the outputs `s^T gamma`, where `e^a c = (diag(s) - s s^T) gamma` (AT-A-U3).

    With `r` the most attended token of a sequence, `c_it = s_it (delta_t - sum_tau s_i,tau delta_tau)` for the scores
    `delta_t = gamma_it - gamma_ir` above its own, and `c_ir` is minus the sum of the others, as the rows of `diag(s) -
    s s^T` sum to zero: nothing cancels. This is the sum over pairs of AT-A-U3, in one pass over the tokens. Scores that
    differ by rounding alone count as equal: where a token that is not optimal is attended to, what pulls others away
    from it may be far below the rounding of a score. There is one `a` for all sequences, or `apart` one for each.
    """
    axis = 1 if apart else None
    others = ~_most_attended(logs)
    own = jnp.sum(jnp.where(others, 0.0, scores), axis=1, keepdims=True)
    rounding = 16 * jnp.finfo(scores.dtype).eps * jnp.max(jnp.abs(scores))
    above = jnp.where(jnp.abs(scores - own) > rounding, scores - own, 0.0)
    shift = jnp.sum(jnp.exp(logs) * above, axis=1, keepdims=True)
    # A token that nothing pulls may have any attention: it must not set the scale of the others.
    pulled = others & (above != shift)
    scale = jnp.max(jnp.where(pulled, logs, -jnp.inf), axis=axis, keepdims=True)
    scale = jnp.where(jnp.isfinite(scale), scale, 0.0)
    pulls = jnp.where(pulled, jnp.exp(jnp.where(pulled, logs - scale, 0.0)) * (above - shift), 0.0)
    largest = jnp.max(jnp.abs(pulls), axis=axis, keepdims=True)
    largest = jnp.where(largest > 0, largest, 1.0)
    pulls = pulls / largest
    pulls = jnp.where(others, pulls, -jnp.sum(pulls, axis=1, keepdims=True))
    return scale + jnp.log(largest), pulls, own + shift


def plain_gradient(problem: Problem, weights: Float[Array, "dim dim"], loss: str) -> Float[Array, "dim dim"]:
    """Return `grad L(W)` as the softmax's Jacobian gives it: for comparison, it loses its direction (AT-A-F1)."""
    scores, attended = token_scores(problem), jnp.exp(log_attention(problem, weights))
    outputs = jnp.sum(attended * scores, axis=1, keepdims=True)
    return _assemble(problem, attended * (scores - outputs), falling_slope(loss, outputs))


def log_excess_loss(problem: Problem, weights: Float[Array, "dim dim"], loss: str) -> Float[Array, ""]:
    """Return `log(L(W) - L*)`, where `L* = (1/n) sum_i l(gamma_i,opt)` is approached and never met (AT-A-T3)."""
    return log_excess(token_scores(problem), log_attention(problem, weights), loss)


def log_excess(
    scores: Float[Array, "inputs tokens"], logs: Float[Array, "inputs tokens"], loss: str
) -> Float[Array, ""]:
    """Return `log(L - L*)` from scores and the logarithms of the attention.

    A sequence's output falls short of `gamma_opt` by `delta = sum_t s_t (gamma_opt - gamma_t)`, whose logarithm is
    at hand, and `l(u - delta) - l(u)` is `delta` times a factor of order one.
    """
    best = jnp.max(scores, axis=1)
    gaps = best[:, None] - scores
    parts = jnp.where(gaps > 0, logs + jnp.log(jnp.where(gaps > 0, gaps, 1.0)), -jnp.inf)
    shortfalls = jax.nn.logsumexp(parts, axis=1)
    each = shortfalls + jnp.log(_rise_per_shortfall(loss, best, jnp.exp(shortfalls)))
    return jax.nn.logsumexp(each) - jnp.log(len(best))


def log_unselected(problem: Problem, weights: Float[Array, "dim dim"]) -> Float[Array, ""]:
    """Return the log of the largest share of attention, over sequences, outside the most attended token."""
    return log_outside(log_attention(problem, weights))


def log_outside(logs: Float[Array, "inputs tokens"]) -> Float[Array, ""]:
    """Return `log_unselected` of logarithms of attention."""
    return jnp.max(jax.nn.logsumexp(jnp.where(_most_attended(logs), -jnp.inf, logs), axis=1))


def _rise_per_shortfall(loss: str, best: Array, shortfall: Array) -> Array:
    """Return `(l(best - shortfall) - l(best)) / shortfall`, and its limit `-l'(best)` for a small shortfall."""
    slope = falling_slope(loss, best)
    large = shortfall > jnp.finfo(shortfall.dtype).eps
    safe = jnp.where(large, shortfall, 1.0)
    if loss == "logistic":
        return jnp.where(large, jnp.log1p(slope * jnp.expm1(safe)) / safe, slope)
    return jnp.where(large, slope * jnp.expm1(safe) / safe, slope) if loss == "exponential" else slope


def _most_attended(logs: Float[Array, "inputs tokens"]) -> Array:
    return jnp.arange(logs.shape[1]) == jnp.argmax(logs, axis=1)[:, None]


def _assemble(problem: Problem, pulls: Array, slopes: Array) -> Float[Array, "dim dim"]:
    """Return `-(1/n) sum_i slope_i X_i^T pull_i z_i^T`."""
    combined = jnp.einsum("nt,ntd->nd", pulls * slopes, problem.tokens)
    return -combined.T @ problem.queries / len(problem.queries)
