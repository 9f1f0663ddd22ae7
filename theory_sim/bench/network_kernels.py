"""Steps of networks in random subspaces, and of all their parameters.

784-200-200-10 trains on images of MNIST's size, of random bytes: the speed does not depend on what they show.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from theory_sim.bench import plain_numpy
from theory_sim.bench.kernels import Kernel, Step, batch, flops_of, nbytes
from theory_sim.subspace import MLP, Dataset, DenseProjection, OneHotProjection, digits, subspace_training

WIDTHS = [784, 200, 200, 10]
RATE, DIRECT_RATE = 0.03, 1e-3


def dense_digits(*, runs: int = 64, steps: int = 100) -> Kernel:
    """A sweep over d of 64-60-60-10 on the digits, with one dense projection that fits into a large cache."""
    dims = np.resize([60, 120, 180, 240], runs)
    return _network([64, 60, 60, 10], digits(), "dense", dims, steps)


def dense_network(*, runs: int = 64, steps: int = 4, images: int = 2000) -> Kernel:
    """A sweep over d of 784-200-200-10 with one dense projection of 1.2 GB, read once a product for all runs."""
    return _network(WIDTHS, _images(images), "dense", np.resize([192, 384, 576, 768], runs), steps)


def direct_network(*, runs: int = 8, steps: int = 20, images: int = 2000) -> Kernel:
    """Training of all 199,210 parameters, and of nothing else."""
    return _network(WIDTHS, _images(images), "dense", np.zeros(runs, int), steps)


def one_hot_network(*, runs: int = 8, steps: int = 20, images: int = 2000) -> Kernel:
    """Training of 750 numbers, each of which moves 265 or 266 parameters."""
    return _network(WIDTHS, _images(images), "signed_one_hot", np.full(runs, 750), steps)


def fastfood_network(*, runs: int = 8, steps: int = 20, images: int = 2000) -> Kernel:
    """Training of 750 numbers through a Fastfood block of 2^18 rows."""
    return _network(WIDTHS, _images(images), "fastfood", np.full(runs, 750), steps)


def _images(count: int) -> Dataset:
    draw = np.random.default_rng(0)
    x = draw.integers(256, size=(count, 784), dtype=np.uint8)
    y = draw.integers(10, size=count)
    return Dataset(x, y, x[:128], y[:128])


def _network(widths: list[int], data: Dataset, kind: str, dims: np.ndarray, steps: int) -> Kernel:
    runs, most = len(dims), int(dims.max())
    adam = partial(optax.adam, b1=0.9, b2=0.99)
    simulation = subspace_training(
        MLP(widths[1:]),
        data,
        max_dim=most,
        projection=kind,
        direct=most == 0,
        optimizer=adam,
        evaluated=min(128, len(data.train_y)),
    )
    swept = {
        "dim": dims,
        "step_size": np.full(runs, RATE),
        "direct_step_size": np.full(runs, DIRECT_RATE),
    }
    call, problem, state = batch(simulation, runs, steps, swept)
    parts = jax.tree.leaves(state.parameters if most == 0 else state.start)
    start = np.concatenate([np.ravel(part) for part in parts])
    x = data.train_x / 255.0 if data.train_x.dtype == np.uint8 else data.train_x
    rule = (x.astype(start.dtype), np.asarray(data.train_y), widths, start)
    maps = [plain_map(problem, int(dim)) for dim in np.unique(dims)]
    settings: dict[str, Any] = {"batch": 128, "step_size": RATE if most else DIRECT_RATE}

    def numpy() -> Step:
        return _one_of_each([plain_numpy.network_training(*rule, each, **settings) for each in maps])

    def torch() -> Step:
        from theory_sim.bench import plain_torch

        return _one_of_each([plain_torch.network_training(*rule, each, **settings) for each in maps])

    kinds = f"{kind} d={most}" if len(maps) == 1 else f"{kind} d={dims.min()}..{most}"
    name = f"subspace.subspace_training {'-'.join(map(str, widths))} {kinds if most else 'direct'}"
    # A dense projection lies there twice, by rows and by columns: each product of a step reads one of them.
    flops, moved = flops_of(simulation, problem, state), 2.0 * nbytes(state)
    return Kernel(name, runs, steps, call, flops, float(nbytes(problem)), moved, numpy, torch, len(maps))


def _one_of_each(loops: Sequence[Step]) -> Step:
    """Return a step that makes one of each loop, one after the other."""
    return lambda: [step() for step in loops]


def plain_map(problem: Any, dim: int) -> plain_numpy.Map | None:
    """Return the first dimensions of a drawn projection as the plain loops write it; None for direct training.

    Of a structured projection `dim` is all of them.
    """
    if dim == 0:
        return None
    if isinstance(problem, DenseProjection):
        return plain_numpy.Dense(np.asarray(problem.rows)[:dim])
    if isinstance(problem, OneHotProjection):
        signs = np.ones(1) if problem.signs is None else np.asarray(problem.signs)
        return plain_numpy.OneHot(np.asarray(problem.order) % dim, signs, dim)
    parts = (problem.signs, problem.permutation, problem.gaussians, problem.scale)
    return plain_numpy.Fastfood(*map(np.asarray, parts))
