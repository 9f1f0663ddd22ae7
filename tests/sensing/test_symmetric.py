"""Symmetric matrix sensing: the step, masking, batching, invariances, and the shape of its results."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from theory_sim.sensing import symmetric_gd
from theory_sim.sensing.symmetric import Hyper
from theory_sim.simulation import rollout, trajectory

SEEDS = st.integers(0, 2**31 - 1)
SMALL = {"dim": 6, "true_rank": 2, "max_rank": 4}


def dense(problem):
    """The operator as dense `[m, n, n]` matrices; the population operator as all unit matrices."""
    dim = problem.target.shape[0]
    if problem.operator is None:
        return np.eye(dim * dim).reshape(-1, dim, dim), np.asarray(problem.observed).reshape(-1)
    upper = np.triu_indices(dim, 1)
    packed = np.asarray(problem.operator.matrix)
    matrices = np.zeros((len(packed), dim, dim))
    matrices[:, upper[0], upper[1]] = packed[:, dim:] / np.sqrt(2)
    matrices += np.swapaxes(matrices, 1, 2)
    matrices[:, np.arange(dim), np.arange(dim)] = packed[:, :dim]
    return matrices, np.asarray(problem.observed)


def numpy_descent(problem, factor, step_size, steps):
    matrices, observed = dense(problem)
    for _ in range(steps):
        residual = np.einsum("mij,ij->m", matrices, factor @ factor.T) - observed
        factor = factor - step_size * np.einsum("m,mij->ij", residual, matrices) @ factor
    return factor


@pytest.mark.parametrize("measurements", [None, 15, 60])
def test_trajectory_follows_a_dense_reference(measurements):
    simulation = symmetric_gd(**SMALL, measurements=measurements)
    setting = simulation.setting._replace(
        condition_number=3.0, noise_std=0.0 if measurements is None else 0.1
    )
    problem = simulation.sample(jax.random.key(0), setting)
    hyper = Hyper(rank=3, step_size=0.15, init_scale=0.4)
    result = rollout(simulation, [0, 7, 200])(jax.random.key(1), problem, hyper)
    start = np.asarray(result.state.start)
    for number, steps in enumerate((0, 7, 200)):
        factor = numpy_descent(problem, start, 0.15, steps)
        error = np.linalg.norm(factor @ factor.T - problem.target)
        np.testing.assert_allclose(result.records["error"][number], error, atol=1e-10)
        matrices, observed = dense(problem)
        residual = np.einsum("mij,ij->m", matrices, factor @ factor.T) - observed
        np.testing.assert_allclose(result.records["loss"][number], np.sum(residual**2) / 4, atol=1e-10)
    np.testing.assert_allclose(result.state.factor, factor, atol=1e-10)


@given(SEEDS, st.sampled_from([None, 15]), st.floats(0.1, 2.0))
def test_step_goes_along_the_gradient_of_the_loss(seed, measurements, scale):
    simulation = symmetric_gd(**SMALL, measurements=measurements)
    problem = simulation.sample(jax.random.key(seed), simulation.setting)
    matrices, observed = (jnp.asarray(part) for part in dense(problem))

    def loss(factor):
        return jnp.sum((jnp.einsum("mij,ij->m", matrices, factor @ factor.T) - observed) ** 2) / 4

    hyper = Hyper(rank=4, step_size=1.0, init_scale=scale)
    state = simulation.init(jax.random.key(seed + 1), problem, hyper)
    step = state.factor - simulation.step(jax.random.key(0), problem, hyper, state).factor
    np.testing.assert_allclose(step, jax.grad(loss)(state.factor), atol=1e-11)
    np.testing.assert_allclose(simulation.observe(problem, hyper, state)["loss"], loss(state.factor))


@pytest.mark.parametrize(("rank", "measurements"), [(1, None), (2, 15), (3, None), (3, 15)])
def test_masked_rank_equals_a_smaller_array(rank, measurements):
    wide = symmetric_gd(**SMALL, measurements=measurements)
    narrow = symmetric_gd(dim=6, true_rank=2, max_rank=rank, measurements=measurements)
    problem = wide.sample(jax.random.key(2), wide.setting)
    hyper = Hyper(rank=rank, step_size=0.1, init_scale=0.3)
    masked, sliced = (jax.jit(rollout(s, [0, 50]))(jax.random.key(3), problem, hyper) for s in (wide, narrow))
    assert not np.any(masked.state.factor[:, rank:])
    np.testing.assert_allclose(masked.state.factor[:, :rank], sliced.state.factor, atol=1e-12)
    np.testing.assert_allclose(masked.records["error"], sliced.records["error"], atol=1e-12)
    np.testing.assert_allclose(
        masked.conclusions["tail_start"][:rank], sliced.conclusions["tail_start"], atol=1e-12
    )


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_the_tail_is_of_the_start_alone(rank):
    simulation = symmetric_gd(**SMALL)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    hyper = Hyper(rank=rank, step_size=0.1, init_scale=0.3)
    short, long = (rollout(simulation, [steps])(jax.random.key(1), problem, hyper) for steps in (0, 300))
    np.testing.assert_array_equal(short.conclusions["tail_start"], long.conclusions["tail_start"])
    start, basis = np.asarray(short.state.factor)[:, :rank], np.asarray(problem.basis)
    null = np.linalg.svd(basis.T @ start)[2][2:].T
    expected = np.zeros(4)
    expected[: max(rank - 2, 0)] = np.linalg.svd((start - basis @ basis.T @ start) @ null)[1] ** 2
    np.testing.assert_allclose(short.conclusions["tail_start"], expected, atol=1e-14)


def test_a_derivative_through_masked_columns_is_finite():
    simulation = symmetric_gd(**SMALL)
    problem = simulation.sample(jax.random.key(0), simulation.setting)

    def error(scale):
        hyper = Hyper(rank=2, init_scale=scale)
        return trajectory(simulation._replace(conclude=None), [5])(jax.random.key(1), problem, hyper)[
            "error"
        ][0]

    assert np.isfinite(jax.jvp(error, (0.3,), (1.0,))[1])


@given(SEEDS)
@settings(max_examples=5)
def test_rotating_the_problem_rotates_the_run(seed):
    simulation = symmetric_gd(**SMALL)
    problem = simulation.sample(jax.random.key(seed), simulation.setting)
    hyper = Hyper(rank=3, step_size=0.1, init_scale=0.5)
    state = simulation.init(jax.random.key(seed + 1), problem, hyper)
    rotation = jnp.linalg.qr(jax.random.normal(jax.random.key(seed + 2), (6, 6)))[0]
    target = rotation @ problem.target @ rotation.T
    turned = problem._replace(observed=target, target=target, basis=rotation @ problem.basis)
    rotated = state._replace(factor=rotation @ state.factor)
    for _ in range(20):
        state = simulation.step(None, problem, hyper, state)
        rotated = simulation.step(None, turned, hyper, rotated)
    np.testing.assert_allclose(rotated.factor, rotation @ state.factor, atol=1e-12)


def test_target_has_the_singular_values_asked_for():
    simulation = symmetric_gd(dim=6, true_rank=3, max_rank=3)
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=4.0))
    np.testing.assert_allclose(np.linalg.eigvalsh(problem.target), [0, 0, 0, 0.25, 0.625, 1], atol=1e-14)
    np.testing.assert_allclose(problem.basis @ problem.basis.T @ problem.target, problem.target, atol=1e-14)


def test_geometric_spectrum_has_equal_ratios():
    simulation = symmetric_gd(dim=6, true_rank=3, max_rank=3, spectrum="geometric")
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=4.0))
    np.testing.assert_allclose(problem.singular_values, [1, 0.5, 0.25], atol=1e-14)
    np.testing.assert_allclose(np.linalg.eigvalsh(problem.target)[-3:], [0.25, 0.5, 1], atol=1e-14)


def test_learned_shares_reach_one_in_the_order_of_the_singular_values():
    simulation = symmetric_gd(dim=6, true_rank=3, max_rank=3, spectrum="geometric")
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=9.0))
    hyper = Hyper(rank=3, step_size=0.2, init_scale=1e-3)
    learned = trajectory(simulation, np.arange(900))(jax.random.key(1), problem, hyper)["learned"]
    arrivals = np.argmax(np.asarray(learned) > 0.5, axis=0)
    assert 0 < arrivals[0] < arrivals[1] < arrivals[2]
    np.testing.assert_allclose(learned[-1], 1, atol=1e-4)


def test_start_has_entries_of_variance_one_over_dim():
    simulation = symmetric_gd(dim=100, true_rank=1, max_rank=100)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    start = simulation.init(jax.random.key(1), problem, Hyper(rank=100, init_scale=0.5)).factor
    assert float(jnp.var(start)) == pytest.approx(0.25 / 100, rel=5 * np.sqrt(2 / 10_000))


def test_noise_has_the_scale_of_unit_variance_measurements():
    simulation = symmetric_gd(**SMALL, measurements=40)

    def noise(key):
        noisy = simulation.sample(key, simulation.setting._replace(noise_std=2.0))
        return noisy.observed - simulation.sample(key, simulation.setting).observed

    draws = jax.jit(jax.vmap(noise))(jax.random.split(jax.random.key(0), 500))
    assert float(jnp.var(draws)) == pytest.approx(4.0 / 40, rel=5 * np.sqrt(2 / draws.size))


def test_batches_of_runs_and_of_problems_equal_lone_runs():
    simulation = symmetric_gd(**SMALL, measurements=15)
    run = trajectory(simulation, [0, 30, 60])
    sample = lambda key: simulation.sample(key, simulation.setting)  # noqa: E731
    problems = jax.vmap(sample)(jax.random.split(jax.random.key(0), 2))
    keys = jax.random.split(jax.random.key(1), 3)
    hypers = Hyper(jnp.array([1, 2, 4]), jnp.array([0.1, 0.2, 0.3]), jnp.array([0.1, 0.5, 0.2]))
    of_runs = jax.vmap(run, (0, None, 0))
    batched = jax.jit(jax.vmap(of_runs, (None, 0, None)))(keys, problems, hypers)
    crossed = jax.jit(jax.vmap(jax.vmap(run, (None, 0, None)), (0, None, 0), out_axes=1))(
        keys, problems, hypers
    )
    lone = jax.jit(run)
    for p in range(2):
        for r in range(3):
            problem = jax.tree.map(lambda x, p=p: x[p], problems)
            alone = lone(keys[r], problem, jax.tree.map(lambda x, r=r: x[r], hypers))
            for name, value in alone.items():
                np.testing.assert_allclose(batched[name][p, r], value, atol=1e-12, err_msg=name)
                np.testing.assert_allclose(crossed[name][p, r], value, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("measurements", [None, 15])
def test_a_batch_lowers_for_every_platform_in_both_precisions(x64, measurements):
    with jax.enable_x64(x64):
        simulation = symmetric_gd(**SMALL, measurements=measurements)
        run = trajectory(simulation, [0, 3])

        def program(seeds):
            problem = simulation.sample(jax.random.key(0), simulation.setting)
            return jax.vmap(lambda seed: run(jax.random.key(seed), problem, simulation.hyper))(seeds)

        seeds = jnp.arange(3)
        exported = jax.export.export(jax.jit(program), platforms=["cpu", "cuda", "tpu"])(seeds)
        dtype = jnp.float64 if x64 else jnp.float32
        assert {value.dtype for value in exported.out_avals} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"true_rank": 0}, "true_rank must be at least 1, got 0"),
        ({"max_rank": 0}, "max_rank must be at least 1, got 0"),
        ({"true_rank": 7}, "true_rank must be at most dim = 6, got 7"),
        ({"max_rank": 7}, "max_rank must be at most dim = 6, got 7"),
        ({"measurements": 0}, "measurements must be at least 1, or None"),
        ({"measurements": 2.5}, "measurements must be a whole number, got 2.5"),
        ({"max_rank": 3.0}, "max_rank must be a whole number, got 3.0"),
        ({"spectrum": "flat"}, "spectrum must be one of linear, geometric, got 'flat'"),
    ],
)
def test_bad_sizes_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        symmetric_gd(**(SMALL | changes))
    assert "\n" not in str(raised.value)


def test_limits_follow_the_sizes():
    assert symmetric_gd(**SMALL).limits["rank"] == (1, 4)
    assert symmetric_gd(**SMALL).limits["noise_std"] == (0, 0)
    assert symmetric_gd(**SMALL, measurements=3).limits["noise_std"] == (0, float("inf"))
    assert symmetric_gd(dim=6, true_rank=1, max_rank=4).limits["condition_number"] == (1, 1)
