"""Theory against simulation: the step budget, floors, slopes, and closed forms against quadrature."""

from functools import lru_cache

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given

from theory_sim.sensing import (
    absolute_loss_floor,
    corrupted_measurements,
    growth_budget,
    learning_budget,
    minimax_floor,
    polyak_steps_exponent,
    residual_floor,
    scaled_polyak_rate,
    schedule_floor,
    sign_field_strength,
    step_budget,
    subgradient,
    sufficient_decay,
)
from theory_sim.sensing.robust import State
from theory_sim.simulation import rollout, trajectory

SPECTRA = st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5).map(
    lambda values: sorted(values, reverse=True)
)

STEPS = np.arange(0, 1001, 4)


@pytest.mark.parametrize(
    ("values", "budget"), [((1, 0.75, 0.5), 1.583), ((1, 0.6, 0.2), 2.067), ((0.4, 0.4, 0.4), 1), ((2,), 1)]
)
def test_learning_budgets_of_known_spectra(values, budget):
    assert learning_budget(values) == pytest.approx(budget, abs=5e-4)


@given(SPECTRA)
def test_learning_budget_lies_between_one_and_rank_and_condition_number(values):
    budget = learning_budget(values)
    assert 1 - 1e-12 <= budget <= min(len(values), values[0] / values[-1]) + 1e-9
    assert learning_budget(np.array(values) * 3) == pytest.approx(float(budget))


@given(SPECTRA)
def test_learning_budget_is_that_of_directions_growing_in_turn(values):
    values, lacking, budget = np.array(values), np.ones(len(values)), 0.0
    while (lacking > 1e-12).any():
        first = np.flatnonzero(lacking > 1e-12)[0]
        used = lacking[first]
        lacking = np.maximum(lacking - used * values / values[first] * (np.arange(len(values)) >= first), 0)
        budget += used
    assert learning_budget(values) == pytest.approx(budget)


@given(st.floats(0.05, 3), st.floats(0, 0.95), st.floats(0.05, 5), st.floats(0, 2))
def test_strength_is_the_mean_over_the_corruption(norm, fraction, deviation, noise):
    def mean(std):
        weight = lambda s: scipy.stats.norm.pdf(s, scale=std) * np.exp(-(s**2) / (2 * norm**2))  # noqa: E731
        return scipy.integrate.quad(weight, -12 * min(std, norm), 12 * min(std, norm))[0] if std > 0 else 1.0

    expected = np.sqrt(2 / np.pi) * (
        (1 - fraction) * mean(noise) + fraction * mean(np.hypot(noise, deviation))
    )
    assert sign_field_strength(norm, fraction, deviation, noise) == pytest.approx(expected, rel=1e-6)


@given(st.floats(0.01, 0.2), st.floats(0.9, 0.99))
def test_growth_is_the_budget_to_first_order(step_size, decay):
    growth, budget = growth_budget(step_size, decay), step_budget(step_size, decay)
    second = (2 * step_size) ** 2 / (2 * (1 - decay**2))
    assert budget - second <= growth <= budget
    third = (2 * step_size) ** 3 / (3 * (1 - decay**3))
    assert growth == pytest.approx(budget - second, abs=third)


@given(st.floats(0.01, 0.3), st.floats(1, 10), st.floats(1e-8, 1e-2))
def test_sufficient_decay_gives_kappa_times_the_growth(step_size, condition_number, scale):
    decay = sufficient_decay(step_size, condition_number, scale)
    assert step_budget(step_size, decay) == pytest.approx(condition_number * np.log(1 / scale))


@pytest.mark.parametrize("condition_number", [1.0, 2.0])
def test_the_last_direction_is_learnt_when_the_budget_says(condition_number):
    """At population, between starts of 1e-3 and 1e-7 the budget at the threshold grows by Lambda log(1e4)."""
    simulation = subgradient(dim=4, true_rank=3, max_rank=4, start="orthogonal")
    problem = simulation.sample(
        jax.random.key(0), simulation.setting._replace(condition_number=condition_number)
    )
    step_size, run, thresholds = 0.05, trajectory(simulation, [0, 3000]), []
    for scale in (1e-3, 1e-7):
        decays = jnp.asarray(1 - 2 * step_size / (np.linspace(0.8, 2.0, 60) * np.log(1 / scale)))
        hyper = simulation.hyper._replace(step_size=step_size, init_scale=scale)
        many = jax.jit(
            jax.vmap(lambda decay, h: run(jax.random.key(1), problem, h._replace(decay=decay)), (0, None))
        )
        learned = np.asarray(many(decays, hyper)["learned"])[:, -1].min(axis=1)
        thresholds.append(growth_budget(step_size, decays)[np.argmax(learned > 0.5)])
    needed = learning_budget(np.linspace(1, 1 / condition_number, 3))
    # Spacing of the grid, 2% of 16, over log(1e4), on both; and log(1 + xc) - c log(1 + x), 1% at x = 0.1.
    assert np.diff(thresholds)[0] / np.log(1e4) == pytest.approx(needed, abs=0.04 + 0.01 * needed)


