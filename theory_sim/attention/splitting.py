r"""The nuclear max margin problem by a first-order method: what it leaves of the rank.

    min ||Z||_*    s.t.   Z = W,   s_k = a_k^T W b_k,   s_k >= 1

by the alternating direction method of multipliers with penalty 1. Of the two copies that it iterates, `Z` has the rank
of the solution after some dozens of steps; `W`, which meets the linear equations, has small singular values of the
order of the tolerance in all directions that the constraints reach. Conic solvers of first order return the latter:
counted above an absolute 1e-7, its rank is that of the data (AT-A-F2).

>>> import jax
>>> import jax.numpy as jnp
>>> jax.config.update("jax_enable_x64", True)
>>> found = nuclear_splitting(jnp.eye(2), jnp.eye(2), jnp.ones(2))
>>> bool(jnp.abs(found.weights - jnp.eye(2)).max() < 1e-4), bool(found.settled)
(True, True)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from theory_sim.decompositions import cholesky, solve_cholesky

TOLERANCE = 1e-5
"""The relative residuals at which a first-order conic solver stops by default, behind common modelling languages."""
MOST_STEPS = 3000


class Splitting(NamedTuple):
    """The copy of the weights that meets the linear equations, multipliers, steps taken, and whether they settled.

    `dual` are multipliers of the constraints, 0 or more, up to the tolerance optimal.
    """

    weights: Float[Array, "rows columns"]
    dual: Float[Array, " points"]
    steps: Int[Array, ""]
    settled: Bool[Array, ""]


class _Iterate(NamedTuple):
    weights: Array
    low_rank: Array
    slack: Array
    of_rank: Array
    of_slack: Array
    steps: Array
    settled: Array


def nuclear_splitting(
    left: Float[Array, "points rows"],
    right: Float[Array, "points columns"],
    least: Float[Array, " points"],
    tolerance: Float[Array, ""] | float = TOLERANCE,
) -> Splitting:
    """Minimise `||W||_*` subject to `left_k^T W right_k >= least_k`; `-inf` takes a constraint away.

    Stops where both residuals, primal and dual, are below `tolerance` in units of 1 + the largest entry of what they
    compare, after `MOST_STEPS` at the latest: then it has not settled, as on problems without a solution.
    """
    left = jnp.where(jnp.isfinite(least)[:, None], left, 0.0)
    gram = (left @ left.T) * (right @ right.T)
    unit = jnp.eye(len(left), dtype=left.dtype)
    projection = solve_cholesky(cholesky(unit + gram), unit)

    def margins(weights: Array) -> Array:
        return jnp.sum((left @ weights) * right, axis=1)

    def combined(multipliers: Array) -> Array:
        return (left * multipliers[:, None]).T @ right

    def step(at: _Iterate) -> _Iterate:
        near, wanted = at.low_rank - at.of_rank, at.slack - at.of_slack
        weights = near + combined(projection @ (wanted - margins(near)))
        reached = margins(weights)
        low_rank, slack = shrunk(weights + at.of_rank), jnp.maximum(least, reached + at.of_slack)
        of_rank, of_slack = at.of_rank + weights - low_rank, at.of_slack + reached - slack
        primal = _largest(weights - low_rank, reached - slack) / (1 + _largest(weights, slack))
        dual = _largest(low_rank - at.low_rank, slack - at.slack) / (1 + _largest(of_rank, of_slack))
        settled = jnp.maximum(primal, dual) < tolerance
        return _Iterate(weights, low_rank, slack, of_rank, of_slack, at.steps + 1, settled)

    none = jnp.zeros((left.shape[1], right.shape[1]), left.dtype)
    zeros = jnp.zeros(len(left), left.dtype)
    start = _Iterate(none, none, jnp.maximum(least, 0.0), none, zeros, jnp.asarray(0), jnp.asarray(False))
    end = jax.lax.while_loop(lambda at: ~at.settled & (at.steps < MOST_STEPS), step, start)
    return Splitting(end.weights, jnp.maximum(-end.of_slack, 0.0), end.steps, end.settled)


def shrunk(matrix: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """Lower all singular values by 1, to 0 at least: the proximal map of the nuclear norm."""
    # Values below 1 end at 0 whatever their error, so that the eigenvalues of the Gram matrix are exact enough. LAPACK,
    # at the price of one device on a CPU: `leading_directions` would make the whole method four times slower.
    squares, directions = jnp.linalg.eigh(matrix.T @ matrix)
    share = 1 - 1 / jnp.sqrt(jnp.maximum(squares, 1.0))
    return ((matrix @ directions) * share) @ directions.T


def _largest(*parts: Array) -> Array:
    return jnp.stack([jnp.max(jnp.abs(part)) for part in parts]).max()
