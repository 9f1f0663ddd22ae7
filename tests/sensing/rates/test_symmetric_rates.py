"""Theory against simulation: the 1/t curve, its constant, and the linear rate."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from theory_sim.sensing import (
    finite_measurement_factor,
    plateau_length,
    symmetric_asymptote_gap,
    symmetric_error_asymptote,
    symmetric_error_curve,
    symmetric_gd,
    symmetric_linear_rate,
)
from theory_sim.sensing.symmetric import Hyper
from theory_sim.simulation import trajectory

STEPS = np.unique(np.geomspace(1, 12_000, 60).astype(int))
STEP_SIZE = 0.4


@pytest.fixture(scope="module")
def runs():
    """Eight starts of each of three ranks, from a scale small enough for the plateau to be seen."""
    simulation = symmetric_gd(dim=20, true_rank=2, max_rank=5)
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=2.0))
    ranks = np.repeat([2, 3, 5], 8)
    hypers = Hyper(jnp.asarray(ranks), jnp.full(24, STEP_SIZE), jnp.full(24, 0.05))
    keys = jax.random.split(jax.random.key(1), 24)
    results = jax.jit(jax.vmap(trajectory(simulation, STEPS), (0, None, 0)))(keys, problem, hypers)
    return ranks, {name: np.asarray(value) for name, value in results.items()}


def between(first, last):
    return np.array([first < step < last for step in STEPS])


def test_over_specified_runs_lie_on_the_curve_of_their_own_start(runs):
    ranks, results = runs
    over, later = ranks > 2, between(15 / (STEP_SIZE * 0.5), np.inf)
    curve = symmetric_error_curve(STEPS, results["tail_start"][:, None], STEP_SIZE)
    ratio = (curve / results["error"])[over][:, later]
    # The start alone decides up to 2 alpha^2 (L / sigma_r) r/n, L about 6: 0.006.
    assert np.abs(ratio - 1).max() < 0.006


def test_plateau_then_constant(runs):
    ranks, results = runs
    gap = symmetric_asymptote_gap(STEPS[-1], 20, 5, STEP_SIZE, 0.05)
    limit = symmetric_error_asymptote(STEPS[-1], 5, 2, STEP_SIZE)
    share = results["error"][ranks == 5, -1] / limit
    spread = share.std(ddof=1) / np.sqrt(len(share))
    # First order in the gap, so its square is allowed for too.
    assert abs(share.mean() - (1 - gap)) < 4 * spread + 2 * gap**2
    flat = between(100, 0.3 * plateau_length(STEP_SIZE, 0.05))
    plateau = results["error"][ranks == 3][:, flat] / results["tail_start"][ranks == 3, :1]
    # 1 / (1 + 0.3 s/alpha^2) at the end, and no start has s above 1.5 alpha^2.
    assert plateau.min() > 1 / 1.45
    assert plateau.max() < 1


def test_exact_rank_converges_at_the_linear_rate(runs):
    ranks, results = runs
    time = 1 / (STEP_SIZE * 0.5)
    inside = between(15 * time, 25 * time)
    rate = np.polyfit(STEPS[inside], np.log(results["error"][ranks == 2][:, inside]).T, 1)[0]
    # -eta sigma_r itself is 10% away: the logarithm is resolved.
    np.testing.assert_allclose(rate, symmetric_linear_rate(STEP_SIZE, 0.5), rtol=0.01)


def test_only_excess_columns_make_a_tail(runs):
    ranks, results = runs
    assert [
        np.count_nonzero(results["tail_start"][ranks == rank], axis=1).tolist() for rank in (2, 3, 5)
    ] == [
        [0] * 8,
        [1] * 8,
        [3] * 8,
    ]


@given(st.floats(1e-4, 0.2), st.floats(1e-3, 0.3), st.integers(100, 3000))
def test_curve_solves_the_recursion_of_the_tail(start, step_size, steps):
    value = start
    for _ in range(steps):
        value *= (1 - step_size * value) ** 2
    curve = symmetric_error_curve(steps, [start, 0.0], step_size)
    # Next order: 1/s gains (3/2) eta log(1 + 2 eta t s) over the leading 2 eta t + 1/s.
    elapsed = 2 * step_size * steps
    neglected = 1.5 * step_size * np.log1p(elapsed * start) / (elapsed + 1 / start)
    assert abs(value / curve - 1) < 1.5 * neglected + 1e-10


@given(st.floats(0.01, 0.5), st.integers(1, 4), st.floats(1e-3, 1.0))
def test_curve_tends_to_its_asymptote_from_below(step_size, excess, start):
    late = 1e6 / (step_size * start)
    curve = symmetric_error_curve(late, np.full(excess, start), step_size)
    asymptote = symmetric_error_asymptote(late, 3 + excess, 3, step_size)
    assert curve < asymptote
    assert curve == pytest.approx(asymptote, rel=1e-6)
    assert symmetric_error_asymptote(late, 3, 3, step_size) == 0


def test_gap_is_the_mean_over_gaussian_starts():
    rng = np.random.default_rng(0)
    starts = np.linalg.svd(rng.normal(size=(4000, 17, 3)) * 0.1 / np.sqrt(20), compute_uv=False) ** 2
    mean = (1 / (2 * 0.1 * 5000 * starts)).mean(axis=1)
    expected = symmetric_asymptote_gap(5000, 20, 6, 0.1, 0.1)
    assert abs(mean.mean() - expected) < 4 * mean.std() / np.sqrt(len(mean))


def test_many_measurements_are_the_population():
    factors = finite_measurement_factor(np.array([100, 1000, 1e9]), 20, 3)
    assert np.all(np.diff(factors) < 0)
    assert factors[-1] == pytest.approx(1, abs=1e-6)
    assert factors[0] == pytest.approx(1 / (1 - 0.57))
