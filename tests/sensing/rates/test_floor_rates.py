"""Theory against simulation: what a small start and noise leave, and the bound on the way there."""

from pathlib import Path

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from theory_sim.sensing import (
    adjoint,
    asymmetric_small_start_error,
    fgd_bound,
    fgd_noise_level,
    first_eigenvalue,
    gaussian,
    general_gaussian,
    measure,
    noise_edge,
    small_start_exponent_bound,
    statistical_floor,
    symmetric_gd,
    symmetric_small_start_error,
)
from theory_sim.simulation import rollout, trajectory
from theory_sim.study import load_study

STUDY = Path(__file__).parents[3] / "sweeps" / "sensing_noisy_descent.py"


def root_mean_square_is(samples, expected):
    squares = samples**2
    error = squares.std(ddof=1) / np.sqrt(len(squares))
    return abs(squares.mean() - expected**2) < 4 * error


def test_small_start_errors_are_norms_of_gaussian_tails():
    rng = np.random.default_rng(0)
    tails = rng.normal(size=(4000, 8, 4)) * 0.1 / np.sqrt(10)
    norms = np.linalg.norm(tails @ np.swapaxes(tails, 1, 2), axis=(1, 2))
    assert root_mean_square_is(norms, symmetric_small_start_error(0.1, 10, 6, 2))
    left, right = rng.normal(size=(4000, 8, 4)) * 0.1, rng.normal(size=(4000, 5, 4)) * 0.05
    norms = np.linalg.norm(left @ np.swapaxes(right, 1, 2) / np.sqrt(10 * 7), axis=(1, 2))
    assert root_mean_square_is(norms, asymmetric_small_start_error(0.1, 0.5, 10, 7, 6, 2))


def test_a_small_start_ends_at_its_tail():
    simulation = symmetric_gd(dim=10, true_rank=2, max_rank=6)._replace(conclude=None)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    hyper = simulation.hyper._replace(step_size=0.3, init_scale=1e-4)
    run = trajectory(simulation, [200])
    errors = jax.jit(jax.vmap(lambda key: run(key, problem, hyper)["error"][0]))(
        jax.random.split(jax.random.key(1), 200)
    )
    assert root_mean_square_is(np.asarray(errors), symmetric_small_start_error(1e-4, 10, 6, 2))


@pytest.mark.parametrize("cols", [None, 20])
def test_the_noise_of_measurements_has_its_edge(cols):
    rows, count = 40, 800

    @jax.jit
    def noise(key):
        target_key, operator_key = jax.random.split(key)
        vector = jax.random.normal(target_key, (rows,))
        if cols is None:
            operator, target = gaussian(operator_key, dim=rows, measurements=count), jnp.outer(vector, vector)
        else:
            operator = general_gaussian(operator_key, rows=rows, cols=cols, measurements=count)
            target = jnp.outer(vector, vector[:cols])
        target /= jnp.linalg.norm(target)
        return adjoint(operator, measure(operator, target)) - target

    norms = [np.linalg.norm(np.asarray(noise(jax.random.key(i))), 2) for i in range(12)]
    edge = float(noise_edge(count, rows, cols))
    # The largest eigenvalue of n rows lies below the edge by 0.6 n^(-2/3) of it; the target's own directions, of twice
    # the variance, come out at most by 1 / sqrt(n) above.
    assert 1 - 2 * 0.6 * 20 ** (-2 / 3) < np.mean(norms) / edge < 1 + 1 / np.sqrt(rows)


def test_the_exponent_bound_adds_up_the_waiting_times():
    assert small_start_exponent_bound(0.1, [1.0]) == pytest.approx(2 - 2 * 0.1)
    by_hand = np.sqrt(1 + 0.25) * 1 + 0.5 * (2 - 1)
    assert small_start_exponent_bound(0.1, [1.0, 0.5]) == pytest.approx(2 - 2 * 0.1 * by_hand)
    edges = noise_edge(np.array([1e2, 1e4, 1e12]), 20)
    bounds = np.array([small_start_exponent_bound(edge, [1.0, 0.5]) for edge in edges])
    assert np.all(np.diff(bounds) > 0)
    assert bounds[-1] == pytest.approx(2, abs=1e-4)


