"""The direction of a step is the gradient of the loss that is recorded, by central differences of that number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.sensing import asymmetric_gd, subgradient, symmetric_gd
from theory_sim.sensing.robust import _field, _residual

WIDTH = 1e-5
KEY = jax.random.key(1)


def drawn(simulation):
    noise = simulation.setting._replace(condition_number=2.0, noise_std=0.1)
    return simulation.sample(jax.random.key(0), noise)


def slopes(function, point):
    """Central differences in all entries, with an error of the order of the width squared."""
    steps = WIDTH * jnp.eye(point.size).reshape(-1, *point.shape)
    return jax.jit(jax.vmap(lambda step: (function(point + step) - function(point - step)) / (2 * WIDTH)))(
        steps
    ).reshape(point.shape)


def test_the_symmetric_step():
    simulation = symmetric_gd(dim=6, true_rank=2, max_rank=3, measurements=30)
    problem, hyper = drawn(simulation), simulation.hyper._replace(step_size=1.0, init_scale=0.7)
    state = simulation.init(KEY, problem, hyper)
    measured = slopes(
        lambda factor: simulation.observe(problem, hyper, state._replace(factor=factor))["loss"], state.factor
    )
    step = state.factor - simulation.step(KEY, problem, hyper, state).factor
    np.testing.assert_allclose(step, measured, atol=1e-8)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_asymmetric_step(side):
    simulation = asymmetric_gd(rows=6, cols=5, true_rank=2, max_rank=3, measurements=40)
    problem, hyper = drawn(simulation), simulation.hyper._replace(step_size=1.0, init_scale=0.7)
    state = simulation.init(KEY, problem, hyper)
    point = getattr(state, side)
    measured = slopes(
        lambda factor: simulation.observe(problem, hyper, state._replace(**{side: factor}))["loss"], point
    )
    step = point - getattr(simulation.step(KEY, problem, hyper, state), side)
    np.testing.assert_allclose(step, measured, atol=1e-8)


def test_the_direction_of_the_robust_step_off_the_kinks():
    simulation = subgradient(dim=6, true_rank=2, max_rank=3, measurements=40, start="orthogonal")
    problem, hyper = drawn(simulation), simulation.hyper._replace(init_scale=0.7)
    state = simulation.init(KEY, problem, hyper)
    residual = _residual(problem, state.factor)
    # A change of one entry by the width moves a residual by less than ten times that: no sign changes.
    assert np.abs(residual).min() > 10 * WIDTH
    measured = slopes(
        lambda factor: simulation.observe(problem, hyper, state._replace(factor=factor))["excess_loss"],
        state.factor,
    )
    direction = 2 * _field(problem, hyper, residual, "l1") @ state.factor
    np.testing.assert_allclose(direction, measured, atol=1e-8)
