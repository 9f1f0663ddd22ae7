"""Weight-normalised descent: the step against NumPy, its gradient and manifold, masking and closed forms."""

from functools import cache

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from theory_sim.sensing import weight_normalized
from theory_sim.sensing.riemannian import State
from theory_sim.simulation import rollout, trajectory

SEEDS = st.integers(0, 2**31 - 1)
SMALL = {"dim": 6, "true_rank": 2, "max_rank": 4}


def drawn(seed=0, **sizes):
    simulation = weight_normalized(**(SMALL | sizes))
    noise = 0.1 if sizes.get("measurements") else 0.0
    setting = simulation.setting._replace(condition_number=3.0, noise_std=noise)
    return simulation, simulation.sample(jax.random.key(seed), setting)


@cache
def advance(steps):
    """Some steps of a population's run, compiled once for all drawn problems."""
    simulation = weight_normalized(**SMALL)

    def run(problem, hyper, state):
        return jax.lax.fori_loop(0, steps, lambda _, s: simulation.step(None, problem, hyper, s), state)

    return jax.jit(run)


def dense(problem):
    """The operator as dense `[m, n, n]` matrices; the population operator as all unit matrices."""
    dim = problem.target.shape[0]
    observed = np.asarray(problem.observed).reshape(-1)
    if problem.operator is None:
        return np.eye(dim * dim).reshape(-1, dim, dim), observed
    packed, upper = np.asarray(problem.operator.matrix), np.triu_indices(dim, 1)
    matrices = np.zeros((len(packed), dim, dim))
    matrices[:, upper[0], upper[1]] = packed[:, dim:] / np.sqrt(2)
    matrices += np.swapaxes(matrices, 1, 2)
    matrices[:, np.arange(dim), np.arange(dim)] = packed[:, :dim]
    return matrices, observed


def numpy_descent(problem, factor, core, step_size, core_step_size, steps):
    """The published form, `(X - eta G)(I + eta^2 G^T G)^{-1/2}`, by an eigendecomposition of NumPy's."""
    matrices, observed = dense(problem)

    def pulled(factor, core):
        residual = np.einsum("mij,ij->m", matrices, factor @ core @ factor.T) - observed
        return np.einsum("m,mij->ij", residual, matrices)

    for _ in range(steps):
        euclidean = pulled(factor, core) @ factor @ core
        gradient = euclidean - factor @ (factor.T @ euclidean + euclidean.T @ factor) / 2
        values, vectors = np.linalg.eigh(np.eye(len(core)) + step_size**2 * gradient.T @ gradient)
        factor = (factor - step_size * gradient) @ (vectors / np.sqrt(values)) @ vectors.T
        core = core - core_step_size * factor.T @ pulled(factor, core) @ factor / 2
    return factor, core


@pytest.mark.parametrize(("measurements", "rank"), [(None, 2), (None, 4), (80, 3)])
def test_trajectory_follows_a_reference(measurements, rank):
    simulation, problem = drawn(measurements=measurements)
    hyper = simulation.hyper._replace(rank=rank, step_size=0.4, core_step_size=1.5)
    start = np.asarray(simulation.init(jax.random.fold_in(jax.random.key(1), 0), problem, hyper).factor)
    result = jax.jit(rollout(simulation, [0, 3, 40]))(jax.random.key(1), problem, hyper)
    for number, steps in enumerate((0, 3, 40)):
        factor, core = numpy_descent(problem, start[:, :rank], np.zeros((rank, rank)), 0.4, 1.5, steps)
        error = np.linalg.norm(factor @ core @ factor.T - problem.target)
        np.testing.assert_allclose(result.records["error"][number], error, atol=1e-10)
    np.testing.assert_allclose(result.state.factor[:, :rank], factor, atol=1e-10)
    np.testing.assert_allclose(result.state.core[:rank, :rank], core, atol=1e-10)


@jax.jit
def slopes(target, factor, core):
    """The gradients of the population's loss, written once more and differentiated by jax."""

    def loss(factor, core):
        return jnp.sum((factor @ core @ factor.T - target) ** 2) / 4

    return loss(factor, core), *jax.grad(loss, argnums=(0, 1))(factor, core)


@given(SEEDS)
@settings(max_examples=10)
def test_a_small_step_goes_down_the_gradient_on_the_manifold(seed):
    simulation, problem = drawn(seed)
    factor = simulation.init(jax.random.key(seed + 1), problem, simulation.hyper).factor
    core = jax.random.normal(jax.random.key(seed + 2), (4, 4))
    core = core + core.T
    state = State(factor, core, jnp.zeros((2, 2)))
    loss, euclidean, of_core = slopes(problem.target, factor, core)
    np.testing.assert_allclose(simulation.observe(problem, None, state)["loss"], loss)
    hyper = simulation.hyper._replace(step_size=1e-5, core_step_size=0.0)
    moved = (factor - advance(1)(problem, hyper, state).factor) / 1e-5
    normal = factor @ (factor.T @ euclidean + euclidean.T @ factor) / 2
    # The retraction bends the step by `eta ||G||^2 / 2`.
    scale = 1 + float(jnp.linalg.norm(euclidean)) ** 2
    np.testing.assert_allclose(moved, euclidean - normal, atol=1e-5 * scale)
    hyper = simulation.hyper._replace(step_size=0.0, core_step_size=1.0)
    new = advance(1)(problem, hyper, state).core
    np.testing.assert_allclose(core - new, of_core, atol=1e-10 * scale)


