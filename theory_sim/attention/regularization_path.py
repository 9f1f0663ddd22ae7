r"""The regularisation path of token selection, `W_R = argmin { L(W) : ||W||_F <= R }`, beside descent at equal norm.

`W_R / R` tends to the max margin direction (arXiv:2308.16898, Theorem 2; AT-A-T4). How fast (derived): at the minimum
`W_R = -grad L / mu = sum_k q_k a_k / mu`, with `a_k = (x_i,sel - x_it) z_i^T` and `q_k = w_k exp(-a_k . W_R)` up to
smaller terms (see `selection_direction`). The direction tends to that of `W^mm = sum_k lambda_k a_k`, so that `q_k` is
in the end proportional to `lambda_k`: zero, exponentially in R, for a token that is no support token, and `a_k . W_R =
log(w_k / lambda_k) + constant` for the others. Hence `W_R` is in the span of the support tokens' `a_k`, its part across
`W^mm` tends to the `r` of `selection_direction`, and the error of the direction is `|r| / R`, on any data. Descent
ends with the same `r` in that span, and keeps what its first steps did outside of it.

All gradients lie in the span of the `x_it z_i^T`, where a minimum is. With `K = F^T F` their Gram matrix, the state is
`y` with `|y| = ||W||_F` and logits `F^T y`. Newton's method for `log(L - L*)` follows the path up to R. It begins at
the max margin direction, where the optimal tokens are selected, as the minimum selects them for large R.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> jax.config.update("jax_enable_x64", True)
>>> simulation = regularization_path(inputs=2, tokens=3, dim=6)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> found = trajectory(simulation, [80])(jax.random.key(1), problem, Hyper(radius=2000.0))
>>> bool(found["angle"] < 1e-9), bool(0.95 < 2000 * found["error"] / found["residual_limit"] < 1.05)
(True, True)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.attention.least_norm import SOLVED, least_norm
from theory_sim.attention.selection_gradient import (
    Problem,
    falling_slope,
    log_excess,
    log_pulls,
    token_scores,
)
from theory_sim.attention.token_selection import Setting, token_selection
from theory_sim.decompositions import cholesky, solve_spd
from theory_sim.simulation import Metrics, Simulation, Variable

LOSS = "logistic"
CONVERGED = 1e-6
"""The angle between `W_R` and `-grad L` below which a point counts as the minimum."""
FIRST = 8.0
"""The norm at which the search begins; each step makes it larger by 2^(1/4), up to R."""
LONGEST = 2.0
"""By how much a step of Newton's method may change a logit."""


class Hyper(NamedTuple):
    """The bound R on the norm, and the length of the normalised steps of descent."""

    radius: float = 100.0
    step_size: float = 0.5


class Reduced(NamedTuple):
    """A problem, its tokens' scores, and the upper triangular `F`, `F^T F` the Gram matrix of the `x_it z_i^T`.

    And `W^mm` of the optimal tokens as a point, by how much it violates its conditions, the limit of the residual, and
    the share of support tokens.
    """

    problem: Problem
    scores: Float[Array, "inputs tokens"]
    factor: Float[Array, "all all"]
    solution: Float[Array, " all"]
    violation: Float[Array, ""]
    residual_limit: Float[Array, ""]
    support_share: Float[Array, ""]


class State(NamedTuple):
    """A point of the path, and how many steps were made."""

    point: Float[Array, " all"]
    steps: Int[Array, ""]


def regularization_path(*, inputs: int, tokens: int, dim: int) -> Simulation:
    """Return the search for `W_R` under the logistic loss, on the problems of `token_selection`.

    80 steps are enough to reach a norm of 2000 and to converge.

    Conclusions: `angle`, between `W_R` and `-grad L`, in radians: if `log(L - L*)` is convex between them, the
    direction of the minimum is no farther (derived: `log(L - L*) + mu ||W||^2 / 2`, with `mu R = |grad|`, is strongly
    convex by `mu`). A run has not converged if this is above `CONVERGED`, or if `W^mm` was not found. `error`, the
    distance of `W_R / R` from the max margin direction of the optimal tokens, and `residual_limit`, what `R error`
    tends to; `global`, whether the most attended tokens are the optimal ones; `margin_norm = ||W^mm||_F`;
    `support_share`.

    And of normalised descent from zero, once it has reached the norm R: `descent_error`; `apart`, the distance of its
    direction from that of `W_R`; `same`, whether it selects the same tokens; `excess`, `log(L - L*)` above that of
    `W_R`.

    Raises ValueError as `token_selection` does, and unless `dim` is at least `inputs` and `tokens`.
    """
    plain = token_selection(inputs=inputs, tokens=tokens, dim=dim)
    if dim < max(inputs, tokens):
        raise ValueError(f"dim must be at least inputs and tokens, {max(inputs, tokens)}, got {dim}")
    return Simulation(
        sample=lambda key, setting: reduced_problem(plain.sample(key, setting)),
        init=_init,
        step=_step,
        observe=lambda reduced, hyper, state: {},
        setting=Setting(),
        hyper=Hyper(),
        conclude=_conclude,
        variables={
            "angle": Variable("angle between the minimum and the negative gradient", "radian"),
            "error": Variable("distance of the path from the max margin direction"),
            "residual_limit": Variable("predicted limit of the error times the norm"),
            "margin_norm": Variable("norm of the max margin weights"),
            "support_share": Variable("share of the tokens not selected that are support tokens"),
            "global": Variable("whether the selected tokens are the optimal ones"),
            "descent_error": Variable("distance of descent from the max margin direction"),
            "apart": Variable("distance between the directions of path and descent"),
            "same": Variable("whether path and descent select the same tokens"),
            "excess": Variable("log of the loss of descent above that of the path"),
        },
        limits={
            "score_spread": (0.0, 1.0),
            "radius": (1e-6, float("inf")),
            "step_size": (1e-6, float("inf")),
        },
    )


