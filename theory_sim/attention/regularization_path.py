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
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.attention import factor_path
from theory_sim.attention.directions import distance, unit
from theory_sim.attention.least_norm import SOLVED
from theory_sim.attention.selection_gradient import (
    Problem,
    falling_slope,
    log_excess,
    log_pulls,
    token_scores,
)
from theory_sim.attention.selection_path import (
    LOSS,
    State,
    bound,
    newton_step,
    optimal_margin,
)
from theory_sim.attention.token_selection import PARAMETERIZATIONS, Setting, token_selection
from theory_sim.decompositions import cholesky
from theory_sim.simulation import Metrics, Simulation, Variable

FIRST = 8.0
"""The norm at which the search begins."""
CONVERGED = 1e-6
"""The angle between `W_R` and `-grad L` below which a point counts as the minimum."""


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


def regularization_path(
    *, inputs: int, tokens: int, dim: int, parameterization: str = "weights"
) -> Simulation:
    """Return the search for `W_R` under the logistic loss, on the problems of `token_selection`.

    80 steps are enough to reach a norm of 2000 and to converge. `parameterization="key_query"` bounds `||W||_*` in the
    place of `||W||_F`, as a bound on `||K||^2 + ||Q||^2` does (`factor_path`).

    Conclusions: `angle`, between `W_R` and `-grad L`, in radians: if `log(L - L*)` is convex between them, the
    direction of the minimum is no farther (derived: `log(L - L*) + mu ||W||^2 / 2`, with `mu R = |grad|`, is strongly
    convex by `mu`). A run has not converged if this is above `CONVERGED`, or if `W^mm` was not found. `error`, the
    distance of `W_R / R` from the max margin direction of the optimal tokens, and `residual_limit`, what `R error`
    tends to; `global`, whether the most attended tokens are the optimal ones; `margin_norm = ||W^mm||_F`;
    `support_share`.

    And of normalised descent from zero, once it has reached the norm R: `descent_error`; `apart`, the distance of its
    direction from that of `W_R`; `same`, whether it selects the same tokens; `excess`, `log(L - L*)` above that of
    `W_R`.

    Of key and query: `gap`, the relative gap of the certificate; a run has not converged if it is above
    `factor_path.CERTIFIED`, or times `R^2` above `factor_path.SETTLED`, or if one `W^mm` was not found; `error`, here
    the distance from the nuclear norm's direction; `frobenius_error`, that from the Frobenius norm's; `residual_limit`,
    `global`, and `margin_norm = ||W^mm||_*`.

    Raises ValueError as `token_selection` does, and unless `dim` is at least `inputs` and `tokens`.
    """
    plain = token_selection(inputs=inputs, tokens=tokens, dim=dim, parameterization=parameterization)
    if dim < max(inputs, tokens):
        raise ValueError(f"dim must be at least inputs and tokens, {max(inputs, tokens)}, got {dim}")
    factors = parameterization == PARAMETERIZATIONS[1]
    reduced = factor_path.factored_problem if factors else reduced_problem
    return Simulation(
        sample=lambda key, setting: reduced(plain.sample(key, setting)),
        init=factor_path.init if factors else _init,
        step=factor_path.step if factors else _step,
        observe=lambda reduced, hyper, state: {},
        setting=Setting(),
        hyper=factor_path.Hyper() if factors else Hyper(),
        conclude=factor_path.conclude if factors else _conclude,
        variables={
            "gap": Variable("relative gap of the minimum"),
            "frobenius_error": Variable("distance of the path from the Frobenius max margin direction"),
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
    # Column k of the factor is the point of x_it z_i^T.
    points = factor.T.reshape(*scores.shape, -1)
    return Reduced(problem, scores, factor, *optimal_margin(scores, points))


def _logits(reduced: Reduced, point: Float[Array, " all"]) -> Float[Array, "inputs tokens"]:
    return (point @ reduced.factor).reshape(reduced.scores.shape)


def _logs(reduced: Reduced, point: Float[Array, " all"]) -> Float[Array, "inputs tokens"]:
    return jax.nn.log_softmax(_logits(reduced, point))


def _descent(reduced: Reduced, point: Float[Array, " all"]) -> Float[Array, " all"]:
    """Return the direction of `-grad L`, of length 1."""
    _, pulls, outputs = log_pulls(reduced.scores, _logs(reduced, point))
    slope = reduced.factor @ (pulls * falling_slope(LOSS, outputs)).reshape(-1)
    return unit(slope)


def _init(key: PRNGKeyArray, reduced: Reduced, hyper: Hyper) -> State:
    return State(bound(hyper.radius, 0, FIRST) * unit(reduced.solution), jnp.asarray(0))


def _step(key: PRNGKeyArray, reduced: Reduced, hyper: Hyper, state: State) -> State:
    def raised(multiplier: Array, slope: Array, by_logits: Array) -> Array:
        return jnp.maximum(multiplier, 0.1 * jnp.linalg.norm(slope) / jnp.linalg.norm(state.point))

    logits = partial(_logits, reduced)
    radius = bound(hyper.radius, state.steps + 1, FIRST)
    return State(newton_step(logits, reduced.scores, state.point, radius, raised), state.steps + 1)


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
    path, descent = points
    error, descent_error = distance(points, reduced.solution)
    angle = distance(path, _descent(reduced, path))
    dtype = reduced.scores.dtype
    return {
        "angle": angle,
        "error": error,
        "residual_limit": reduced.residual_limit,
        "margin_norm": jnp.linalg.norm(reduced.solution),
        "support_share": reduced.support_share,
        "global": jnp.all(selected[0] == jnp.argmax(reduced.scores, axis=1)).astype(dtype),
        "descent_error": descent_error,
        "apart": distance(path, descent),
        "same": jnp.all(selected[0] == selected[1]).astype(dtype),
        "excess": losses[1] - losses[0],
        "converged": (angle < CONVERGED) & (reduced.violation < SOLVED),
    }
