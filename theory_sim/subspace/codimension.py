r"""The toy problem of known intrinsic dimension: k linear conditions on D coordinates.

D coordinates fall into k groups and group j = 1 .. k must sum to j; the loss is the mean over the groups of
`(sum - j)^2`. Its solutions form a hyperplane of codimension k, hence d_int = k for every D (SU-A1-2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from theory_sim.decompositions import orthonormal_rows
from theory_sim.simulation import Metrics, Simulation, Variable
from theory_sim.subspace.projections import projection_named


class CodimensionSetting(NamedTuple):
    """There is nothing to vary in how a projection is drawn."""


class CodimensionHyper(NamedTuple):
    """Run axes: subspace dimension (0: nothing moves), step size, spread of the Gaussian theta_0 (0: zero)."""

    dim: int | Int[Array, ""] = 10
    step_size: float | Float[Array, ""] = 0.5
    initial_scale: float | Float[Array, ""] = 0.0


class CodimensionProblem(NamedTuple):
    """`sums` [k, d] are the group sums of the columns of P; `basis` [k, min(k, d)] orthonormalises them in order."""

    sums: Float[Array, "groups d"]
    basis: Float[Array, "groups rank"]


class CodimensionState(NamedTuple):
    """`start` [k] is what theta_0 misses in each group; `moved` [d] is theta_d."""

    start: Float[Array, " groups"]
    moved: Float[Array, " d"]
    optimizer: PyTree


def codimension_toy(
    *, ambient: int = 1000, groups: int = 10, max_dim: int = 50, projection: str = "dense"
) -> Simulation:
    """Fit k = `groups` sums over D = `ambient` coordinates with Adam in a random subspace of dimension `dim`.

    The loss sees `P theta_d` only through its group sums `(S P) theta_d`, so that the problem stores `S P`
    [k, max_dim] and a step costs O(k d) instead of O(D d); the trajectory is the same. Adam has beta1 0.9 and
    beta2 0.99. Metrics: `loss`, `performance = exp(-loss)`; at the end `best_loss`, the least-squares optimum in
    the subspace, and `best_ratio = best_loss / loss(theta_0)`, the quantity whose law is known (SU-A1-1).

    Raises ValueError unless 1 <= groups, groups divides ambient and 1 <= max_dim <= ambient, and for an unknown
    projection. Source: arXiv:1804.08838, toy experiment (SU-A1-I3; the form of the loss and of the performance
    is unconfirmed there).
    """
    draw = projection_named(projection)
    if groups < 1 or ambient < groups or ambient % groups:
        raise ValueError(f"groups must divide ambient={ambient} into equal parts, got groups={groups}")
    if not 1 <= max_dim <= ambient:
        raise ValueError(f"max_dim must lie between 1 and ambient={ambient}, got {max_dim}")

    def group_sums(parameters: Float[Array, " D"]) -> Float[Array, " groups"]:
        return parameters.reshape(groups, -1).sum(axis=1)

    def sample(key: PRNGKeyArray, setting: CodimensionSetting) -> CodimensionProblem:
        members = jnp.repeat(jnp.eye(groups), ambient // groups, axis=1)
        sums = jax.vmap(draw(key, ambient, max_dim).transpose)(members)
        # The first r columns of Q span the first r columns of S P: one factorisation serves every dimension.
        return CodimensionProblem(sums, orthonormal_rows(sums.T[:groups]).T)

    def init(key: PRNGKeyArray, problem: CodimensionProblem, hyper: CodimensionHyper) -> CodimensionState:
        theta_0 = hyper.initial_scale * jax.random.normal(key, (ambient,))
        moved = jnp.zeros(max_dim)
        start = group_sums(theta_0) - jnp.arange(1, groups + 1)
        return CodimensionState(start, moved, _adam(hyper).init(moved))

    def step(
        key: PRNGKeyArray, problem: CodimensionProblem, hyper: CodimensionHyper, state: CodimensionState
    ) -> CodimensionState:
        gradient = 2 / groups * (state.start + problem.sums @ state.moved) @ problem.sums
        gradient = jnp.where(jnp.arange(max_dim) < hyper.dim, gradient, 0)
        update, memory = _adam(hyper).update(gradient, state.optimizer)
        return CodimensionState(state.start, optax.apply_updates(state.moved, update), memory)

    def observe(problem: CodimensionProblem, hyper: CodimensionHyper, state: CodimensionState) -> Metrics:
        loss = jnp.mean((state.start + problem.sums @ state.moved) ** 2)
        return {"loss": loss, "performance": jnp.exp(-loss)}

    def conclude(
        problem: CodimensionProblem, hyper: CodimensionHyper, records: Metrics, state: CodimensionState
    ) -> Metrics:
        reachable = jnp.arange(problem.basis.shape[1]) < hyper.dim
        missed = state.start - problem.basis @ jnp.where(reachable, state.start @ problem.basis, 0)
        best = jnp.mean(missed**2)
        return {"best_loss": best, "best_ratio": best / jnp.mean(state.start**2)}

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
        },
        limits={"dim": (0, max_dim)},
    )


def _adam(hyper: CodimensionHyper) -> optax.GradientTransformation:
    return optax.adam(hyper.step_size, b1=0.9, b2=0.99)
