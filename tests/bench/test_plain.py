"""The plain NumPy loops compute what the kernels compute: fair opponents, and references with gradients by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from theory_sim.attention import pattern_transformer, token_selection
from theory_sim.bench import KERNELS, measure, network_kernels, plain_numpy
from theory_sim.bench.cost import Device, estimate
from theory_sim.bench.sensing_kernels import symmetric_sensing
from theory_sim.sensing import asymmetric_gd, gauss_newton, scaled_gd, subgradient, symmetric_gd, unvech
from theory_sim.subspace import MLP, digits, subspace_training
from theory_sim.sweep import Sweep


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


METHODS = {
    "asymmetric": (
        asymmetric_gd(rows=7, cols=7, true_rank=2, max_rank=3, measurements=60),
        ("left", "right"),
        lambda f, m, y: plain_numpy.asymmetric_step(*f, m, y, 0.1),
    ),
    "scaled": (
        scaled_gd(dim=7, true_rank=2, max_rank=3, measurements=60),
        ("factor",),
        lambda f, m, y: plain_numpy.scaled_step(*f, m, y, 0.3, 0.1),
    ),
    "Gauss-Newton": (
        gauss_newton(dim=7, true_rank=2, max_rank=3, measurements=60),
        ("left", "right"),
        lambda f, m, y: plain_numpy.gauss_newton_step(*f, m, y, 0.3),
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_sensing(name):
    simulation, names, plain = METHODS[name]
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    hyper = simulation.hyper._replace(init_scale=0.5)
    state = simulation.init(jax.random.key(1), problem, hyper)
    operator = problem.operator
    matrices = operator.matrix if operator.shape else jax.vmap(unvech)(operator.matrix)
    matrices = np.asarray(matrices).reshape(60, 49)
    factors = tuple(np.asarray(getattr(state, name)) for name in names)
    step = jax.jit(simulation.step)
    for _ in range(5):
        state = step(jax.random.key(2), problem, hyper, state)
        after = plain(factors, matrices, np.asarray(problem.observed))
        factors = after if isinstance(after, tuple) else (after,)
    for name, factor in zip(names, factors, strict=True):
        np.testing.assert_allclose(getattr(state, name), factor, rtol=1e-8, atol=1e-10)


def test_plain_subgradient_goes_the_length_it_is_given():
    """The kernel's norm is an estimate, exact to some percent: the same direction, and nearly the same length."""
    simulation = subgradient(dim=7, true_rank=2, max_rank=3, measurements=60)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    state = simulation.init(jax.random.key(1), problem, simulation.hyper)
    matrices = np.asarray(jax.vmap(unvech)(problem.operator.matrix)).reshape(60, 49)
    after = simulation.step(jax.random.key(2), problem, simulation.hyper, state)
    factor, length = np.asarray(state.factor), simulation.hyper.step_size
    plain = plain_numpy.subgradient_step(factor, matrices, np.asarray(problem.observed), length)
    ours, theirs = np.asarray(after.factor) - factor, plain - factor
    cosine = np.vdot(ours, theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert cosine == pytest.approx(1, abs=1e-12)
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(theirs), rel=0.02)


def test_selection():
    simulation = token_selection(inputs=3, tokens=4, dim=5)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    state = simulation.init(jax.random.key(1), problem, simulation.hyper)
    tokens, queries, labels, head = map(np.asarray, problem)
    weights = np.asarray(state.weights)
    for _ in range(10):
        state = simulation.step(jax.random.key(2), problem, simulation.hyper, state)
        weights = plain_numpy.selection_step(weights, tokens, queries, labels[:, None] * (tokens @ head), 0.1)
    np.testing.assert_allclose(state.weights, weights, rtol=1e-9, atol=1e-12)


