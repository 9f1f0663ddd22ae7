r"""The toy problem of known intrinsic dimension: k linear conditions on D coordinates.

D coordinates fall into k groups and group j = 1 .. k must sum to j; the loss is the mean over the groups of
`(sum - j)^2`. Its solutions form a hyperplane of codimension k, hence d_int = k for every D (SU-A1-2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from theory_sim.decompositions import leading_directions, span_basis
from theory_sim.simulation import Metrics, Simulation, Variable
from theory_sim.subspace.linear_maps import Projection, random_order
from theory_sim.subspace.projections import projection_named


class CodimensionSetting(NamedTuple):
    """Problem axes: which coordinates the conditions are about. They matter where P knows their order, in Fastfood.

    `scattered` 1 puts coordinates into groups at random, 0 takes consecutive ones; `flipped` 1 gives every coordinate
    a random sign in its sum; the share `free` of each group's coordinates is in no condition.
    """

    scattered: int | Int[Array, ""] = 0
    flipped: int | Int[Array, ""] = 0
    free: float | Float[Array, ""] = 0.0


class CodimensionHyper(NamedTuple):
    """Run axes: subspace dimension (0: nothing moves), step size, spread of the Gaussian theta_0 (0: zero)."""

    dim: int | Int[Array, ""] = 10
    step_size: float | Float[Array, ""] = 0.5
    initial_scale: float | Float[Array, ""] = 0.0


class CodimensionProblem(NamedTuple):
    """P, and the operator S [k, D] of the group sums."""

    projection: Projection
    members: Float[Array, "groups D"]


class CodimensionState(NamedTuple):
    """`sums` [k, d] is `S P`, `start` [k] what theta_0 misses in each group, `moved` [d] is theta_d."""

    sums: Float[Array, "groups d"]
    start: Float[Array, " groups"]
    moved: Float[Array, " d"]
    optimizer: PyTree


def codimension_toy(
    *, ambient: int = 1000, groups: int = 10, max_dim: int = 50, projection: str = "dense"
) -> Simulation:
    """Fit k = `groups` sums over D = `ambient` coordinates with Adam in a random subspace of dimension `dim`.

    The loss sees `P theta_d` only through its group sums `(S P) theta_d`, so that a run keeps `S P` [k, max_dim] and
    a step costs O(k d) instead of O(D d); the trajectory is the same. Adam has beta1 0.9 and beta2 0.99. Metrics:
    `loss`, `performance = exp(-loss)`; at the end `best_loss`, the least-squares optimum in the subspace,
    `best_ratio = best_loss / loss(theta_0)`, the quantity whose law is known (SU-A1-1), and, for `dim` >= 1, the
    largest singular value `top` of S P and its ratio `condition` to the min(k, dim)-th (SU-A3-4).

    Raises ValueError unless 1 <= groups, groups divides ambient and 1 <= max_dim <= ambient, and for an unknown
    projection. Source: arXiv:1804.08838, toy experiment (SU-A1-I3; the form of the loss and of the performance
    is unconfirmed there).
    """
    draw = projection_named(projection)
    if groups < 1 or ambient < groups or ambient % groups:
        raise ValueError(f"groups must divide ambient={ambient} into equal parts, got groups={groups}")
    if not 1 <= max_dim <= ambient:
        raise ValueError(f"max_dim must lie between 1 and ambient={ambient}, got {max_dim}")
    size = ambient // groups

    def sample(key: PRNGKeyArray, setting: CodimensionSetting) -> CodimensionProblem:
        projection_key, order_key = jax.random.split(key)
        order, signs = random_order(order_key, ambient)
        place = jnp.where(setting.scattered, order, jnp.arange(ambient))
        counted = jnp.where(
            place % size >= jnp.round(setting.free * size), jnp.where(setting.flipped, signs, 1), 0
        )
        members = jnp.where(place // size == jnp.arange(groups)[:, None], counted, 0)
        return CodimensionProblem(draw(projection_key, ambient, max_dim), members.astype(float))

    def init(key: PRNGKeyArray, problem: CodimensionProblem, hyper: CodimensionHyper) -> CodimensionState:
        sums = jax.vmap(problem.projection.restricted(hyper.dim).transpose)(problem.members)
        theta_0 = hyper.initial_scale * jax.random.normal(key, (ambient,))
        moved = jnp.zeros(max_dim)
        start = problem.members @ theta_0 - jnp.arange(1, groups + 1)
        return CodimensionState(sums, start, moved, _adam(hyper).init(moved))

    def step(
        key: PRNGKeyArray, problem: CodimensionProblem, hyper: CodimensionHyper, state: CodimensionState
    ) -> CodimensionState:
        gradient = 2 / groups * (state.start + state.sums @ state.moved) @ state.sums
        update, memory = _adam(hyper).update(gradient, state.optimizer)
        return CodimensionState(state.sums, state.start, optax.apply_updates(state.moved, update), memory)

    def observe(problem: CodimensionProblem, hyper: CodimensionHyper, state: CodimensionState) -> Metrics:
        loss = jnp.mean((state.start + state.sums @ state.moved) ** 2)
        return {"loss": loss, "performance": jnp.exp(-loss)}

    def conclude(
        problem: CodimensionProblem, hyper: CodimensionHyper, records: Metrics, state: CodimensionState
    ) -> Metrics:
        # Of independent columns, the first k span everything; the few values of some projections can be dependent.
        basis = span_basis(state.sums.T)
        missed = state.start - (basis @ state.start) @ basis
        best = jnp.mean(missed**2)
        values = leading_directions(state.sums.T)[0]
        least = values[jnp.clip(hyper.dim, 1, groups) - 1]
        return {
            "best_loss": best,
            "best_ratio": best / jnp.mean(state.start**2),
            "top": values[0],
            "condition": values[0] / jnp.where(least > 0, least, 1),
        }

    return Simulation(
        sample=sample,
        init=init,
        step=step,
        observe=observe,
        setting=CodimensionSetting(),
        hyper=CodimensionHyper(),
        conclude=conclude,
        variables={
            "loss": Variable("mean squared error of the group sums"),
            "performance": Variable("performance exp(-loss)"),
            "best_loss": Variable("best loss in the subspace"),
            "best_ratio": Variable("best loss in the subspace / initial loss"),
            "top": Variable("largest singular value of S P"),
            "condition": Variable("condition number of S P"),
        },
        limits={"dim": (0, max_dim), "scattered": (0, 1), "flipped": (0, 1), "free": (0, 1 - 1 / size)},
    )


def _adam(hyper: CodimensionHyper) -> optax.GradientTransformation:
    return optax.adam(hyper.step_size, b1=0.9, b2=0.99)