@lru_cache
def population(rank):
    """One start of a rank from each of three scales, past their learning, with a schedule that ends far below."""
    simulation = subgradient(dim=8, true_rank=2, max_rank=8, start="orthogonal")
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=1.5))
    scales = jnp.array([1e-4, 1e-3, 1e-2])
    hypers = jax.vmap(lambda scale: simulation.hyper._replace(rank=rank, init_scale=scale))(scales)
    run = jax.jit(jax.vmap(trajectory(simulation, STEPS), (None, None, 0)))
    return np.asarray(scales), np.asarray(run(jax.random.key(1), problem, hypers)["error"])


@pytest.mark.parametrize("rank", [4, 8])
def test_population_error_ends_at_the_residual_floor(rank):
    scales, errors = population(rank)
    # Both factors of E E^T shrink by 2 eta_t alpha^2 / ||Delta|| a step for as long as eta_t exceeds alpha^2,
    # and the mean of 1/||Delta|| is a few times 1/eta_t.
    shrunk = 4 * scales**2 * np.log(1 / scales**2) / (1 - 0.98)
    share = errors[:, -1] / residual_floor(scales, rank, 2)
    assert np.all(share < 1)
    assert np.all(1 - share < 6 * shrunk)
    assert shrunk[scales == 1e-3].max() < 0.003


def test_population_error_follows_the_schedule():
    scales, errors = population(8)
    inside = (STEPS > 80) & (STEPS < 480)
    ratio = errors[scales == 1e-4][0, inside] / schedule_floor(STEPS[inside], 0.15, 0.98)
    fit = scipy.stats.linregress(STEPS[inside], np.log(ratio))
    # The iterate jumps around the target: the ratio scatters, and has no trend.
    assert abs(fit.slope) < 4 * fit.stderr
    assert fit.stderr < 0.1 * -np.log(0.98)
    assert 0.3 < np.median(ratio) < 3


def test_scaled_polyak_divides_the_error_by_three():
    simulation = subgradient(dim=10, true_rank=3, max_rank=3, rule="polyak", scaled=True)

    def errors(condition_number, key):
        problem = simulation.sample(key, simulation.setting._replace(condition_number=condition_number))
        truth = problem.basis * jnp.sqrt(problem.singular_values)
        state = State(truth, jnp.ones(()), jnp.eye(10)[:, :2])
        off = (
            1e-3
            * jnp.sqrt(problem.singular_values[-1])
            * jax.random.normal(jax.random.fold_in(key, 7), truth.shape)
        )
        state = state._replace(factor=truth + off)
        hyper = simulation.hyper._replace(step_size=1.0)

        def advance(state, _):
            error = jnp.linalg.norm(state.factor @ state.factor.T - problem.target)
            return simulation.step(None, problem, hyper, state), error

        return jax.lax.scan(advance, state, length=9)[1]

    keys = jax.random.split(jax.random.key(0), 6)
    logs = np.log(jax.jit(jax.vmap(errors))(jnp.array([1.0, 2.0, 5.0, 20.0, 50.0, 100.0]), keys))
    # Two steps at a time; the first two also bring the error, of relative size 1e-2, to its linear part.
    for start in (2, 4):
        assert np.all(logs[:, start + 2] - logs[:, start] < 2 * scaled_polyak_rate() + 0.05)
    assert polyak_steps_exponent(scaled=True) == 0
    assert polyak_steps_exponent(scaled=False) == 1


def test_least_absolute_deviations_leave_the_floor():
    """Exact rank under Gaussian noise: the mean squared error over problems, with its own spread."""
    simulation = subgradient(dim=8, true_rank=1, max_rank=1, measurements=800)
    setting = simulation.setting._replace(noise_std=0.05)
    run = rollout(simulation, [0, 300])

    def squared(seed):
        problem = simulation.sample(jax.random.key(seed), setting)
        return (
            run(jax.random.key(seed + 1000), problem, simulation.hyper._replace(decay=0.97)).records["error"][
                -1
            ]
            ** 2
        )

    squares = np.asarray(jax.jit(jax.vmap(squared))(jnp.arange(60)))
    floor = absolute_loss_floor(0.05, 8, 1, 800) ** 2
    # The variance's next order is q/m, 1%.
    assert abs(squares.mean() - floor) < 4 * squares.std(ddof=1) / np.sqrt(60) + 0.01 * floor
    assert minimax_floor(0.05, 8, 1, 800) == pytest.approx(float(np.sqrt(floor / (np.pi / 2))))


def test_corruption_costs_the_square_of_what_is_left():
    np.testing.assert_allclose(corrupted_measurements(10, [0, 0.5, 0.9]), [10, 40, 1000])