def test_transformer():
    # Equal sequences make every minibatch the same, whatever is drawn.
    simulation = pattern_transformer(
        dim=6, tokens=5, max_width=8, samples=3, test_samples=2, batch=3, queries=2
    )
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    problem = problem._replace(train=jax.tree.map(lambda x: jnp.repeat(x[:1], 3, axis=0), problem.train))
    state = simulation.init(jax.random.key(1), problem, simulation.hyper)
    weights = plain_numpy.Transformer(*map(np.asarray, state.weights))
    tokens, labels = np.asarray(problem.train.tokens), 1.0 - 2.0 * np.asarray(problem.train.labels)
    head = np.where(np.arange(8) % 2 == 0, 1, -1) / np.sqrt(8)
    for _ in range(10):
        state = simulation.step(jax.random.key(2), problem, simulation.hyper, state)
        weights = plain_numpy.transformer_step(weights, tokens, labels, head, 2, simulation.hyper.step_size)
    for ours, plain in zip(state.weights, weights, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "dim"), [("dense", 7), ("dense", 4), ("fastfood", 7), ("signed_one_hot", 7), ("fastfood", 0)]
)
def test_networks_in_subspaces(kind, dim):
    one = tuple(part[:1] for part in digits())
    adam = partial(optax.adam, b1=0.9, b2=0.99)
    simulation = subspace_training(
        MLP([5, 4, 10]), one, max_dim=7, projection=kind, optimizer=adam, batch_size=2
    )
    hyper = simulation.hyper._replace(dim=dim, step_size=0.05, direct_step_size=0.05)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    state = simulation.init(jax.random.key(1), problem, hyper)
    maps = network_kernels.plain_map(problem, dim)
    plain = plain_numpy.network_training(
        *one[:2], [64, 5, 4, 10], np.asarray(state.start), maps, batch=2, step_size=0.05
    )
    advance = jax.jit(simulation.step)
    for _ in range(5):
        state = advance(jax.random.key(2), problem, hyper, state)
        moved = plain()
    np.testing.assert_allclose(state.moved[: len(moved)], moved, rtol=1e-7, atol=1e-12)


def test_every_kernel_of_networks_runs_and_its_loop_too():
    for make in (network_kernels.direct_network, network_kernels.one_hot_network):
        kernel = make(runs=4, steps=2, images=4)
        assert kernel.name.startswith("subspace.subspace_training ")
        assert bool(jnp.isfinite(kernel.call()["train_loss"]).all()), kernel.name
        assert all(np.isfinite(moved).all() for moved in kernel.numpy()())


def test_the_benchmark_measures_a_kernel_against_its_limit_and_its_loop():
    small = partial(symmetric_sensing, runs=4, steps=4, dim=6, measurements=20, rank=3)
    (speed,) = measure([small()], rounds=1)
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
    assert speed.gflops == pytest.approx(speed.steps_per_second * 2 * 21**2 / 1e9)


def test_our_kernels_share_one_operator_between_runs():
    kernel = symmetric_sensing(runs=4, steps=2, dim=6, measurements=20, rank=3)
    errors = kernel.call()["error"]
    assert errors.shape == (4, 1)
    assert bool(jnp.isfinite(errors).all())


def test_every_kernel_of_sensing_runs_and_its_loops_too():
    for name, (make, *_) in KERNELS.items():
        if not name.startswith("sensing."):
            continue
        kernel = make(runs=4, steps=2, dim=8, measurements=90, rank=4)
        assert kernel.name.startswith(f"{name} ")
        assert bool(jnp.isfinite(kernel.call()["error"]).all()), kernel.name
        step = kernel.numpy()
        step(), step()
        # With 90 measurements of 36 or 64 entries A*A is less work than A and A*, which a sign field needs.
        expected = {"subgradient": 4.0 * 90 * 36, "asymmetric_gd": 2.0 * 64**2, "gauss_newton": 4.0 * 64**2}
        expected |= {"symmetric_gd": 2.0 * 36**2, "scaled_gd": 2.0 * 36**2, "weight_normalized": 4.0 * 36**2}
        assert kernel.flops == expected[name.removeprefix("sensing.")]


def test_cost_is_the_larger_of_the_latency_and_the_arithmetic():
    sweep = Sweep(
        simulation=symmetric_gd,
        shape={"dim": [10], "true_rank": [1], "max_rank": [2]},
        run={"init_scale": [0.1, 0.2]},
        problem_seeds=3,
        steps=[0, 50],
    )
    slow = estimate("study", sweep, Device(step_seconds=1e-3))
    assert (slow.runs, slow.sequential_steps) == (6, 50)
    assert slow.seconds == pytest.approx(0.05)
    # Two products of n x n x k and one of n x n x k more, by 6 runs and 50 steps, and little else.
    assert 1 < slow.tflop * 1e12 / (6 * 50 * 4 * 10 * 10 * 2) < 3
    bound = estimate("study", sweep, Device(gemm_flops=1e6, share=0.5, step_seconds=0.0))
    assert bound.seconds == pytest.approx(bound.tflop * 1e12 / 5e5)
