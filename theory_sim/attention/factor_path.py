r"""The regularisation path of key and query, `argmin { L(K Q^T) : ||K||^2 + ||Q||^2 <= 2 R }` (AT-A-M7).

As `min { ||K||^2 + ||Q||^2 : K Q^T = W } = 2 ||W||_*` where there are as many columns as `rank W`, `W_R = K Q^T`
minimises `L` subject to `||W||_* <= R`, and its direction tends to that of a nuclear max margin solution `W^mm`
(arXiv:2308.16898, Theorem 2; AT-A-T4). With `G = -grad log(L - L*)`, for any V with `||V||_* <= R`, `<G, V - W_R>` is
at most `R ||G||_op - <G, W_R>`. Where this gap is zero the point is stationary; it is the minimum if `log(L - L*)` is
convex between them, and then no V is lower by more than the gap.

The gap bounds the loss, not the direction: relative to `R ||G||_op` it is about `||W^mm||_* tr(d^T H d) / (2 R^2)`,
with the `H` below, where the factors are off by `d`. So `r` is known only if the gap is small beside `1/R^2`.

How fast (derived): let `D = sum_k lambda_k a_k` be the dual matrix of `W^mm = U S V^T`, `||D||_op = 1`, both unique,
with as many singular values 1 as the rank. At the minimum `G`, over its norm, is `D` up to order 1/R, so that again
`a_k . W_R = log(w_k / lambda_k) + constant + O(1/R)` at the support tokens. With the columns `Z = (K, Q)`, where
`||Z||^2 = 2 R`, one has `2 (R - <D, W>) = tr(Z^T H Z)`: `H = [[1, -D], [-D^T, 1]]` is positive semi-definite, and zero
on the columns of `Z_0 = (U, V) S^(1/2)`. For `Z = c^(1/2) Z_0 + c^(-1/2) Z_1` this is `tr(Z_1^T H Z_1) / c`, and `K Q^T
= c W^mm + r + O(1/c)` with `r = K_0 Q_1^T + K_1 Q_0^T`. So `r` is bounded: of those with `a_k . r = log(w_k / lambda_k)
+ constant` the one of the least `tr(Z_1^T H Z_1)`. The error of the direction is `|r across W^mm| / ||W_R||_F`, and
`||W_R||_F = R ||W^mm||_F / ||W^mm||_*` up to a constant.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.attention.directions import distance, unit
from theory_sim.attention.least_norm import SOLVED
from theory_sim.attention.margin import attention_margins, differences_from, max_margin
from theory_sim.attention.selection_gradient import (
    Problem,
    falling_slope,
    log_pulls,
    token_scores,
)
from theory_sim.attention.selection_path import (
    LOSS,
    State,
    bound,
    centred_balances,
    newton_step,
    optimal_margin,
)
from theory_sim.decompositions import covering_rows, leading_directions, solve_spd
from theory_sim.simulation import Metrics

CERTIFIED = 1e-9
"""The relative gap `1 - <G, W_R> / (R ||G||_op)` below which a point counts as the minimum."""
SETTLED = 1e-5
"""The same times `R^2`: `tr(d^T H d)` is then at most 2e-5 over `||W^mm||_*`, where `r` is of order one.

The rounding of the gap, some 1e-16 to 1e-15, lets norms up to 10^5 or so be certified.
"""
FIRST = 32.0
"""The bound at which the search begins: from smaller ones the path may lead to other tokens."""
FLAT = 1e-6
"""What is added to `H` to make it positive definite."""
DAMPING = 1e-3
"""The share of the multiplier by which a step's is above it, so that rounding does not move a point along its orbit."""


class Hyper(NamedTuple):
    """The bound R on `||W||_*`."""

    radius: float = 100.0


class Factored(NamedTuple):
    """A problem whose queries are given in coordinates of their span, and its tokens' scores.

    And, as matrices from those coordinates, `W^mm` of the optimal tokens in the nuclear norm, its relative gap, its
    least norm and the limit of `R` times the error, and `W^mm` in the Frobenius norm with its violation.
    """

    tokens: Float[Array, "inputs tokens dim"]
    queries: Float[Array, "inputs inputs"]
    scores: Float[Array, "inputs tokens"]
    solution: Float[Array, "dim inputs"]
    gap: Float[Array, ""]
    least_norm: Float[Array, ""]
    residual_limit: Float[Array, ""]
    frobenius: Float[Array, "dim inputs"]
    violation: Float[Array, ""]


def factored_problem(problem: Problem) -> Factored:
    """Return the problem with its solutions; `dim` must be at least `inputs`."""
    tokens, scores = problem.tokens, token_scores(problem)
    basis = covering_rows(problem.queries)
    queries = problem.queries @ basis.T
    best = jnp.argmax(scores, axis=1)
    found = max_margin(tokens, problem.queries, best, norm="nuclear")
    margins = attention_margins(found.weights, tokens, problem.queries, best)
    # Strictly complementary: of a multiplier and a slack one is positive, the other rounding.
    support = (found.dual > jnp.abs(margins - 1)) & (jnp.arange(scores.shape[1]) != best[:, None])
    least = jnp.sum(found.dual)
    across = _residual(problem, found.weights, found.dual, support)
    points = tokens[:, :, :, None] * queries[:, None, None, :]
    frobenius, violation, *_ = optimal_margin(scores, points.reshape(*scores.shape, -1))
    return Factored(
        tokens,
        queries,
        scores,
        found.weights @ basis.T,
        found.gap,
        least,
        jnp.linalg.norm(across) * least / jnp.linalg.norm(found.weights),
        frobenius.reshape(points.shape[2:]),
        violation,
    )


