r"""How far trained attention weights are from the max margin direction, and what is left across it.

Late in training `grad L` is `-sum_k w_k exp(-a_k . W) a_k` up to smaller terms, over the unselected tokens `k = (i, t)`
with `a_k = (x_i,sel - x_it) z_i^T` and `w_k = -(1/n) l'(gamma_sel) (gamma_sel - gamma_it)`. `W` grows along `W^mm`,
whose multipliers are `lambda_k`, once `w_k exp(-a_k . W)` is proportional to `lambda_k`. So the part `r` of `W` that is
across `W^mm`, within the span of the support tokens' `a_k`, tends to the solution of

    a_k . r = log(w_k / lambda_k) + constant    for all support tokens k,

whatever the start and the rule (derived, from AT-A-P1; compare `W_fin` in AT-A-T13).
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from theory_sim.attention.directions import distance
from theory_sim.attention.margin import MaxMargin, attention_margins, max_margin
from theory_sim.attention.selection_gradient import Problem, balances, token_scores
from theory_sim.decompositions import leading_directions, solve_spd
from theory_sim.simulation import Metrics

SLACK = 1e-5
"""A token is a support token if its margin is 1 up to this."""
VISIBLE = 1e-2
"""The share of the largest singular value above which others count towards the effective rank (AT-A-P5)."""


def compare(
    problem: Problem,
    weights: Float[Array, "steps dim dim"],
    selected: Int[Array, " inputs"],
    *,
    loss: str,
    nuclear: bool = False,
) -> Metrics:
    """Compare weights at several steps with the max margin solution for the selected tokens.

    With the step as their first dimension: `direction_error = | W/|W| - W^mm/|W^mm| |_F`, which is 1 where the tokens
    cannot be separated or the weights are zero; with `nuclear`, `nuclear_error`, the same for the nuclear norm (and
    once, `nuclear_rank`, the rank of its solution, and `effective_rank`, that of the last weights up to 1%);
    `residual`, the norm of the part of `W` across `W^mm` in the span of the support tokens.

    Once: `residual_limit`, what the residual tends to (0 unless locally optimal); `margin_norm = ||W^mm||_F`;
    `support_share`, 1 where all unselected tokens are support tokens (B.1); `selected`; and as 0 or 1, `global` (the
    selected tokens are the optimal ones), `local` (they score above the support tokens, AT-A-T9), and `feasible`.
    """
    tokens, queries = problem.tokens, problem.queries
    scores = token_scores(problem)
    others = jnp.arange(tokens.shape[1]) != selected[:, None]
    solution = max_margin(tokens, queries, selected)
    margins = attention_margins(solution.weights, tokens, queries, selected)
    support = others & (margins < 1 + SLACK) & solution.feasible
    gaps = jnp.take_along_axis(scores, selected[:, None], axis=1) - scores
    local = solution.feasible & jnp.all(~support | (gaps > 0))
    residual, limit = _residuals(problem, weights, selected, solution, support, loss)
    chances = {
        "global": jnp.all(selected == jnp.argmax(scores, axis=1)),
        "local": local,
        "feasible": solution.feasible,
    }
    found = {
        "direction_error": distance(weights, solution.weights),
        "residual": residual,
        "residual_limit": jnp.where(local, limit, 0.0),
        "margin_norm": jnp.linalg.norm(solution.weights),
        "support_share": jnp.sum(support) / jnp.sum(others),
        "selected": selected,
        **{name: value.astype(weights.dtype) for name, value in chances.items()},
    }
    if nuclear:
        least = max_margin(tokens, queries, selected, norm="nuclear")
        values, _ = leading_directions(weights[-1])
        found["nuclear_error"] = distance(weights, least.weights)
        found["nuclear_rank"] = least.rank
        found["effective_rank"] = jnp.sum(values > VISIBLE * values[0])
    return found


def _residuals(
    problem: Problem,
    weights: Float[Array, "steps dim dim"],
    selected: Int[Array, " inputs"],
    solution: MaxMargin,
    support: Bool[Array, "inputs tokens"],
    loss: str,
) -> tuple[Float[Array, " steps"], Float[Array, ""]]:
    """Return the norms of the part across `W^mm` at each step, and of its predicted limit.

    A matrix of the span is known by its products `b_k` with the `a_k`: its squared norm is `b^T G^-1 b`, with `G` their
    Gram matrix. All `a_k . W^mm` are 1, so that a multiple of `W^mm` is taken out of `b` as a constant.
    """
    inputs, count, _ = problem.tokens.shape
    differences = jnp.take_along_axis(problem.tokens, selected[:, None, None], axis=1) - problem.tokens
    flat = differences.reshape(inputs * count, -1)
    of_queries = problem.queries @ problem.queries.T
    kept = support.reshape(-1)
    gram = (flat @ flat.T) * jnp.repeat(jnp.repeat(of_queries, count, axis=0), count, axis=1)
    gram = jnp.where(kept[:, None] & kept, gram, jnp.eye(len(kept), dtype=gram.dtype))

    square = _positive(jnp.sum(solution.weights**2))
    along = jnp.sum(weights * solution.weights, axis=(1, 2)) / square
    beyond = weights - along[:, None, None] * solution.weights
    products = jnp.einsum("ntd,sde,ne->snt", differences, beyond, problem.queries)
    scores = token_scores(problem)
    best = jnp.take_along_axis(scores, selected[:, None], axis=1)
    balance = balances(loss, best, scores, solution.dual, support)
    rows = jnp.stack([*products, balance, support]).reshape(len(weights) + 2, -1)
    rows = jnp.where(kept, rows, 0.0)
    solved = solve_spd(gram, rows.T).T
    residual = jnp.sum(rows * solved, axis=1)
    centre = jnp.sum(solved[-2]) / square
    limit = jnp.sum((rows[-2] - centre * rows[-1]) * (solved[-2] - centre * solved[-1]))
    return jnp.sqrt(jnp.maximum(residual[:-2], 0.0)), jnp.sqrt(jnp.maximum(limit, 0.0))


def _positive(value: Array) -> Array:
    return jnp.where(value > 0, value, 1.0)