def reduced_problem(problem: Problem) -> Reduced:
    """Return the problem in the coordinates of the path; NaN unless `dim` is at least `inputs` and `tokens`."""
    _, tokens, dim = problem.tokens.shape
    flat = problem.tokens.reshape(-1, dim)
    of_queries = jnp.repeat(problem.queries, tokens, axis=0)
    gram = (flat @ flat.T) * (of_queries @ of_queries.T)
    scores, factor = token_scores(problem), cholesky(gram)
    return Reduced(problem, scores, factor, *_max_margin(scores, factor))


def _logs(reduced: Reduced, point: Float[Array, " all"]) -> Float[Array, "inputs tokens"]:
    return jax.nn.log_softmax((point @ reduced.factor).reshape(reduced.scores.shape))


def _descent(reduced: Reduced, point: Float[Array, " all"]) -> Float[Array, " all"]:
    """Return the direction of `-grad L`, of length 1."""
    _, pulls, outputs = log_pulls(reduced.scores, _logs(reduced, point))
    slope = reduced.factor @ (pulls * falling_slope(LOSS, outputs)).reshape(-1)
    return _at_length(slope, 1.0)


def _radius(hyper: Hyper, steps: Array | int) -> Array:
    return jnp.minimum(hyper.radius, FIRST * 2.0 ** (jnp.asarray(steps) / 4))


def _init(key: PRNGKeyArray, reduced: Reduced, hyper: Hyper) -> State:
    return State(_at_length(reduced.solution, _radius(hyper, 0)), jnp.asarray(0))


def _step(key: PRNGKeyArray, reduced: Reduced, hyper: Hyper, state: State) -> State:
    """Make one step along the path's tangent to the next radius, and one of Newton's method back to the path."""
    radius, point = _radius(hyper, state.steps + 1), state.point
    slope, bend = derivatives(reduced.scores, _logs(reduced, point))
    slope, bend = reduced.factor @ slope, reduced.factor @ bend @ reduced.factor.T
    square = point @ point
    across = slope - (slope @ point) / square * point
    # The multiplier of the constraint; far from the path the slope may point outward.
    multiplier = jnp.maximum(-(slope @ point) / square, 0.1 * jnp.linalg.norm(slope) / jnp.sqrt(square))
    matrix = bend + multiplier * jnp.eye(len(bend), dtype=bend.dtype)
    solved = solve_spd(matrix, jnp.stack([slope, point], axis=1))
    tangent = solved[:, 1] / (point @ solved[:, 1])
    ahead = (radius**2 - square) / 2 * tangent
    back = (point @ solved[:, 0]) * tangent - solved[:, 0]
    # The second derivatives change by a factor when a logit changes by one.
    back = back * jnp.minimum(1.0, LONGEST / jnp.maximum(jnp.max(jnp.abs(back @ reduced.factor)), LONGEST))
    # The first move that is no worse than none, but for rounding.
    moves = jnp.stack([ahead + back, ahead + back / 4, ahead, -across, jnp.zeros_like(point)])
    ends = jax.vmap(lambda move: _at_length(point + move, radius))(moves)
    losses = jax.vmap(lambda end: log_excess(reduced.scores, _logs(reduced, end), LOSS))(ends)
    rounding = 100 * jnp.finfo(point.dtype).eps * (1 + jnp.abs(losses[-1]))
    return State(ends[jnp.argmax(losses <= losses[-1] + rounding)], state.steps + 1)


def derivatives(
    scores: Float[Array, "inputs tokens"], logs: Float[Array, "inputs tokens"]
) -> tuple[Float[Array, " all"], Float[Array, "all all"]]:
    """Return the first and second derivatives of `log(L - L*)` by the logits, for the logistic loss.

    With `c_t = s_t (gamma_t - o)`, `o = s^T gamma`: `dl(o) = l' c` and `d^2 l(o) = l'' c c^T + l' (diag(c) - c s^T - s
    c^T)` for each sequence. Both are found over `L - L*`, which may be below the smallest float.
    """
    scales, pulls, outputs = log_pulls(scores, logs)
    scale = scales[0, 0]
    unit = jnp.exp(scale - log_excess(scores, logs, LOSS)) / len(scores)
    falling, attended = falling_slope(LOSS, outputs), jnp.exp(logs)
    slope = -unit * (falling * pulls).reshape(-1)
    crossed = pulls[:, :, None] * attended[:, None, :]
    square = jnp.exp(scale) * (1 - falling)[:, :, None] * pulls[:, :, None] * pulls[:, None, :]
    diagonal = pulls[:, :, None] * jnp.eye(pulls.shape[1], dtype=pulls.dtype)
    blocks = unit * falling[:, :, None] * (square - diagonal + crossed + crossed.swapaxes(1, 2))
    count, size = scores.shape
    spread = blocks[:, :, None, :] * jnp.eye(count, dtype=pulls.dtype)[:, None, :, None]
    return slope, spread.reshape(count * size, count * size) - jnp.outer(slope, slope)


