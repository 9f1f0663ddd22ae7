r"""One step along the minima of `log(L - L*)` on growing spheres, by Newton's method.

`L - L*` is that of token selection under the logistic loss, as a function of the tokens' logits, and the logits are a
function of a point: linear in the coordinates of `W`, bilinear in a key and a query.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from theory_sim.attention.directions import unit
from theory_sim.attention.least_norm import least_norm
from theory_sim.attention.selection_gradient import balances, falling_slope, log_excess, log_pulls
from theory_sim.decompositions import solve_spd

LOSS = "logistic"
LONGEST = 2.0
"""By how much a step of Newton's method may change a logit."""


class State(NamedTuple):
    """A point of the path, and how many steps were made."""

    point: Float[Array, " size"]
    steps: Int[Array, ""]


def bound(radius: Array | float, steps: Array | int, first: float) -> Array:
    """Return the bound on the norm after some steps: each makes it larger by 2^(1/4), from `first` up to the radius."""
    return jnp.minimum(radius, first * 2.0 ** (jnp.asarray(steps) / 4))


def newton_step(
    logits: Callable[[Float[Array, " size"]], Float[Array, "inputs tokens"]],
    scores: Float[Array, "inputs tokens"],
    point: Float[Array, " size"],
    length: Array,
    raised: Callable[[Array, Array, Array], Array],
) -> Float[Array, " size"]:
    """Make one step along the path's tangent to the next length, and one of Newton's method back to the path.

    `raised` gives the multiplier that is used in the place of the constraint's, from that and from the slopes by the
    point and by the logits: far from the path the slope may point outward, or the curvature be negative.
    """
    by_logits, bend = derivatives(scores, jax.nn.log_softmax(logits(point)))
    rates = jax.jacfwd(logits)(point).reshape(-1, len(point))
    slope = by_logits @ rates
    bend = rates.T @ bend @ rates + jax.hessian(lambda p: by_logits @ logits(p).reshape(-1))(point)
    square = point @ point
    across = slope - (slope @ point) / square * point
    multiplier = raised(-(slope @ point) / square, slope, by_logits.reshape(scores.shape))
    matrix = bend + multiplier * jnp.eye(len(bend), dtype=bend.dtype)
    # Along the point, where the constraint fixes the move, the curvature may be negative.
    matrix = matrix + jnp.linalg.norm(matrix) / square * jnp.outer(point, point)
    solved = solve_spd(matrix, jnp.stack([slope, point], axis=1))
    tangent = solved[:, 1] / (point @ solved[:, 1])
    ahead = (length**2 - square) / 2 * tangent
    ahead = jnp.where(jnp.all(jnp.isfinite(ahead)), ahead, 0.0)
    back = (point @ solved[:, 0]) * tangent - solved[:, 0]
    # The second derivatives change by a factor when a logit changes by one.
    back = back * jnp.minimum(1.0, LONGEST / jnp.maximum(jnp.max(jnp.abs(rates @ back)), LONGEST))
    # The first move that is no worse than none, but for rounding.
    shares = 4.0 ** -jnp.arange(4, dtype=point.dtype)[:, None]
    curved, straight = ahead + shares * back, ahead - shares**2 / multiplier * across
    moves = jnp.concatenate([curved, straight, ahead[None], jnp.zeros_like(point)[None]])
    ends = length * unit(point + moves)
    losses = jax.vmap(lambda end: log_excess(scores, jax.nn.log_softmax(logits(end)), LOSS))(ends)
    rounding = 100 * jnp.finfo(point.dtype).eps * (1 + jnp.abs(losses[-1]))
    return ends[jnp.argmax(losses <= losses[-1] + rounding)]


def derivatives(
    scores: Float[Array, "inputs tokens"], logs: Float[Array, "inputs tokens"]
) -> tuple[Float[Array, " all"], Float[Array, "all all"]]:
    """Return the first and second derivatives of `log(L - L*)` by the logits, for the logistic loss.

    With `c_t = s_t (gamma_t - o)`, `o = s^T gamma`: `dl(o) = l' c` and `d^2 l(o) = l'' c c^T + l' (diag(c) - c s^T - s
    c^T)` for each sequence. Both are found over `L - L*`, which may be below the smallest float.
    """
    scales, pulls, outputs = log_pulls(scores, logs)
    scale = scales[0, 0]
    share = jnp.exp(scale - log_excess(scores, logs, LOSS)) / len(scores)
    falling, attended = falling_slope(LOSS, outputs), jnp.exp(logs)
    slope = -share * (falling * pulls).reshape(-1)
    crossed = pulls[:, :, None] * attended[:, None, :]
    square = jnp.exp(scale) * (1 - falling)[:, :, None] * pulls[:, :, None] * pulls[:, None, :]
    diagonal = pulls[:, :, None] * jnp.eye(pulls.shape[1], dtype=pulls.dtype)
    blocks = share * falling[:, :, None] * (square - diagonal + crossed + crossed.swapaxes(1, 2))
    count, size = scores.shape
    spread = blocks[:, :, None, :] * jnp.eye(count, dtype=pulls.dtype)[:, None, :, None]
    return slope, spread.reshape(count * size, count * size) - jnp.outer(slope, slope)


def centred_balances(
    scores: Float[Array, "inputs tokens"], multipliers: Float[Array, " all"], support: Array
) -> Float[Array, " all"]:
    """Return `balances` with the optimal tokens selected, their mean in the weights `lambda_k` taken out."""
    best = jnp.max(scores, axis=1, keepdims=True)
    shaped = (part.reshape(scores.shape) for part in (multipliers, support))
    balance = balances(LOSS, best, scores, *shaped).reshape(-1)
    balance = balance - (balance @ multipliers) / jnp.sum(multipliers)
    return jnp.where(support, balance, 0.0)


def optimal_margin(
    scores: Float[Array, "inputs tokens"], points: Float[Array, "inputs tokens size"]
) -> tuple[Float[Array, " size"], Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Return `W^mm` of the optimal tokens in the Frobenius norm as a point, from those of the `x_it z_i^T`.

    And by how much it violates its conditions, the residual's limit, and the share of support tokens.
    `r = sum_k beta_k a_k` over the support tokens has `a_k . r = log(w_k / lambda_k) + constant`, and with `W^mm =
    sum_k lambda_k a_k` across it the constant is minus the mean of the logarithms in the weights `lambda_k`.
    """
    chosen = jnp.arange(scores.shape[1]) == jnp.argmax(scores, axis=1)[:, None]
    others = ~chosen.reshape(-1)
    own = jnp.sum(jnp.where(chosen[:, :, None], points, 0.0), axis=1, keepdims=True)
    differences = (own - points).reshape(len(others), -1)
    gram = differences @ differences.T
    found = least_norm(gram, jnp.ones_like(gram[0]), jnp.zeros_like(others), others)
    solution = found.multipliers @ differences
    support = others & (found.multipliers > 0)

    balance = centred_balances(scores, found.multipliers, support)
    inner = jnp.where(support[:, None] & support, gram, jnp.eye(len(gram), dtype=gram.dtype))
    square = balance @ solve_spd(inner, balance[:, None])[:, 0]
    limit = jnp.sqrt(jnp.maximum(square, 0.0))
    return solution, found.violation, limit, jnp.sum(support) / jnp.sum(others)
