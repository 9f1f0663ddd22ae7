"""Theory against simulation: learning curves, iterations, noise, and the curve of weight-normalised descent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim import time_to
from theory_sim.sensing import (
    adjoint,
    gauss_newton,
    gauss_newton_rate,
    gradient_learning_curve,
    initial_share,
    iterations_per_log_scale,
    least_scale_exponent,
    measure,
    noise_amplification,
    prec_gd,
    prec_gd_rate,
    prec_learning_curve,
    scaled_gd,
    scaled_learning_curve,
    symmetric_gd,
    weight_normalized,
    weight_normalized_curve,
    weight_normalized_edge,
    weight_normalized_factor,
    weight_normalized_rate,
)
from theory_sim.sensing.preconditioned import squared_distances
from theory_sim.simulation import rollout

SIZES = {"dim": 12, "true_rank": 3, "max_rank": 5}
VALUES = np.linspace(1.0, 1 / 9, 3)


def run(simulation, steps, **hyper):
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=9.0))
    chosen = simulation.hyper._replace(**hyper)
    return problem, jax.jit(rollout(simulation, np.arange(steps + 1)))(jax.random.key(1), problem, chosen)


@pytest.mark.parametrize("method", ["scaled", "prec", "gradient"])
def test_learning_curve_follows_from_the_start(method):
    scale = {"init_scale": 1e-6, "step_size": 0.3}
    if method == "scaled":
        _, result = run(scaled_gd(**SIZES), 110, damping=0.05, **scale)
        curve = scaled_learning_curve(110, result.conclusions["signal_start"], VALUES, 0.3, 0.05)
    elif method == "prec":
        _, result = run(prec_gd(**SIZES), 90, **scale)
        curve = prec_learning_curve(90, result.conclusions["signal_start"], VALUES, 0.3)
    else:
        problem, result = run(symmetric_gd(**SIZES), 600, **scale)
        start = squared_distances(problem.basis.T @ result.state.start, 5)
        curve = gradient_learning_curve(600, start, VALUES, 0.3)
    error = np.asarray(result.records["error"])
    assert error.min() < 1e-4
    # The second direction is alpha^(1 - g_2/g_1) = 0.03 at most when the first arrives: its square is neglected.
    np.testing.assert_allclose(error, curve, rtol=1.1e-3, atol=1e-9)


@pytest.mark.parametrize(("step_size", "rank"), [(0.3, 5), (0.3, 8), (0.3, 11), (0.1, 9)])
def test_prec_gd_falls_at_the_rate_of_its_equal_tail_modes(step_size, rank):
    sizes = {"dim": 12, "true_rank": 1, "max_rank": rank}
    _, result = run(prec_gd(**sizes), 800 if step_size < 0.2 else 200, init_scale=1e-2, step_size=step_size)
    error = np.asarray(result.records["error"])
    late = np.flatnonzero((error < 1e-8) & (error > 1e-12))
    slope = np.polyfit(late, np.log(error[late]), 1)[0]
    # What the tail has in the rows of the signal adds to the damping still, the less the slower the tail is.
    np.testing.assert_allclose(slope, prec_gd_rate(step_size, rank, 1), rtol=0.01)


def test_prec_gd_of_one_excess_column_is_held_up_by_the_rows_of_the_signal():
    assert prec_gd_rate(0.3, 3, 2) == np.log1p(-0.3)
    assert prec_gd_rate(0.3, 5, 2) == 2 * np.log1p(-0.3 / (1 + np.sqrt(3) / 2))


def test_mean_log_start_is_that_of_gaussian_starts():
    simulation = scaled_gd(**SIZES)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    hyper = simulation.hyper._replace(rank=4, init_scale=0.01)
    init = lambda key: simulation.init(key, problem, hyper).signal_start  # noqa: E731
    starts = np.log(jax.vmap(init)(jax.random.split(jax.random.key(1), 3000)))
    spread = starts.std(axis=0) / np.sqrt(len(starts))
    predicted = initial_share(1.0, entry_variance=0.01**2 / 12, rank=4, direction=np.arange(3))
    assert np.all(np.abs(starts.mean(axis=0) - np.log(predicted)) < 4 * spread)


@pytest.mark.parametrize("damping", [None, 0.05, 0.3])
def test_iterations_are_linear_in_the_log_scale(damping):
    def curve(scale):
        start = np.full(1, scale**2)
        if damping is None:
            return gradient_learning_curve(1500, start, VALUES[-1:], 0.3)
        return scaled_learning_curve(500, start, VALUES[-1:], 0.3, damping)

    curves = [curve(scale) for scale in (1e-4, 1e-8)]
    times = [time_to(np.arange(len(errors)), errors, VALUES[-1] / 2) for errors in curves]
    slope = (times[1] - times[0]) / np.log(1e4)
    assert slope == pytest.approx(iterations_per_log_scale(VALUES[-1], 0.3, damping), rel=0.02)


def test_noise_is_amplified_by_the_largest_deviation():
    simulation = scaled_gd(**SIZES, measurements=300)
    problem, result = run(simulation, 12, damping=5.0, init_scale=1e-8, step_size=0.3)
    back = np.asarray(adjoint(problem.operator, problem.observed))
    off = np.eye(12) - np.asarray(problem.basis @ problem.basis.T)
    grown = np.asarray(result.records["off_range"])
    # Off the range `X` is driven by all of `A*A(M*)`, whose norm bounds the growth of any part of the factor.
    bound = noise_amplification(np.arange(13), 0.3, np.linalg.norm(back, 2), 5.0)
    assert np.all(grown <= bound * 1e-8 * np.sqrt(12 * 5) * 1.5)
    # A factor that starts as the leading noise direction grows by that direction's own curvature at first.
    values, vectors = np.linalg.eigh(off @ back @ off)
    factor = jnp.asarray(np.outer(vectors[:, -1], [1e-8, 0, 0, 0, 0]))
    state = result.state._replace(factor=factor)
    hyper = simulation.hyper._replace(rank=5, damping=5.0, step_size=0.3)
    new = simulation.step(None, problem, hyper, state).factor
    along = float(vectors[:, -1] @ np.asarray(new)[:, 0]) / 1e-8
    assert along == pytest.approx(noise_amplification(1, 0.3, values[-1], 5.0), rel=1e-9)
    assert values[-1] > 0


def test_the_least_exponent_grows_with_damping_and_with_measurements():
    exponents = [least_scale_exponent(VALUES, 0.3, damping / 9, 50, 1500) for damping in (0.1, 1.0, 3.0)]
    assert 0 <= exponents[0] < exponents[1] < exponents[2] < 2
    assert least_scale_exponent(VALUES, 0.3, 1 / 9, 50, 10**12) == pytest.approx(2, abs=1e-4)
    assert least_scale_exponent(VALUES, 0.3, 0.001, 50, 100) == 0


@pytest.mark.parametrize("step_size", [0.2, 0.5])
def test_gauss_newton_converges_at_its_rate_from_any_start(step_size):
    _, result = run(gauss_newton(**SIZES), 40, step_size=step_size, init_scale=0.1)
    logs = np.log(result.records["error"])
    late = 30 if step_size < 0.4 else 20
    slope = (logs[late + 8] - logs[late]) / 8
    # Rows within R fall by the square of the rest.
    assert slope == pytest.approx(gauss_newton_rate(step_size), rel=0.01)


@pytest.mark.parametrize("rank", [3, 4, 6])
def test_angles_of_the_start_give_the_whole_riemannian_curve(rank):
    simulation = weight_normalized(dim=12, true_rank=3, max_rank=6)
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=2.0))
    hyper = simulation.hyper._replace(rank=rank, step_size=0.7)
    result = jax.jit(rollout(simulation, np.arange(201)))(jax.random.key(2), problem, hyper)
    curve = weight_normalized_curve(200, result.conclusions["overlap_start"], [1.0, 0.75, 0.5], 0.7)
    error = np.asarray(result.records["error"])
    np.testing.assert_allclose(error, curve, rtol=1e-6, atol=1e-12)
    assert curve[0] == pytest.approx(np.linalg.norm([1.0, 0.75, 0.5]))


def test_riemannian_curve_ends_at_its_rate():
    overlap = np.diag([0.3, 0.2]) + 0.05
    curve = weight_normalized_curve(400, [overlap, np.eye(2) * 0.5], [1.0, 0.5], 0.6)
    assert curve.shape == (2, 401)
    slopes = (np.log(curve[:, 300]) - np.log(curve[:, 200])) / 100
    np.testing.assert_allclose(slopes, weight_normalized_rate(0.6, 0.5), rtol=1e-9)
    assert np.all(curve[:, 400] > 0)
    np.testing.assert_array_equal(weight_normalized_curve(0, overlap, [1.0, 0.5], 0.6), curve[0, :1])


def curvatures(problem, factor):
    """What measurements leave on the directions across the factor once the core has adapted, and their weights."""
    rank, across = np.linalg.matrix_rank(factor), np.linalg.svd(factor)[0]
    inside, outside = across[:, :rank], across[:, rank:]
    core = [np.outer(a, b) + np.outer(b, a) for i, a in enumerate(inside.T) for b in inside.T[: i + 1]]
    pairs = [(q, s) for q in outside.T for s in range(problem.basis.shape[1])]
    moved = [np.outer(q, problem.basis[:, s]) for q, s in pairs]
    seen = [
        np.stack(
            [np.asarray(measure(problem.operator, jnp.asarray(m / np.linalg.norm(m)))) for m in matrices], 1
        )
        for matrices in (core, [m + m.T for m in moved])
    ]
    orthonormal = np.linalg.qr(seen[0])[0]
    left = seen[1] - orthonormal @ (orthonormal.T @ seen[1])
    return left.T @ left, np.asarray(problem.singular_values)[[s for _, s in pairs]]


def test_weight_normalized_descent_sees_what_the_core_leaves_of_the_measurements():
    sizes, count = {"dim": 10, "true_rank": 2, "max_rank": 4}, 400
    simulation = weight_normalized(**sizes, measurements=count)
    traces, least = [], []
    rollouts = jax.jit(rollout(simulation, np.arange(601)))
    for seed in range(8):
        problem = simulation.sample(jax.random.key(seed), simulation.setting._replace(condition_number=2.0))
        result = rollouts(jax.random.key(1), problem, simulation.hyper._replace(step_size=0.4))
        error = np.asarray(result.records["error"])
        if error[-1] > 1e-10:
            continue  # measurements can hold a start where a direction is missing
        late = np.flatnonzero((error < 1e-7) & (error > 1e-12))
        slope = np.polyfit(late, np.log(error[late]), 1)[0]
        wishart, weights = curvatures(problem, np.asarray(result.state.factor))
        slowest = np.linalg.eigvalsh(weights[:, None] * wishart * weights)[0]
        # The slowest modes lie near each other: at these errors several may be left. The core lags a little.
        mean = 0.5**2 * np.trace(wishart) / len(weights)
        assert np.log1p(-0.4 * mean) < slope < 0.995 * np.log1p(-0.4 * slowest)
        traces.append(np.trace(wishart) / len(weights))
        least.append(np.linalg.eigvalsh(wishart)[0])
    assert len(traces) >= 7
    spread = np.std(traces) / np.sqrt(len(traces))
    assert abs(np.mean(traces) - weight_normalized_factor(count, 4)) < 4 * spread
    assert 1 < np.mean(least) / weight_normalized_edge(count, 10, 2, 4) < 1.25