def test_measurements_raise_the_first_eigenvalue():
    simulation = symmetric_gd(dim=40, true_rank=2, max_rank=1, measurements=400)
    setting = simulation.setting._replace(condition_number=2.0)

    @jax.jit
    def pulled(key):
        problem = simulation.sample(key, setting)
        return adjoint(problem.operator, problem.observed)

    values = np.array([np.linalg.eigvalsh(np.asarray(pulled(jax.random.key(i))))[-1] for i in range(40)])
    expected = float(first_eigenvalue(400, 40, [1.0, 0.5]))
    error = values.std(ddof=1) / np.sqrt(len(values))
    # The next order of the expansion in the edge, (n v)^2 / sigma_1^3.
    assert abs(values.mean() - expected) < 4 * error + (expected - 1) ** 2
    assert values.mean() > 1 + 2 * error


@given(st.floats(0.01, 0.2), st.floats(0.01, 0.05))
def test_the_bound_holds_for_its_recursion_and_is_eight_times_the_actual_decay(step_size, start):
    bounded, actual = [start], [start]
    for _ in range(3000):
        bounded.append(bounded[-1] * (1 - step_size * bounded[-1] / 2))
        actual.append(actual[-1] * (1 - step_size * actual[-1]) ** 2)
    bound = fgd_bound(np.arange(3001), start, step_size)
    assert np.all(np.array(bounded) <= bound * (1 + 1e-12))
    assert np.all(np.array(actual) <= bound * (1 + 1e-12))
    late = 1e9 / (step_size * start)
    assert fgd_bound(late, start, step_size) * 2 * step_size * late == pytest.approx(8, rel=1e-6)
    assert fgd_bound(late, start, step_size, 0.01) == pytest.approx(0.5, rel=1e-6)


def test_the_noise_level_is_that_of_the_paper():
    assert fgd_noise_level(0.3, 200, 20, 1.25) == pytest.approx(1.25 * np.sqrt(20 * np.log(20) / 200) * 0.3)


def test_the_floor_of_exact_rank_is_that_of_least_squares():
    rng = np.random.default_rng(2)
    tangent = 6 * 2 - 1
    errors = []
    for _ in range(2000):
        rows = rng.normal(size=(40, tangent)) / np.sqrt(40)
        noise = 0.2 * rng.normal(size=40) / np.sqrt(40)
        errors.append(np.linalg.norm(np.linalg.lstsq(rows, noise, rcond=None)[0]))
    assert root_mean_square_is(np.array(errors), statistical_floor(0.2, 40, 6, 2, 2))


def test_descent_at_exact_rank_ends_at_the_floor():
    simulation = symmetric_gd(dim=6, true_rank=2, max_rank=2, measurements=60)._replace(conclude=None)
    run = trajectory(simulation, [400])
    hyper = simulation.hyper._replace(step_size=0.3, init_scale=0.5)

    def last(key):
        problem = simulation.sample(key, simulation.setting._replace(noise_std=0.02))
        return run(jax.random.fold_in(key, 1000), problem, hyper)["error"][0]

    errors = jax.jit(jax.vmap(last))(jax.random.split(jax.random.key(5), 300))
    # Second order in the noise: 0.02 sqrt(12 / 60) squared.
    assert root_mean_square_is(np.asarray(errors), statistical_floor(0.02, 60, 6, 2, 2))


def test_the_study_measures_the_three_parts_and_shares_its_noise():
    study = load_study(str(STUDY))
    simulation = study.sweep.simulation(dim=8, true_rank=2, max_rank=3, measurements=50)
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=2.0))
    hyper = simulation.hyper._replace(step_size=0.1, init_scale=0.8, noise_std=0.3)
    result = jax.jit(rollout(simulation, [0, 40]))(jax.random.key(1), problem, hyper)
    factor, basis = np.asarray(result.state.factor), np.asarray(problem.basis)
    signal, tail = basis.T @ factor, factor - basis @ (basis.T @ factor)
    parts = signal @ signal.T - np.diag(problem.singular_values), tail @ tail.T, signal @ tail.T
    largest = max(np.linalg.norm(part, 2) for part in parts)
    np.testing.assert_allclose(result.records["distance"][-1], largest, rtol=1e-8)
    # The same noise as `symmetric_gd` with its noise on the problem.
    plain = symmetric_gd(dim=8, true_rank=2, max_rank=3, measurements=50)
    noisy = plain.sample(jax.random.key(0), plain.setting._replace(condition_number=2.0, noise_std=0.3))
    other = plain.hyper._replace(step_size=0.1, init_scale=0.8)
    expected = jax.jit(rollout(plain._replace(conclude=None), [0, 40]))(jax.random.key(1), noisy, other)
    np.testing.assert_allclose(result.records["error"], expected.records["error"], atol=1e-12)
