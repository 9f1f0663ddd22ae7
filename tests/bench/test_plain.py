"""The plain NumPy loops compute what the kernels compute: fair opponents, and references with gradients by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from theory_sim.attention import pattern_transformer
from theory_sim.bench import kernels, measure, plain_numpy
from theory_sim.sensing import symmetric_gd, unvech
from theory_sim.subspace import MLP, digits, subspace_training


def test_sensing():
    simulation = symmetric_gd(dim=7, true_rank=2, max_rank=3, measurements=30)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    state = simulation.init(jax.random.key(1), problem, simulation.hyper)
    matrices = np.asarray(jax.vmap(unvech)(problem.operator.matrix)).reshape(30, 49)
    factor, step = np.asarray(state.factor), simulation.hyper.step_size
    for _ in range(10):
        state = simulation.step(jax.random.key(2), problem, simulation.hyper, state)
        factor = plain_numpy.sensing_step(factor, matrices, np.asarray(problem.observed), step)
    np.testing.assert_allclose(state.factor, factor, rtol=1e-10)


def test_transformer():
    # A single stored sequence makes every minibatch the same, whatever is drawn.
    simulation = pattern_transformer(dim=6, tokens=5, width=8, samples=1, test_samples=2, batch=3, queries=2)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    state = simulation.init(jax.random.key(1), problem, simulation.hyper)
    weights = plain_numpy.Transformer(*map(np.asarray, state.weights))
    tokens = np.repeat(np.asarray(problem.train.tokens), 3, axis=0)
    labels = np.repeat(np.asarray(problem.train.labels), 3)
    head = np.where(np.arange(8) % 2 == 0, 1, -1) / np.sqrt(8)
    for _ in range(10):
        state = simulation.step(jax.random.key(2), problem, simulation.hyper, state)
        weights = plain_numpy.transformer_step(weights, tokens, labels, head, 2, simulation.hyper.step_size)
    for ours, plain in zip(state.weights, weights, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-12)


def test_subspace():
    data = digits()
    one = tuple(part[:1] for part in data)
    adam = partial(optax.adam, b1=0.9, b2=0.99)
    simulation = subspace_training(MLP([5, 4, 10]), one, max_dim=7, optimizer=adam, batch_size=2)
    hyper = simulation.hyper._replace(dim=7)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    state = simulation.init(jax.random.key(1), problem, hyper)
    start, rows = np.asarray(state.start), np.asarray(problem.rows)
    moved, memory = np.zeros(7), plain_numpy.Adam(0, np.zeros(7), np.zeros(7))
    batch = np.repeat(one[0], 2, axis=0), np.repeat(one[1], 2)
    for _ in range(10):
        state = simulation.step(jax.random.key(2), problem, hyper, state)
        widths = [64, 5, 4, 10]
        moved, memory = plain_numpy.subspace_step(moved, memory, start, rows, batch, widths, hyper.step_size)
    np.testing.assert_allclose(state.moved[:7], moved, rtol=1e-8)


def test_the_benchmark_measures_a_kernel_against_its_limit_and_its_loop():
    small = partial(kernels.symmetric_sensing, runs=4, steps=4, dim=6, measurements=20, rank=3)
    (speed,) = measure([small], rounds=1)
    assert speed.limit in ("gemm", "bandwidth")
    assert 0 < speed.fraction < 2
    assert speed.numpy_ratio > 0
    expected = {
        "kernel",
        "runs",
        "steps_per_second",
        "gflops",
        "limit",
        "fraction",
        "numpy_ratio",
        "torch_ratio",
    }
    assert expected <= set(speed._asdict())
    assert speed.gflops == pytest.approx(speed.steps_per_second * 4 * 20 * 21 / 1e9)


def test_our_kernels_share_one_operator_between_runs():
    kernel = kernels.symmetric_sensing(runs=4, steps=2, dim=6, measurements=20, rank=3)
    errors = kernel.call()["error"]
    assert errors.shape == (4, 1)
    assert bool(jnp.isfinite(errors).all())
