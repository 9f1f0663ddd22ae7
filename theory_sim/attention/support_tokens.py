r"""When all tokens that are not selected are support tokens: assumption B.1 of arXiv:2308.16898, for random instances.

All constraints `(x_i,sel - x_it)^T W z_i >= 1` of (Att-SVM) hold with equality at its solution exactly when the least
norm solution of the equalities, `W = sum_it lambda_it (x_i,sel - x_it) z_i^T` with `K lambda = 1`, has no negative
multiplier; `K` is the Gram matrix of the constraints. A linear system tells, and no solver's tolerance is in it.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = support_tokens(points=8, max_inputs=4, max_tokens=3, max_dim=60)
>>> setting = simulation.setting._replace(inputs=4, tokens=3, dim=60)
>>> problem = simulation.sample(jax.random.key(0), setting)
>>> float(trajectory(simulation, 0)(jax.random.key(1), problem, simulation.hyper)["all_active"])
1.0
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from theory_sim.attention.margin_instances import Instance, margin_instances
from theory_sim.decompositions import solve_spd
from theory_sim.simulation import Metrics, Simulation, Variable


class Hyper(NamedTuple):
    """The largest error of an equality, all of which are 1, at which the linear system counts as solved."""

    error: float = 1e-3


def support_tokens(*, points: int, max_inputs: int, max_tokens: int, max_dim: int) -> Simulation:
    """Return whether all tokens of random instances are support tokens, to be run for zero steps.

    Instances, axes and shapes are those of `margin_instances`. Conclusions: `all_active`, 0 or 1; `least`, the least
    multiplier over their mean, zero where the equalities have no solution; `fits`, whether all constraints had a place.

    Raises ValueError on sizes that are too small.
    """
    instances = margin_instances(points=points, max_inputs=max_inputs, max_tokens=max_tokens, max_dim=max_dim)
    limits = {name: limit for name, limit in instances.limits.items() if name in instances.setting._fields}
    return instances._replace(
        hyper=Hyper(),
        conclude=_conclude,
        variables={
            "all_active": Variable("whether all tokens are support tokens"),
            "least": Variable("least multiplier over the mean multiplier"),
            "fits": Variable("whether all constraints had a place"),
        },
        limits={**limits, "error": (0.0, 1.0)},
    )


def _conclude(problem: Instance, hyper: Hyper, records: Metrics, state: Array) -> Metrics:
    left, right, valid = problem.left, problem.right, problem.valid
    both = valid[:, None] & valid
    gram = jnp.where(both, (left @ left.T) * (right @ right.T), jnp.eye(len(left), dtype=left.dtype))
    target = valid.astype(left.dtype)
    multipliers = solve_spd(gram, target[:, None])[:, 0]
    solved = jnp.max(jnp.abs(gram @ multipliers - target)) <= hyper.error
    least = jnp.min(jnp.where(valid, multipliers, jnp.inf)) * problem.constraints / jnp.sum(multipliers)
    return {
        "all_active": (solved & (least >= 0)).astype(left.dtype),
        "least": jnp.where(solved, least, 0.0),
        "fits": (problem.constraints <= len(valid)).astype(left.dtype),
    }
