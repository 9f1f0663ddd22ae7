r"""How far finitely many points are from the origin, and the half-space that shows it, by interior-point methods.

For points `A_k`, a norm and its dual norm `|.|*`, with `lambda` in the simplex,

    max_{|V| <= 1} min_k <A_k, V>  =  min_lambda | sum_k lambda_k A_k |*

(minimax theorem). A positive value is one over the least norm of a `W` with `<A_k, W> >= 1` for all k, and `W` is
`V` over that value. Where there is no such `W` the value is 0, and `lambda` is Farkas' proof of it. Both sides have
interior points whatever the data, so that one method, from a start that is feasible, serves both cases. Any `V` and
`lambda` give a lower and an upper bound of the value: the answer is certified by these alone, not by how it was found.

The loop is that of the JAX solver qpax, a predictor and a corrector step (Mehrotra), but free of LAPACK. No constant
array meets a matrix product here: fused with a sum, the product reads memory that nobody has written (jaxlib 0.10, CPU;
`jnp.sum((b @ jnp.full((n, n), c)) * b, axis=-1)` is one case).

>>> import jax
>>> import jax.numpy as jnp
>>> jax.config.update("jax_enable_x64", True)
>>> found = separate(jnp.array([[3.0, 1.0], [1.0, 1.0], [1.0, -1.0]]))
>>> round(float(found.margin), 9), round(float(found.distance), 9)
(1.0, 1.0)
>>> bool(separate(jnp.array([[1.0, 0.0], [-2.0, 0.0]])).distance < 1e-12)
True
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from theory_sim.decompositions import cholesky, solve_cholesky

Iterate = TypeVar("Iterate")
MOST_STEPS = 50
PATIENCE = 8
"""How many steps in a row may fail to narrow the bounds: rounding, once it has won, never loses again."""


class Separation(NamedTuple):
    """A direction `V` of norm at most 1, multipliers in the simplex, and the bounds that they prove.

    `margin = min_k <A_k, V>` is at most the common value, `distance` at least `| sum_k lambda_k A_k |*`, which is at
    least that value. The margin is 0, that of `V = 0`, where no better one was found.
    """

    direction: Float[Array, "..."]
    multipliers: Float[Array, " points"]
    margin: Float[Array, ""]
    distance: Float[Array, ""]


@jax.jit
def separate(
    points: Float[Array, "points dim"],
    tolerance: Float[Array, ""] | float = 0.0,
    *,
    required: Float[Array, " points"] | None = None,
    inside: Float[Array, " dim"] | None = None,
) -> Separation:
    """Return the separation of the points from the origin in the Euclidean norm, its own dual.

    A quadratic program: `V` is the point of the convex hull that is closest to the origin, over its norm. It stops at
    a relative gap of `tolerance`, or of a thousand times the machine precision if that is larger.

    With `required`, numbers `b_k` from 0 to 1 of which one is 1, the margin is the largest `m` with `<A_k, V> >= b_k m`
    for all k, and `sum_k b_k lambda_k = 1`: the points with `b_k = 0` have but to be on the right side, and the hull
    grows by their cone. The method then starts at `inside`, which must be a `V` with `<A_k, V> > 0` for all k unless
    all `b_k` are positive: what `separate` finds without `required`, where there is one.
    """
    scale = largest(jnp.linalg.norm(points, axis=1))
    points = points / scale
    count = len(points)
    gram = points @ points.T
    asked = jnp.ones((), points.dtype) if required is None else required
    start = jnp.full(count, 1 / count, points.dtype)
    middle = jnp.mean(points, axis=0)

    def total(multipliers: Float[Array, " points"]) -> Array:
        return jnp.sum(multipliers if required is None else asked * multipliers)

    def lowest(products: Float[Array, " points"]) -> Array:
        """Return the largest `m` with `products >= asked m`, and 0 where a product of none asked is negative."""
        if required is None:
            return jnp.min(products)
        ratios = jnp.where(asked > 0, products / jnp.where(asked > 0, asked, 1.0), jnp.inf)
        within = jnp.min(products) >= -10 * jnp.finfo(points.dtype).eps * jnp.max(jnp.abs(products))
        return jnp.where(within, jnp.min(ratios), 0.0)

    def bounds(now: _Point) -> tuple[Array, Array]:
        # The direction is carried on its own: rebuilt from the multipliers, their rounding would limit the margin.
        norms = jnp.linalg.norm(now.direction), jnp.linalg.norm(now.multipliers @ points)
        margin = lowest(points @ now.direction) / above_zero(norms[0])
        return jnp.maximum(margin, 0.0), norms[1] / total(now.multipliers)

    def advance(now: _Point) -> _Point:
        slack, mean = centred(points @ now.direction - asked * now.offset, now.multipliers)
        factor = cholesky(gram + jnp.diag(slack / now.multipliers))
        # From the hull's mean, the direction is the combination of the points all along.
        apart = jnp.zeros_like(middle) if required is None else now.direction - now.multipliers @ points

        def newton(target: Float[Array, " points"]) -> tuple[_Point, Float[Array, " points"]]:
            right = jnp.stack(
                [asked + jnp.zeros_like(slack), target / now.multipliers + points @ apart], axis=1
            )
            ones, free = solve_cholesky(factor, right).T
            offset = -total(free) / total(ones)
            multipliers = free + offset * ones
            direction = multipliers @ points - apart
            return _Point(multipliers, direction, offset), points @ direction - asked * offset

        def length(move: _Point, slack_move: Array) -> Array:
            return jnp.minimum(longest(now.multipliers, move.multipliers), longest(slack, slack_move))

        def corrected(turn: Array, guess: tuple[_Point, Array]) -> tuple[_Point, Array]:
            """Make the predictor of no move, then its corrector: one system in turn for both."""
            move, slack_move = guess
            step = jnp.minimum(1.0, length(move, slack_move))
            reached = jnp.mean((now.multipliers + step * move.multipliers) * (slack + step * slack_move))
            centre = jnp.where(turn > 0, mean * (reached / mean) ** 3, 0.0)
            return newton(centre - now.multipliers * slack - move.multipliers * slack_move)

        still = jax.tree.map(jnp.zeros_like, (now, slack))
        move, slack_move = jax.lax.fori_loop(0, 2, corrected, still)
        step = jnp.minimum(1.0, jnp.clip(1 - mean, 0.9, 0.99) * length(move, slack_move))
        return jax.tree.map(lambda value, change: value + step * change, now, move)

    begin = _Point(start, middle, jnp.min(points @ middle) - 1)
    if inside is not None:
        # About as long as the solution, with an offset that leaves every point a positive slack.
        unit = inside / above_zero(jnp.linalg.norm(inside))
        least = jnp.min(points @ unit)
        offset = jnp.where(least > 0, least**2 / 2, least - 1)
        begin = _Point(start * count / jnp.sum(asked), unit * jnp.where(least > 0, least, 1.0), offset)
    stop = jnp.maximum(tolerance, 1e3 * jnp.finfo(points.dtype).eps)
    best = narrow(advance, bounds, begin, tolerance=stop)
    margin, distance = bounds(best)
    direction = best.direction / above_zero(jnp.linalg.norm(best.direction))
    multipliers = best.multipliers / total(best.multipliers)
    return Separation(direction, multipliers, margin * scale, distance * scale)


class _Point(NamedTuple):
    multipliers: Float[Array, " points"]
    direction: Float[Array, " dim"]
    offset: Float[Array, ""]


class _Search(NamedTuple):
    now: Iterate  # type: ignore[valid-type]
    best: Iterate  # type: ignore[valid-type]
    margin: Float[Array, ""]
    distance: Float[Array, ""]
    steps: Int[Array, ""]
    best_step: Int[Array, ""]


def narrow(
    advance: Callable[[Iterate], Iterate],
    bounds: Callable[[Iterate], tuple[Array, Array]],
    start: Iterate,
    *,
    tolerance: Float[Array, ""],
) -> Iterate:
    """Return the iterate whose bounds (margin, distance) are closest to each other.

    Stops when the relative gap is within the tolerance, when the distance is nothing but rounding, or when `PATIENCE`
    steps have gained nothing. An iterate that is not finite gains nothing. Of the start no more is known than that the
    value of points of norm 1 at most lies between 0 and 1.
    """

    def unfinished(search: _Search) -> Array:
        gap = search.distance - search.margin
        far = search.distance > 10 * jnp.finfo(search.distance.dtype).eps
        recent = search.steps - search.best_step < PATIENCE
        return (gap > tolerance * search.distance) & far & recent & (search.steps < MOST_STEPS)

    def step(search: _Search) -> _Search:
        now = advance(search.now)
        margin, distance = bounds(now)
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(now)]))
        better = finite & (distance - margin < search.distance - search.margin)
        best, margin, distance, best_step = jax.tree.map(
            lambda new, old: jnp.where(better, new, old),
            (now, margin, distance, search.steps + 1),
            (search.best, search.margin, search.distance, search.best_step),
        )
        return _Search(now, best, margin, distance, search.steps + 1, best_step)

    dtype, zero = jax.tree.leaves(start)[0].dtype, jnp.asarray(0)
    begin = _Search(start, start, jnp.zeros((), dtype), jnp.ones((), dtype), zero, zero)
    return jax.lax.while_loop(unfinished, step, begin).best


def centred(
    slack: Float[Array, " points"], multipliers: Float[Array, " points"]
) -> tuple[Float[Array, " points"], Float[Array, ""]]:
    """Return slacks that are positive where rounding made them not so, and the mean complementarity."""
    tiny = jnp.finfo(slack.dtype).tiny ** 0.5
    mean = jnp.maximum(jnp.mean(multipliers * slack), tiny)
    return jnp.maximum(slack, 1e-8 * mean / multipliers), mean


def longest(values: Float[Array, " points"], change: Float[Array, " points"]) -> Float[Array, ""]:
    """Return how long a step keeps positive values from turning negative."""
    falls = change < 0
    return jnp.min(jnp.where(falls, values / jnp.where(falls, -change, 1.0), jnp.inf))


def largest(norms: Float[Array, " points"]) -> Float[Array, ""]:
    """Return the largest norm, or 1 where all are zero."""
    most = jnp.max(norms)
    return jnp.where(most > 0, most, 1.0)


def above_zero(norm: Float[Array, ""]) -> Float[Array, ""]:
    """Return a norm as a divisor: 1 in the place of 0."""
    return jnp.where(norm > 0, norm, 1.0)
