r"""The shortest vector with given products: equalities and inequalities from a Gram matrix, for many small problems.

    min |V|    s.t.    <a_k, V> = target_k  (free k),    <a_k, V> >= target_k  (the others)

has `V = sum_k lambda_k a_k`, where `lambda`, free or at least 0, minimises `lambda^T G lambda / 2 - target . lambda`,
`G` the Gram matrix of the `a_k` (AT-A-U5). By accelerated projected gradient with restarts, then one solution for the
active constraints. `margin` has the certified interior-point solver; this one compiles in a fraction of its time, needs
`G` positive definite, and tells by how much it failed.

>>> import jax.numpy as jnp
>>> found = least_norm(2 * jnp.eye(3), jnp.array([1.0, -1.0, -1.0]), jnp.array([False, False, True]), jnp.ones(3, bool))
>>> found.multipliers.tolist(), bool(found.violation < 1e-5)
([0.5, 0.0, -0.5], True)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from theory_sim.decompositions import solve_spd

ROUNDS = 1000
"""How many gradient steps are made: errors fall like exp(-steps / sqrt(condition))."""
SOLVED = 1e-4
"""The violation up to which a solution counts as found: an error of 1e-8 in one minus a correlation."""


class LeastNorm(NamedTuple):
    """The multipliers, zero for constraints that are not used, and the largest violation of the optimality conditions.

    For products and multipliers in units of `|a_k|`: that of a constraint, or of a multiplier that ought to be zero or
    positive.
    """

    multipliers: Float[Array, " constraints"]
    violation: Float[Array, ""]


def least_norm(
    gram: Float[Array, "constraints constraints"],
    target: Float[Array, " constraints"],
    free: Bool[Array, " constraints"],
    used: Bool[Array, " constraints"],
) -> LeastNorm:
    """Solve for the multipliers; constraints that are not used are as if they were not there."""
    scale = jnp.sqrt(jnp.where(used, jnp.diagonal(gram), 1.0))
    identity = jnp.eye(len(target), dtype=gram.dtype)
    unit = jnp.where(used[:, None] & used, gram / (scale[:, None] * scale), identity)
    target = jnp.where(used, target / scale, 0.0)
    length = 1 / jnp.max(jnp.sum(jnp.abs(unit), axis=1))

    def step(_: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        before, ahead, pace = state
        moved = ahead - length * (unit @ ahead - target)
        now = jnp.where(free, moved, jnp.maximum(moved, 0.0))
        # Momentum that points uphill is dropped.
        pace = jnp.where((ahead - now) @ (now - before) > 0, 1.0, pace)
        following = (1 + jnp.sqrt(1 + 4 * pace**2)) / 2
        return now, now + (pace - 1) / following * (now - before), following

    start = jnp.zeros_like(target)
    near, _, _ = jax.lax.fori_loop(0, ROUNDS, step, (start, start, jnp.ones((), gram.dtype)))
    active = used & (free | (near > 0))
    matrix = jnp.where(active[:, None] & active, unit, identity)
    found = solve_spd(matrix, jnp.where(active, target, 0.0)[:, None])[:, 0]
    slack = unit @ found - target
    wrong = jnp.where(free, jnp.abs(slack), jnp.maximum(jnp.maximum(-slack, -found), 0.0))
    return LeastNorm(jnp.where(used, found, 0.0) / scale, jnp.max(jnp.where(used, wrong, 0.0)))