@pytest.mark.parametrize("measurements", [None, 80])
def test_the_factor_stays_orthonormal_and_the_core_symmetric(measurements):
    simulation, problem = drawn(measurements=measurements)
    hyper = simulation.hyper._replace(rank=3)
    state = jax.jit(rollout(simulation, [2000]))(jax.random.key(1), problem, hyper).state
    np.testing.assert_allclose(state.factor.T @ state.factor, np.diag([1.0, 1, 1, 0]), atol=1e-14)
    np.testing.assert_array_equal(state.core, state.core.T)
    assert not np.any(state.core[3:])


def test_starts_are_uniform():
    simulation, problem = drawn()
    keys = jax.random.split(jax.random.key(0), 2000)
    init = lambda key: simulation.init(key, problem, simulation.hyper._replace(rank=3)).overlap_start  # noqa: E731
    overlaps = np.asarray(jax.vmap(init)(keys))
    spread = overlaps.std(axis=0) / np.sqrt(len(keys))
    # The mean projection on 3 of 6 directions is half the identity.
    assert np.all(np.abs(overlaps.mean(axis=0) - np.eye(2) / 2) < 4.5 * spread)


def test_the_first_step_finds_the_best_core_of_the_start():
    simulation, problem = drawn()
    state = simulation.init(jax.random.key(1), problem, simulation.hyper)
    new = simulation.step(None, problem, simulation.hyper, state)
    np.testing.assert_allclose(new.factor, state.factor, atol=1e-14)
    np.testing.assert_allclose(new.core, state.factor.T @ problem.target @ state.factor, atol=1e-14)


@pytest.mark.parametrize("measurements", [None, 80])
def test_masked_rank_equals_a_smaller_array(measurements):
    wide, problem = drawn(measurements=measurements)
    narrow = weight_normalized(**(SMALL | {"max_rank": 3}), measurements=measurements)
    masked, sliced = (
        jax.jit(rollout(s, [0, 30]))(jax.random.key(3), problem, s.hyper._replace(rank=3))
        for s in (wide, narrow)
    )
    np.testing.assert_allclose(masked.records["error"], sliced.records["error"], atol=1e-12)
    np.testing.assert_allclose(masked.state.factor[:, :3], sliced.state.factor, atol=1e-12)


def test_derivatives_through_masked_columns_are_finite():
    simulation, problem = drawn()

    def error(step_size):
        hyper = simulation.hyper._replace(rank=2, step_size=step_size)
        return trajectory(simulation, [6])(jax.random.key(1), problem, hyper)["error"][0]

    finite = (error(0.3 + 1e-6) - error(0.3 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.jvp(error, (0.3,), (1.0,))[1], finite, rtol=1e-6)


@given(SEEDS)
@settings(max_examples=5)
def test_rotating_problem_or_columns_rotates_the_run(seed):
    simulation, problem = drawn(seed)
    hyper = simulation.hyper
    state = simulation.init(jax.random.key(seed + 1), problem, hyper)
    keys = jax.random.split(jax.random.key(seed + 2))
    outer, inner = (np.linalg.qr(jax.random.normal(k, (n, n)))[0] for k, n in zip(keys, (6, 4), strict=True))
    target = outer @ problem.target @ outer.T
    turned = problem._replace(observed=target, target=target, basis=outer @ problem.basis)
    rotated = state._replace(factor=outer @ state.factor @ inner)
    state, rotated = advance(20)(problem, hyper, state), advance(20)(turned, hyper, rotated)
    np.testing.assert_allclose(rotated.factor, outer @ state.factor @ inner, atol=1e-11)
    np.testing.assert_allclose(rotated.core, inner.T @ state.core @ inner, atol=1e-11)


def test_a_batch_equals_lone_runs():
    simulation, problem = drawn(measurements=80)
    run = trajectory(simulation, [0, 20])
    keys, ranks = jax.random.split(jax.random.key(1), 3), jnp.array([2, 3, 4])
    hypers = simulation.hyper._replace(
        rank=ranks, step_size=jnp.full(3, 0.3), core_step_size=jnp.full(3, 1.0)
    )
    batched = jax.jit(jax.vmap(run, (0, None, 0)))(keys, problem, hypers)
    for i in range(3):
        alone = jax.jit(run)(keys[i], problem, jax.tree.map(lambda x, i=i: x[i], hypers))
        for metric, value in alone.items():
            np.testing.assert_allclose(batched[metric][i], value, atol=1e-12, err_msg=metric)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"true_rank": 7}, "true_rank must be at most dim = 6, got 7"),
        ({"max_rank": 0}, "max_rank must be at least 1, got 0"),
        ({"measurements": -1}, "measurements must be at least 1, or None"),
        ({"measurements": 40.0}, "measurements must be a whole number, got 40.0"),
        ({"spectrum": "flat"}, "spectrum must be one of linear, geometric, got 'flat'"),
    ],
)
def test_bad_sizes_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        weight_normalized(**(SMALL | changes))
    assert "\n" not in str(raised.value)