def _reached(reduced: Reduced, hyper: Hyper) -> Float[Array, " all"]:
    """Return where normalised descent from zero is once its norm is R; its last steps are shortened to meet it."""

    def below(point: Float[Array, " all"]) -> Array:
        return jnp.linalg.norm(point) < hyper.radius * (1 - 1e-6)

    def step(point: Float[Array, " all"]) -> Float[Array, " all"]:
        length = jnp.minimum(hyper.step_size, hyper.radius - jnp.linalg.norm(point))
        return point + length * _descent(reduced, point)

    return jax.lax.while_loop(below, step, jnp.zeros(len(reduced.factor), reduced.factor.dtype))


def _conclude(reduced: Reduced, hyper: Hyper, records: Metrics, state: State) -> Metrics:
    points = jnp.stack([state.point, _reached(reduced, hyper)])
    logs = jax.vmap(partial(_logs, reduced))(points)
    selected = jnp.argmax(logs, axis=2)
    losses = jax.vmap(lambda each: log_excess(reduced.scores, each, LOSS))(logs)
    path, descent, margin = jax.vmap(lambda point: _at_length(point, 1.0))(
        jnp.stack([*points, reduced.solution])
    )
    distances = [path - _descent(reduced, state.point), path - margin, descent - margin, path - descent]
    angle, error, descent_error, apart = (jnp.linalg.norm(difference) for difference in distances)
    dtype = reduced.scores.dtype
    return {
        "angle": angle,
        "error": error,
        "residual_limit": reduced.residual_limit,
        "margin_norm": jnp.linalg.norm(reduced.solution),
        "support_share": reduced.support_share,
        "global": jnp.all(selected[0] == jnp.argmax(reduced.scores, axis=1)).astype(dtype),
        "descent_error": descent_error,
        "apart": apart,
        "same": jnp.all(selected[0] == selected[1]).astype(dtype),
        "excess": losses[1] - losses[0],
        "converged": (angle < CONVERGED) & (reduced.violation < SOLVED),
    }


def _max_margin(
    scores: Float[Array, "inputs tokens"], factor: Float[Array, "all all"]
) -> tuple[Float[Array, " all"], Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Return `W^mm` of the optimal tokens as a point, its violation, the residual's limit, the share of support tokens.

    `r = sum_k beta_k a_k` over the support tokens has `a_k . r = log(w_k / lambda_k) + constant`, and with `W^mm =
    sum_k lambda_k a_k` across it the constant is minus the mean of the logarithms in the weights `lambda_k`.
    """
    chosen = jnp.arange(scores.shape[1]) == jnp.argmax(scores, axis=1)[:, None]
    others = ~chosen.reshape(-1)
    # Column k of the factor is the point of x_it z_i^T; a_k is the difference of two columns.
    columns = factor.T.reshape(*scores.shape, -1)
    own = jnp.sum(jnp.where(chosen[:, :, None], columns, 0.0), axis=1, keepdims=True)
    differences = (own - columns).reshape(len(others), -1)
    gram = differences @ differences.T
    found = least_norm(gram, jnp.ones_like(gram[0]), jnp.zeros_like(others), others)
    solution = found.multipliers @ differences
    support = others & (found.multipliers > 0)

    best = jnp.sum(jnp.where(chosen, scores, 0.0), axis=1, keepdims=True)
    pulled = support & (best > scores).reshape(-1)
    ratio = (falling_slope(LOSS, best) * (best - scores)).reshape(-1)
    balance = jnp.log(jnp.where(pulled, ratio / jnp.where(pulled, found.multipliers, 1.0), 1.0))
    balance = balance - (balance @ found.multipliers) / jnp.sum(found.multipliers)
    balance = jnp.where(support, balance, 0.0)
    inner = jnp.where(support[:, None] & support, gram, jnp.eye(len(gram), dtype=gram.dtype))
    square = balance @ solve_spd(inner, balance[:, None])[:, 0]
    limit = jnp.sqrt(jnp.maximum(square, 0.0))
    return solution, found.violation, limit, jnp.sum(support) / jnp.sum(others)


def _at_length(vector: Float[Array, " all"], length: Array | float) -> Float[Array, " all"]:
    norm = jnp.linalg.norm(vector)
    return vector * (length / jnp.where(norm > 0, norm, 1.0))