def _residual(problem: Problem, weights: Array, dual: Array, support: Array) -> Float[Array, "dim dim"]:
    """Return what `W_R` tends to across `W^mm`.

    For the matrix `M = sum_k y_k a_k` of the constraints' multipliers `y`, `Z_1 = H^-1 (M Q_0, M^T K_0)`.
    """
    scores, dim = token_scores(problem), len(weights)
    best = jnp.argmax(scores, axis=1)
    left = differences_from(problem.tokens, best).reshape(-1, dim)
    right = jnp.repeat(problem.queries, scores.shape[1], axis=0)
    multipliers, kept = dual.reshape(-1), support.reshape(-1)
    matrix = (left * multipliers[:, None]).T @ right
    # U S U^T = K_0 K_0^T and V S V^T = Q_0 Q_0^T, without a decomposition.
    of_key, of_query = weights @ matrix.T, matrix.T @ weights
    identity = jnp.eye(dim, dtype=weights.dtype)
    whole = jnp.block([[identity, -matrix], [-matrix.T, identity]])
    wide = jnp.eye(2 * dim, dtype=weights.dtype)
    inverse = solve_spd(whole + FLAT * wide, wide)
    first, mixed, second = inverse[:dim, :dim], inverse[:dim, dim:], inverse[dim:, dim:]

    def moved(pulls: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
        crossed = mixed @ pulls.T @ weights + weights @ pulls.T @ mixed
        return first @ pulls @ of_query + of_key @ pulls @ second + crossed

    each = jax.vmap(lambda a, b: moved(jnp.outer(a, b)))(left, right)
    gram = jnp.einsum("kd,lde,ke->kl", left, each, right)
    gram = jnp.where(kept[:, None] & kept, gram, jnp.eye(len(kept), dtype=gram.dtype))
    solved = solve_spd((gram + gram.T) / 2, centred_balances(scores, multipliers, kept)[:, None])[:, 0]
    found = jnp.einsum("k,kde->de", solved, each)
    return found - jnp.sum(found * weights) / jnp.sum(weights**2) * weights


def _split(factored: Factored, point: Float[Array, " size"]) -> tuple[Array, Array]:
    """Return the key [dim, inputs] and the query [inputs, inputs]."""
    dim, count = factored.solution.shape
    return point[: dim * count].reshape(dim, count), point[dim * count :].reshape(count, count)


def _logits(factored: Factored, point: Float[Array, " size"]) -> Float[Array, "inputs tokens"]:
    key, query = _split(factored, point)
    return jnp.einsum("ntd,nd->nt", factored.tokens, factored.queries @ query @ key.T)


def _pulled(factored: Factored, by_logits: Float[Array, "inputs tokens"]) -> Float[Array, "dim inputs"]:
    """Return minus the slope by `W`, from that by the logits."""
    return -jnp.einsum("nt,ntd,ne->de", by_logits, factored.tokens, factored.queries)


def init(key: PRNGKeyArray, factored: Factored, hyper: Hyper) -> State:
    """Start at the Frobenius norm's solution, whose factors have as many columns as there can be."""
    query = jnp.eye(len(factored.queries), dtype=factored.scores.dtype)
    point = jnp.concatenate([unit(factored.frobenius, (0, 1)).reshape(-1), query.reshape(-1)])
    return State(jnp.sqrt(2 * bound(hyper.radius, 0, FIRST)) * unit(point), jnp.asarray(0))


def step(key: PRNGKeyArray, factored: Factored, hyper: Hyper, state: State) -> State:
    """Make one step of `newton_step`, with a multiplier that leaves the constraint's own curvature positive.

    That of `||G||_op` leaves it zero along columns that are not in use yet; above it by a quarter of what the
    constraint's is below, which vanishes at the minimum, they grow by a factor a step.
    """

    def raised(multiplier: Array, slope: Array, by_logits: Array) -> Array:
        values, _ = leading_directions(_pulled(factored, by_logits))
        return (1 + DAMPING) * values[0] + (values[0] - multiplier) / 4

    length = jnp.sqrt(2 * bound(hyper.radius, state.steps + 1, FIRST))
    point = newton_step(partial(_logits, factored), factored.scores, state.point, length, raised)
    return State(point, state.steps + 1)


def conclude(factored: Factored, hyper: Hyper, records: Metrics, state: State) -> Metrics:
    """Compare the point with the solutions; it has converged if its gap is small enough for loss and direction."""
    key, query = _split(factored, state.point)
    logs = jax.nn.log_softmax(_logits(factored, state.point))
    _, pulls, outputs = log_pulls(factored.scores, logs)
    descent = _pulled(factored, -pulls * falling_slope(LOSS, outputs))
    values, _ = leading_directions(descent)
    weights = key @ query.T
    gap = 1 - jnp.sum(descent * weights) / (hyper.radius * values[0])
    small = (gap < CERTIFIED) & (gap * hyper.radius**2 < SETTLED)
    best = jnp.argmax(factored.scores, axis=1)

    return {
        "gap": gap,
        "error": distance(weights, factored.solution),
        "residual_limit": factored.residual_limit,
        "frobenius_error": distance(weights, factored.frobenius),
        "margin_norm": factored.least_norm,
        "global": jnp.all(jnp.argmax(logs, axis=1) == best).astype(weights.dtype),
        "converged": small & (factored.gap < 1e-8) & (factored.violation < SOLVED),
    }
