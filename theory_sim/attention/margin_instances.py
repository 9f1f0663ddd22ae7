r"""Random max margin problems, of any number of sequences, tokens and dimensions in one program, solved and certified.

What the solutions of (Att-SVM) are for random data, without any training: a simulation of zero steps. Sequences,
tokens and dimensions are problem axes: instances are drawn at the largest sizes, and the `inputs (tokens - 1)`
constraints `(x_i,sel - x_it)^T W z_i >= 1` of the sizes asked for are gathered into a list of `points` places, the
places that are left over being copies of the first.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> jax.config.update("jax_enable_x64", True)
>>> simulation = margin_instances(points=12, max_inputs=4, max_tokens=5, max_dim=6)
>>> setting = simulation.setting._replace(inputs=3, tokens=5, dim=6)
>>> problem = simulation.sample(jax.random.key(0), setting)
>>> found = trajectory(simulation, 0)(jax.random.key(1), problem, simulation.hyper)
>>> int(problem.constraints), bool(found["feasible"]), int(found["rank"])
(12, True, 3)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from theory_sim.attention.directions import unit
from theory_sim.attention.margin import NORMS, MaxMargin, max_margin_of_pairs, resolved_rank, unit_values
from theory_sim.attention.selection_direction import SLACK
from theory_sim.attention.splitting import TOLERANCE, nuclear_splitting
from theory_sim.decompositions import leading_directions
from theory_sim.simulation import Metrics, Simulation, Variable, check_counts

COUNTED = 1e-7
"""The singular values that the published count of a rank takes for more than zero (AT-A-S3)."""


SOLVERS = ("interior", "splitting")


class Setting(NamedTuple):
    """What an instance is drawn with.

    `unit` is 1 for tokens scaled to norm 1, as queries always are, and 0 for Gaussian tokens of mean square norm 1.
    `optimal` is 1 where the token of the best score `Y_i v^T x_it` is selected, for a random head and random labels,
    and 0 where it is any token, the first. `self_attention` is 1 where the query of a sequence is its first token, and
    0 where it is drawn by itself.
    """

    inputs: int = 5
    tokens: int = 5
    dim: int = 5
    unit: int = 1
    optimal: int = 1
    self_attention: int = 0


class Hyper(NamedTuple):
    """The relative gap at which the solver stops. Below what rounding permits, it stops where it gains nothing more.

    Of a splitting, the relative residuals, 1e-5 unless told otherwise.
    """

    stop_gap: float = 1e-10


class Instance(NamedTuple):
    """The constraints `left_k^T W right_k >= 1`, so many of them; the places beyond hold copies of the first."""

    left: Float[Array, "points dim"]
    right: Float[Array, "points dim"]
    constraints: Int[Array, ""]

    @property
    def valid(self) -> Bool[Array, " points"]:
        """Which places hold no copy."""
        return jnp.arange(len(self.left)) < self.constraints


def margin_instances(
    *,
    points: int,
    max_inputs: int,
    max_tokens: int,
    max_dim: int,
    norm: str = "frobenius",
    solver: str = "interior",
) -> Simulation:
    """Return the solution of random instances of (Att-SVM), to be run for zero steps.

    The problem axes `inputs`, `tokens`, `dim` go up to the sizes given here, and `points` must hold the largest
    `inputs (tokens - 1)` that is asked for: constraints beyond are left out, and `fits` is 0.

    Conclusions: `feasible`, `gap`, `rank` and `rank_bound` as of `MaxMargin`; `value`, the least norm; `counted`, the
    number of singular values above the absolute `COUNTED`; `active`, the number of constraints with margin 1; `fits`.
    Where there are no weights, all but `feasible`, `gap` and `fits` are zero.

    With the solver "splitting", in the nuclear norm, the same of `nuclear_splitting`: `feasible` where it settled,
    `counted` of the weights that it returns, `value` their norm once they are scaled to a least margin of 1, and `gap`
    what its own multipliers prove.

    Raises ValueError on sizes that are too small or no whole numbers, an unknown norm or solver, or a splitting in the
    Frobenius norm.
    """
    check_counts(
        {"max_tokens": 2}, points=points, max_inputs=max_inputs, max_tokens=max_tokens, max_dim=max_dim
    )
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    if solver == SOLVERS[1] and norm != "nuclear":
        raise ValueError(f"a splitting solves problems in the nuclear norm, got norm={norm!r}")
    return Simulation(
        sample=partial(_sample, points=points, max_inputs=max_inputs, max_tokens=max_tokens, max_dim=max_dim),
        init=lambda key, problem, hyper: jnp.zeros(()),
        step=lambda key, problem, hyper, state: state,
        observe=lambda problem, hyper, state: {},
        setting=Setting(min(5, max_inputs), min(5, max_tokens), min(5, max_dim)),
        hyper=Hyper(TOLERANCE) if solver == SOLVERS[1] else Hyper(),
        conclude=partial(_conclude, norm=norm, solver=solver),
        variables={
            "feasible": Variable("whether there are weights that meet the constraints"),
            "value": Variable("least norm of weights that meet the constraints"),
            "gap": Variable("relative gap of the least norm, or the proof that there is none"),
            "rank": Variable("rank of the weights, in units of their norm"),
            "rank_bound": Variable("proven bound of the rank of all optimal weights"),
            "counted": Variable("singular values of the weights above 1e-7"),
            "active": Variable("number of constraints met with equality"),
            "fits": Variable("whether all constraints had a place"),
        },
        limits={
            "inputs": (1, max_inputs),
            "tokens": (2, max_tokens),
            "dim": (1, max_dim),
            "unit": (0, 1),
            "optimal": (0, 1),
            "self_attention": (0, 1),
            "stop_gap": (0.0, 0.1),
        },
    )


def _sample(
    key: PRNGKeyArray, setting: Setting, *, points: int, max_inputs: int, max_tokens: int, max_dim: int
) -> Instance:
    # The padded axes first and by keys of their own: more dimensions, sequences or tokens keep the draws of fewer.
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(max_inputs + 1))
    drawn = jax.vmap(lambda k: jax.random.normal(k, (max_tokens + 2, max_dim)))(keys)
    kept = jnp.arange(max_dim) < setting.dim
    drawn = jax.lax.optimization_barrier(jnp.where(kept, drawn, 0.0))
    labels = jnp.where(drawn[1:, 1, 0] < 0, -1.0, 1.0)
    head, queries, tokens = drawn[0, 0], unit(drawn[1:, 0]), drawn[1:, 2:]
    scaled = tokens / jnp.sqrt(jnp.asarray(setting.dim, tokens.dtype))
    tokens = jnp.where(setting.unit > 0, unit(tokens), scaled)
    queries = jnp.where(setting.self_attention > 0, tokens[:, 0], queries)
    existing = jnp.arange(max_tokens) < setting.tokens
    scores = jnp.where(existing, labels[:, None] * (tokens @ head), -jnp.inf)
    selected = jnp.where(setting.optimal > 0, jnp.argmax(scores, axis=1), 0)
    others = jnp.maximum(setting.tokens - 1, 1)
    place = jnp.arange(points)
    count = setting.inputs * others
    place = jnp.where(place < count, place, 0)
    of_input, other = place // others, 1 + place % others
    chosen = selected[of_input]
    left = tokens[of_input, chosen] - tokens[of_input, (chosen + other) % setting.tokens]
    return Instance(left, queries[of_input], jnp.asarray(count))


def _conclude(
    problem: Instance, hyper: Hyper, records: Metrics, state: Array, *, norm: str, solver: str
) -> Metrics:
    left, right, valid = problem.left, problem.right, problem.valid
    if solver == SOLVERS[1]:
        found, scale = _split(problem, hyper.stop_gap)
    else:
        found = max_margin_of_pairs(left, right, norm=norm, tolerance=hyper.stop_gap)
        scale = jnp.ones((), left.dtype)
    values, _ = leading_directions(found.weights)
    value = jnp.linalg.norm(found.weights) if norm == "frobenius" else jnp.sum(values)
    margins = jnp.sum((left @ found.weights) * right, axis=1)
    conclusions = {
        "feasible": found.feasible,
        "value": scale * value,
        "rank": found.rank,
        "rank_bound": found.rank_bound,
        "counted": jnp.sum(values > COUNTED),
        "active": jnp.sum(valid & (margins < 1 + SLACK)),
    }
    conclusions = {name: jnp.where(found.feasible, given, 0) for name, given in conclusions.items()}
    return {name: given.astype(value.dtype) for name, given in conclusions.items()} | {
        "gap": found.gap,
        "fits": (problem.constraints <= len(valid)).astype(value.dtype),
    }


def _split(problem: Instance, tolerance: Array | float) -> tuple[MaxMargin, Array]:
    """Return what a splitting finds, with what its multipliers prove, and the factor to a least margin of 1."""
    left, right, valid = problem.left, problem.right, problem.valid
    found = nuclear_splitting(left, right, jnp.where(valid, 1.0, -jnp.inf), tolerance)
    least = jnp.min(jnp.sum((left @ found.weights) * right, axis=1), where=valid, initial=jnp.inf)
    scale = 1 / jnp.where(found.settled, least, 1.0)
    values, _ = leading_directions(found.weights)
    dual_values, _ = leading_directions((left * found.dual[:, None]).T @ right)
    largest, total = dual_values[0], scale * jnp.sum(values)
    proven = jnp.sum(found.dual) / jnp.where(largest > 0, largest, 1.0)
    gap = 1 - proven / jnp.where(total > 0, total, 1.0)
    bound = unit_values(dual_values / jnp.where(largest > 0, largest, 1.0), gap)
    return MaxMargin(found.weights, found.dual, gap, resolved_rank(values), bound, found.settled), scale
