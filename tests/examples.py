"""Simulations small enough to be known in closed form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from theory_sim import Simulation, Sweep, Variable, log_spaced


class Setting(NamedTuple):
    curvature: float = 1.0


class Hyper(NamedTuple):
    step_size: float = 0.1


def scalar_descent() -> Simulation:
    """Gradient descent on curvature x^2 / 2: distance |1 - step_size curvature|^t |x_0|."""
    return Simulation(
        sample=lambda key, setting: setting.curvature,
        init=lambda key, problem, hyper: jax.random.normal(key),
        step=lambda key, problem, hyper, x: x - hyper.step_size * problem * x,
        observe=lambda problem, hyper, x: {"distance": jnp.abs(x)},
        setting=Setting(),
        hyper=Hyper(),
        variables={"distance": Variable("distance to the minimum", "m")},
    )


class WalkHyper(NamedTuple):
    rank: int = 3
    scale: float = 1.0


def random_walk(*, dim: int = 5, max_rank: int = 4) -> Simulation:
    """A masked random walk in a random direction: draws in `sample`, in `init` and at every step."""

    def sample(key, setting):
        return jax.random.normal(key, (dim, dim)) * setting.curvature

    def init(key, problem, hyper):
        return jax.random.normal(key, (max_rank, dim)) * (jnp.arange(max_rank) < hyper.rank)[:, None]

    def step(key, problem, hyper, state):
        noise = jax.random.normal(key, (max_rank, dim)) * (jnp.arange(max_rank) < hyper.rank)[:, None]
        return 0.9 * state + 0.1 * hyper.scale * noise @ problem

    return Simulation(
        sample=sample,
        init=init,
        step=step,
        observe=lambda problem, hyper, state: {
            "norm": jnp.linalg.norm(state),
            "rows": jnp.linalg.norm(state, axis=1),
            "_state": state,
        },
        conclude=lambda problem, hyper, records, state: {
            "farthest": jnp.max(records["norm"]),
            "along": jnp.einsum("tij,ij->t", records["_state"], state),
        },
        setting=Setting(),
        hyper=WalkHyper(),
        variables={
            "rows": Variable("norm of each row", dims={"row": np.arange(max_rank)}),
            "along": Variable("product with the last state", dims={"step": None}),
        },
        limits={"rank": (1, max_rank)},
    )


def small_sweep(**changes) -> Sweep:
    """Eighty cells of scalar descent."""
    sweep = Sweep(
        scalar_descent,
        problem={"curvature": [1.0, 2.0]},
        run={"step_size": np.geomspace(1e-3, 0.5, 10)},
        run_seeds=4,
        steps=log_spaced(100, per_decade=4),
    )
    return sweep.override(changes)


def seeded():
    """Three problem seeds; the third has one run only, the fourth none, and dimension 7 is computed nowhere."""
    complete = np.ones((4, 2, 3), dtype=bool)
    complete[2, 1], complete[3], complete[:, :, 2] = False, False, False
    values = np.where(complete, np.arange(24.0).reshape(4, 2, 3), np.nan)
    dims = ("problem_seed", "run_seed", "dim")
    return xr.Dataset({"x": (dims, values), "complete": (dims, complete)}, {"dim": [1, 2, 7]})
