"""Theory against simulation: when each direction of the target is learnt, and what stays between arrivals."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from theory_sim.estimate import time_to
from theory_sim.sensing import (
    arrival_step,
    asymmetric_gd,
    balanced_entry_variance,
    best_rank_residual,
    direction_growth,
    initial_share,
    learned_curve,
    stage_exponent,
    steps_per_decade,
    stopping_step,
    symmetric_gd,
)
from theory_sim.simulation import trajectory

STEPS = np.arange(0, 501, 2)
STEP_SIZE, SCALE, RANK = 0.3, 1e-4, 4
VALUES = np.array([1.0, 0.5, 0.25])


def arrivals(simulation, *changes):
    """Arrivals `[start, direction]` of 64 starts on one target, for each change of the hyperparameters."""
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=4.0))
    common = simulation.hyper._replace(step_size=STEP_SIZE, init_scale=SCALE)
    run = jax.jit(jax.vmap(trajectory(simulation._replace(conclude=None), STEPS), (0, None, None)))
    keys = jax.random.split(jax.random.key(1), 64)
    for change in changes:
        learned = np.swapaxes(np.asarray(run(keys, problem, common._replace(**change))["learned"]), 1, 2)
        yield time_to(STEPS, (1 - learned) / np.maximum(learned, 1e-300), 1.0)


def check_arrivals(times, variance):
    share = initial_share(VALUES, entry_variance=variance, rank=RANK, direction=np.arange(3))
    predicted = arrival_step(VALUES, STEP_SIZE, share)
    error = times.std(axis=0, ddof=1) / np.sqrt(len(times))
    # Steps of order eta sigma_s are neglected. The spread is that of a chi square of two to four degrees of freedom.
    assert np.all(np.abs(times.mean(axis=0) - predicted) < 4 * error + STEP_SIZE * VALUES)
    # All degrees of freedom for every direction would be seen: the third direction has two of four.
    naive = arrival_step(VALUES, STEP_SIZE, initial_share(VALUES, entry_variance=variance, rank=RANK))
    assert times.mean(axis=0)[2] - naive[2] > 4 * error[2]


def test_directions_of_a_psd_target_arrive_as_predicted():
    (times,) = arrivals(symmetric_gd(dim=12, true_rank=3, max_rank=RANK, spectrum="geometric"), {})
    check_arrivals(times, SCALE**2 / 12)


def test_directions_of_two_factors_arrive_as_those_of_a_balanced_start():
    simulation = asymmetric_gd(rows=14, cols=9, true_rank=3, max_rank=RANK, spectrum="geometric")
    ratios = (1.0, 1 / 3)
    each = arrivals(simulation, *({"right_scale": ratio} for ratio in ratios))
    for ratio, times in zip(ratios, each, strict=True):
        check_arrivals(times, balanced_entry_variance(SCALE**2 / 14, (ratio * SCALE) ** 2 / 9))


def recursion(share, growth, steps):
    shares = [share]
    for _ in range(steps):
        shares.append(shares[-1] * (1 + growth * (1 - shares[-1])) ** 2)
    return np.array(shares)


@given(st.floats(0.01, 0.3), st.floats(1e-8, 1e-3))
def test_the_arrival_solves_the_recursion_of_a_share(growth, share):
    predicted = float(arrival_step(growth, 1.0, share))
    shares = recursion(share, growth, int(predicted) + 5)
    arrival = time_to(np.arange(len(shares)), (1 - shares) / shares, 1.0)
    # Half a step is resolved: what is neglected is of order eta sigma_s steps.
    assert abs(arrival - predicted) < growth
    curve = learned_curve(np.arange(len(shares)), predicted, 1.0, growth)
    early = shares < 0.1
    # Early, the curve carries the half step of the whole way: (3/2) x log 2 on the odds, and p^2 of the logistic.
    np.testing.assert_allclose(curve[early], shares[early], rtol=1.1 * growth + 2 * growth**2 + 1e-6)


def test_a_start_loses_its_components_along_directions_learnt_before():
    rng = np.random.default_rng(0)
    starts = rng.normal(size=(4000, 3, 5)) * 0.1
    # Gram and Schmidt over the rows: what is left of row s off the rows before.
    left = np.abs(np.diagonal(np.linalg.qr(np.swapaxes(starts, 1, 2))[1], axis1=1, axis2=2))
    logs = np.log(left**2 / VALUES)
    expected = np.log(initial_share(VALUES, entry_variance=0.01, rank=5, direction=np.arange(3)))
    assert np.all(np.abs(logs.mean(axis=0) - expected) < 4 * logs.std(axis=0) / np.sqrt(4000))


def test_a_share_is_that_of_its_mean_at_many_columns():
    share = initial_share(0.5, entry_variance=1e-6, rank=10_000)
    assert share == pytest.approx(1e-6 * 10_000 / 0.5, rel=2e-4)


@given(st.floats(0.05, 1.0), st.floats(0.01, 0.5))
def test_a_decade_delays_the_arrival_by_the_steps_per_decade(value, step_size):
    late, early = (
        arrival_step(value, step_size, initial_share(value, entry_variance=v, rank=6)) for v in (1e-12, 1e-10)
    )
    # The share in the odds' denominator is left: below 1e-7 of them.
    assert late - early == pytest.approx(steps_per_decade(step_size, value), rel=1e-6)
    assert steps_per_decade(step_size, value) * direction_growth(step_size, value) == pytest.approx(
        np.log(10)
    )


def test_residuals_are_those_of_truncated_singular_values():
    matrix = np.random.default_rng(1).normal(size=(6, 4))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    truncated = [np.linalg.norm(matrix - (left[:, :s] * values[:s]) @ right[:s]) for s in range(5)]
    np.testing.assert_allclose(best_rank_residual(values), truncated, atol=1e-12)


@given(st.floats(0.1, 0.8))
def test_stopped_in_balance_a_stage_is_left_by_the_stage_exponent(ratio):
    values, step_size = np.array([1.0, ratio]), 1e-4
    logs = []
    for variance in (1e-12, 1e-10):
        share = initial_share(values, entry_variance=variance, rank=8, direction=np.arange(2))
        times = arrival_step(values, step_size, share)
        stop = stopping_step(times, step_size, values)[0]
        first, second = learned_curve(stop, times, step_size, values)
        assert 1 - first == pytest.approx(second, rel=1e-6)
        logs.append(np.log(second))
    # A tenfold alpha is a hundredfold variance; saturated shares add their own square.
    slope = (logs[1] - logs[0]) / np.log(10)
    assert slope == pytest.approx(float(stage_exponent(*values)), abs=2 * np.exp(logs[1]) + 1e-3)


def test_the_least_distance_of_a_run_has_the_stage_exponent():
    simulation = symmetric_gd(dim=8, true_rank=2, max_rank=8)
    problem = simulation.sample(jax.random.key(3), simulation.setting._replace(condition_number=3.0))
    first = jnp.outer(problem.basis[:, 0], problem.basis[:, 0])
    staged = simulation._replace(
        observe=lambda problem, hyper, state: {
            "distance": jnp.linalg.norm(state.factor @ state.factor.T - first)
        },
        conclude=None,
    )
    run = jax.jit(trajectory(staged, np.arange(0, 901)))
    hypers = [simulation.hyper._replace(step_size=0.05, init_scale=scale) for scale in (1e-6, 1e-4)]
    least = [float(run(jax.random.key(4), problem, hyper)["distance"].min()) for hyper in hypers]
    # log(1 + x) for x moves the exponent by x/2 or so of it, saturation by less: 0.03 in all.
    assert np.log(least[1] / least[0]) / np.log(100) == pytest.approx(
        float(stage_exponent(1.0, 1 / 3)), abs=0.03
    )
