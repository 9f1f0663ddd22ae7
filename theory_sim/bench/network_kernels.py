"""Steps of 784-200-200-10 on images of MNIST's size: direct, and in one-hot and Fastfood subspaces of 750 dimensions.

The images are random bytes: the speed does not depend on what they show.
"""

from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from theory_sim.bench import plain_numpy
from theory_sim.bench.kernels import Kernel, Step, batch, flops_of, nbytes
from theory_sim.subspace import MLP, OneHotProjection, subspace_training

WIDTHS = [784, 200, 200, 10]
RATE = 0.03


def direct_network(*, runs: int = 8, steps: int = 20, images: int = 2000) -> Kernel:
    """Training of all 199,210 parameters, and of nothing else."""
    return _network("dense", 0, runs, steps, images)


def one_hot_network(*, runs: int = 8, steps: int = 20, images: int = 2000) -> Kernel:
    """Training of 750 numbers, each of which moves 265 or 266 parameters."""
    return _network("signed_one_hot", 750, runs, steps, images)


def fastfood_network(*, runs: int = 8, steps: int = 20, images: int = 2000) -> Kernel:
    """Training of 750 numbers through a Fastfood block of 2^18 rows."""
    return _network("fastfood", 750, runs, steps, images)


def _network(kind: str, dim: int, runs: int, steps: int, images: int) -> Kernel:
    draw = np.random.default_rng(0)
    x = draw.integers(256, size=(images, 784), dtype=np.uint8)
    y = draw.integers(10, size=images)
    adam = partial(optax.adam, b1=0.9, b2=0.99)
    simulation = subspace_training(
        MLP(WIDTHS[1:]),
        (x, y, x[:128], y[:128]),
        max_dim=dim,
        projection=kind,
        direct=dim == 0,
        optimizer=adam,
        evaluated=min(128, images),
    )
    call, problem, state = batch(
        simulation,
        runs,
        steps,
        {
            "dim": np.full(runs, dim),
            "step_size": np.full(runs, RATE),
            "direct_step_size": np.full(runs, 1e-3),
        },
    )
    parts = jax.tree.leaves(state.parameters if dim == 0 else state.start)
    start = np.concatenate([np.ravel(part) for part in parts])
    grey = x / 255.0
    rule = (grey.astype(start.dtype), y, WIDTHS, start)
    maps = plain_map(problem, dim)

    def numpy() -> Step:
        return plain_numpy.network_training(*rule, maps, batch=128, step_size=RATE if dim else 1e-3)

    def torch() -> Step:
        from theory_sim.bench import plain_torch

        return plain_torch.network_training(*rule, maps, batch=128, step_size=RATE if dim else 1e-3)

    name = "subspace.subspace_training 784-200-200-10 " + (f"{kind} d={dim}" if dim else "direct")
    return Kernel(
        name,
        runs,
        steps,
        call,
        flops_of(simulation, problem, state),
        nbytes(problem),
        2.0 * nbytes(state),
        numpy,
        torch,
    )


def plain_map(problem: Any, dim: int) -> plain_numpy.OneHot | plain_numpy.Fastfood | None:
    """Return a drawn one-hot or Fastfood projection as the plain loops write it; None for direct training."""
    if dim == 0:
        return None
    if isinstance(problem, OneHotProjection):
        signs = np.ones(1) if problem.signs is None else np.asarray(problem.signs)
        return plain_numpy.OneHot(np.asarray(problem.order) % dim, signs, dim)
    parts = (problem.signs, problem.permutation, problem.gaussians, problem.scale)
    return plain_numpy.Fastfood(*map(np.asarray, parts))
