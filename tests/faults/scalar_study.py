"""Many small blocks of a run that takes a moment: something to kill."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory_sim import Simulation, Sweep


class Setting(NamedTuple):
    scale: float = 1.0


class Hyper(NamedTuple):
    decay: float = 0.5


def walk(*, dim: int = 40) -> Simulation:
    """A random walk whose every value depends on all draws before it."""
    return Simulation(
        sample=lambda key, setting: setting.scale * jax.random.normal(key, (dim, dim)) / dim**0.5,
        init=lambda key, problem, hyper: jax.random.normal(key, (dim,)),
        step=lambda key, problem, hyper, x: (
            jnp.tanh(hyper.decay * problem @ x) + 0.1 * jax.random.normal(key, (dim,))
        ),
        observe=lambda problem, hyper, x: {"norm": jnp.linalg.norm(x), "first": x[0]},
        setting=Setting(),
        hyper=Hyper(),
    )


SWEEP = Sweep(
    walk,
    problem={"scale": np.linspace(0.5, 1.5, 16)},
    run={"decay": np.linspace(0.1, 0.9, 4)},
    problem_seeds=12,
    run_seeds=4,
    steps=150,
)
