r"""The separation of rank-one matrices from the origin in the nuclear norm, whose dual is the operator norm.

The value of `max_{|V|_nuc <= 1} min_k a_k^T V b_k = min_lambda | D |_op`, `D = sum_k lambda_k a_k b_k^T`, is that of
two semidefinite programs (`lambda` in the simplex; derived: Schur complement, and `2 |Y|_nuc = min tr M`):

    min t        over t, lambda:  S = [[t I, -D], [-D^T, t I]] >= 0
    max gamma    over gamma, M:   M = [[P, Y], [Y^T, Q]] >= 0,  tr M = 1,  s_k = 2 a_k^T Y b_k - gamma >= 0

and `V = 2 Y`. Both are solved at once, along `M S = mu I`, `s_k lambda_k = mu`, `mu -> 0`, with the search direction of
Helmberg, Rendl, Vanderbei and Wolkowicz, Kojima, and Monteiro.

>>> import jax
>>> import jax.numpy as jnp
>>> jax.config.update("jax_enable_x64", True)
>>> found = separate_rank_one(jnp.eye(2), jnp.eye(2))
>>> round(float(found.margin), 9), jnp.round(found.direction, 6).tolist()
(0.5, [[0.5, 0.0], [0.0, 0.5]])
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from theory_sim.attention.interior_point import Separation, centred, largest, longest, narrow
from theory_sim.decompositions import cholesky, forward_substitution, solve_cholesky

STEPS = (1.0, 0.99, 0.98, 0.96, 0.93, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
"""The lengths of steps among which the longest is sought, by Cholesky factors: does the matrix stay definite?"""
TO_BOUNDARY = 0.98


class _Pairs(NamedTuple):
    """The vectors `a_k` and `b_k`, side by side in one space: `(a_k, 0)` and `(0, b_k)`."""

    left: Float[Array, "points size"]
    right: Float[Array, "points size"]

    def combine(self, multipliers: Float[Array, " points"]) -> Float[Array, "size size"]:
        """Return `sum_k lambda_k (a_k b_k^T + b_k a_k^T)`."""
        half = (self.left * multipliers[:, None]).T @ self.right
        return half + half.T

    def pair(self, matrix: Float[Array, "size size"]) -> Float[Array, " points"]:
        """Return `2 a_k^T M b_k`, the products of a symmetric matrix with each of the terms of `combine`."""
        return 2 * jnp.sum((self.left @ matrix) * self.right, axis=1)


class _Point(NamedTuple):
    """`lambda`, `t`, `M` and `gamma`."""

    multipliers: Float[Array, " points"]
    radius: Float[Array, ""]
    moments: Float[Array, "size size"]
    offset: Float[Array, ""]


class _Frame(NamedTuple):
    """All in the coordinates where `S = I` and `M` is close to `mu I`: products lose no digits there.

    `root` is the Cholesky factor of `S`, `inverse` that of the factor transposed; `unit` is what `I` turns into.
    """

    pairs: _Pairs
    root: Float[Array, "size size"]
    inverse: Float[Array, "size size"]
    unit: Float[Array, "size size"]
    moments: Float[Array, "size size"]
    slack: Float[Array, " points"]


class _Move(NamedTuple):
    """Changes of `lambda`, `t`, `gamma`, `s`, and in the frame of `S` and `M`."""

    multipliers: Float[Array, " points"]
    radius: Float[Array, ""]
    offset: Float[Array, ""]
    slack: Float[Array, " points"]
    dual: Float[Array, "size size"]
    moments: Float[Array, "size size"]


Solve = Callable[[Float[Array, " unknowns"]], tuple[Array, Array]]


@jax.jit
def separate_rank_one(
    left: Float[Array, "points rows"],
    right: Float[Array, "points columns"],
    tolerance: Float[Array, ""] | float = 0.0,
) -> Separation:
    """Return the separation of the matrices `left_k right_k^T` from the origin in the nuclear norm.

    Where several directions are optimal, the one found is of the largest rank among them. The distance is the radius
    `t`, which a Cholesky factor of `S` proves to be no less than the norm that it bounds, and as close to it as the
    margin is. The search stops at a relative gap of `tolerance`, or of 1e5 times the machine precision if that is
    larger.
    """
    scale = largest(jnp.linalg.norm(left, axis=1) * jnp.linalg.norm(right, axis=1))
    left = left / scale
    (count, rows), columns = left.shape, right.shape[1]
    pairs = _Pairs(jnp.pad(left, ((0, 0), (0, columns))), jnp.pad(right, ((0, 0), (rows, 0))))
    begin = _Point(
        multipliers=jnp.full(count, 1 / count, left.dtype),
        radius=jnp.asarray(2.0, left.dtype),
        moments=jnp.eye(rows + columns, dtype=left.dtype) / (rows + columns),
        offset=jnp.asarray(-1.0, left.dtype),
    )

    def bounds(now: _Point) -> tuple[Array, Array]:
        margin = jnp.min(pairs.pair(now.moments)) / jnp.trace(now.moments)
        return jnp.maximum(margin, 0.0), now.radius / jnp.sum(now.multipliers)

    stop = jnp.maximum(tolerance, 1e5 * jnp.finfo(left.dtype).eps)
    best = narrow(partial(_advance, pairs), bounds, begin, tolerance=stop)
    multipliers = best.multipliers / jnp.sum(best.multipliers)
    direction = 2 * best.moments[:rows, rows:] / jnp.trace(best.moments)
    margin, distance = bounds(best)
    return Separation(direction, multipliers, margin * scale, distance * scale)


def _advance(pairs: _Pairs, now: _Point) -> _Point:
    """Predict a move, correct it, refine it: by one system in turn, which is traced and compiled once."""
    frame = _frame(pairs, now)
    size, count = len(frame.unit), len(frame.slack)
    identity = jnp.eye(size, dtype=frame.unit.dtype)
    mean = (now.multipliers @ frame.slack + jnp.trace(frame.moments)) / (count + size)
    lack = 1 - jnp.trace(now.moments)
    solve = _solver(frame, now.multipliers)

    def improved(turn: Array, state: tuple[_Move, Array, Array, Array]) -> tuple[_Move, Array, Array, Array]:
        move, target, primal, dual = state
        reached = (now.multipliers + dual * move.multipliers) @ (frame.slack + primal * move.slack) + jnp.sum(
            (frame.moments + primal * move.moments) * (identity + dual * move.dual)
        )
        centre = mean * jnp.clip((reached / (count + size) / mean) ** 2, 1e-6, 1.0)
        centre = jnp.where(turn > 0, centre, 0.0)
        # The system is the worse conditioned the nearer the end: unrefined, the gap would stop at 1e-8 or more.
        refine = turn > 1
        missing = target - now.multipliers * move.slack - frame.slack * move.multipliers
        target = centre - now.multipliers * frame.slack - move.multipliers * move.slack
        target = jnp.where(refine, missing, target)
        lacking = lack - jnp.where(refine, jnp.sum(frame.unit * move.moments), 0.0)
        rest = centre * identity - frame.moments - _symmetric(move.moments @ move.dual)
        found = _newton(frame, now.multipliers, solve, target, lacking, jnp.where(refine, 0.0, rest))
        move = jax.tree.map(lambda old, new: jnp.where(refine, old, 0.0) + new, move, found)
        return move, target, *_lengths(frame, now.multipliers, move)

    zero, zeros = jnp.zeros((), identity.dtype), jnp.zeros_like(frame.slack)
    still = _Move(zeros, zero, zero, zeros, jnp.zeros_like(identity), jnp.zeros_like(identity))
    move, _, primal, dual = jax.lax.fori_loop(0, 3, improved, (still, zeros, zero, zero))
    multipliers = now.multipliers + dual * move.multipliers
    # The sum stays 1 but for rounding, which would grow without bound towards an infeasible end.
    total = jnp.sum(multipliers)
    return _Point(
        multipliers / total,
        (now.radius + dual * move.radius) / total,
        _symmetric(now.moments + primal * (frame.inverse.T @ move.moments @ frame.inverse)),
        now.offset + primal * move.offset,
    )


def _frame(pairs: _Pairs, now: _Point) -> _Frame:
    identity = jnp.eye(len(now.moments), dtype=now.moments.dtype)
    root = cholesky(now.radius * identity - pairs.combine(now.multipliers))
    inverse = forward_substitution(root, identity)
    slack, _ = centred(pairs.pair(now.moments) - now.offset, now.multipliers)
    return _Frame(
        _Pairs(pairs.left @ inverse.T, pairs.right @ inverse.T),
        root,
        inverse,
        inverse @ inverse.T,
        _symmetric(root @ now.moments @ root.T),
        slack,
    )


def _solver(frame: _Frame, multipliers: Float[Array, " points"]) -> Solve:
    """Return the solution of `K (dlambda, dt) = right + dgamma e`, `e . dlambda = 0`, as a function of `right`.

    `K_kl = tr(F_k M F_l)` for the terms `F_k` of `S` (t last), plus `s_k / lambda_k` on the diagonal.
    """
    u, v = frame.pairs
    with_u, with_v = u @ frame.moments, v @ frame.moments
    uv, crossed = u @ v.T, with_u @ v.T
    terms = (with_v @ v.T) * (u @ u.T) + (with_u @ u.T) * (v @ v.T) + crossed.T * uv + crossed * uv.T
    product = _symmetric(frame.moments @ frame.unit)
    border, corner = -frame.pairs.pair(product)[:, None], jnp.sum(product * frame.unit)
    schur = jnp.block([[terms + jnp.diag(frame.slack / multipliers), border], [border.T, corner[None, None]]])
    simplex = jnp.append(jnp.ones_like(multipliers), 0.0)
    # A common factor of lambda and t costs nothing, so that K has next to no curvature along it. That direction is
    # excluded: curvature added there changes nothing but the condition number, from 1/mu^2 to 1/mu.
    schur = schur + corner * jnp.outer(simplex, simplex)
    scaling = 1 / jnp.sqrt(jnp.diagonal(schur))
    scaled = scaling[:, None] * schur * scaling
    # Towards an infeasible end, more and more multipliers trade at no cost, and rounding decides about a pivot.
    shift = 8 * jnp.finfo(scaled.dtype).eps * jnp.eye(len(scaled), dtype=scaled.dtype)
    exact, shifted = jax.vmap(cholesky)(jnp.stack([scaled, scaled + shift]))
    factor = jnp.where(jnp.isfinite(exact[-1, -1]), exact, shifted)

    def solve(right: Float[Array, " unknowns"]) -> tuple[Array, Array]:
        both = scaling[:, None] * jnp.stack([right, simplex], axis=1)
        free, normal = (scaling[:, None] * solve_cholesky(factor, both)).T
        offset = -jnp.sum(free[:-1]) / jnp.sum(normal[:-1])
        return free + offset * normal, offset

    return solve


def _newton(
    frame: _Frame,
    multipliers: Float[Array, " points"],
    solve: Solve,
    target: Float[Array, " points"],
    trace: Float[Array, ""],
    rest: Float[Array, "size size"],
) -> _Move:
    """Solve `lambda ds + s dlambda = target`, `tr dM = trace`, `dM + M dS = rest` (its symmetric part)."""
    right = jnp.append(target / multipliers - frame.pairs.pair(rest), jnp.sum(frame.unit * rest) - trace)
    change, offset = solve(right)
    dual = change[-1] * frame.unit - frame.pairs.combine(change[:-1])
    moments = rest - _symmetric(frame.moments @ dual)
    return _Move(change[:-1], change[-1], offset, frame.pairs.pair(moments) - offset, dual, moments)


def _lengths(frame: _Frame, multipliers: Float[Array, " points"], move: _Move) -> tuple[Array, Array]:
    """Return how far `M` and `s` can go, and how far `S` and `lambda`, and stay positive."""
    identity = jnp.eye(len(frame.unit), dtype=frame.unit.dtype)
    steps = jnp.asarray((*STEPS, 0.0), identity.dtype)
    matrices, changes = jnp.stack([frame.moments, identity]), jnp.stack([move.moments, move.dual])

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        """Try a length between those known to be too long and the longest known to be possible."""
        first, last = bounds
        middle = (first + last) // 2
        trials = matrices + steps[middle][:, None, None] / TO_BOUNDARY * changes
        definite = jnp.isfinite(jax.vmap(cholesky)(trials)[..., -1, -1])
        return jnp.where(definite, first, jnp.minimum(middle + 1, last)), jnp.where(definite, middle, last)

    # Positive definite matrices are a convex set: what is possible for a length is so for all that are shorter.
    none = len(STEPS)
    begin = jnp.zeros(2, jnp.int32), jnp.full(2, none, jnp.int32)
    _, place = jax.lax.fori_loop(0, none.bit_length(), halve, begin)
    ratios = jnp.stack([longest(frame.slack, move.slack), longest(multipliers, move.multipliers)])
    primal, dual = jnp.minimum(steps[place], TO_BOUNDARY * ratios)
    return primal, dual


def _symmetric(matrix: Float[Array, "size size"]) -> Float[Array, "size size"]:
    return (matrix + matrix.T) / 2
