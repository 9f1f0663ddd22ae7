"""A step goes along the gradient of the loss that is recorded, by central differences of that number.

Of a preconditioned step it is what the preconditioner was applied to.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.sensing import (
    asymmetric_gd,
    gauss_newton,
    prec_gd,
    scaled_gd,
    subgradient,
    symmetric_gd,
    weight_normalized,
)
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


def test_the_direction_of_the_least_squares_step():
    simulation = subgradient(dim=6, true_rank=2, max_rank=3, measurements=40, loss="l2", start="orthogonal")
    problem, hyper = drawn(simulation), simulation.hyper._replace(init_scale=0.7, samples=30)
    state = simulation.init(KEY, problem, hyper)
    measured = slopes(
        lambda factor: simulation.observe(problem, hyper, state._replace(factor=factor))["excess_loss"],
        state.factor,
    )
    direction = 2 * _field(problem, hyper, _residual(problem, state.factor), "l2") @ state.factor
    np.testing.assert_allclose(direction, measured, atol=1e-8)
    moved = state.factor - simulation.step(KEY, problem, hyper, state).factor
    cosine = jnp.vdot(moved, measured) / (jnp.linalg.norm(moved) * jnp.linalg.norm(measured))
    np.testing.assert_allclose(cosine, 1, atol=1e-12)


@pytest.mark.parametrize("factory", [scaled_gd, prec_gd])
def test_the_preconditioned_step_times_its_damped_gram_matrix(factory):
    simulation = factory(dim=6, true_rank=2, max_rank=3, measurements=30)
    problem, hyper = drawn(simulation), simulation.hyper._replace(step_size=1.0, init_scale=0.7)
    state = simulation.init(KEY, problem, hyper)

    def loss(factor):
        return simulation.observe(problem, hyper, state._replace(factor=factor))["loss"]

    damping = jnp.sqrt(loss(state.factor)) if factory is prec_gd else hyper.damping
    moved = state.factor - simulation.step(KEY, problem, hyper, state).factor
    gram = state.factor.T @ state.factor + damping * jnp.eye(3)
    np.testing.assert_allclose(moved @ gram, slopes(loss, state.factor), atol=1e-8)


def test_either_half_step_of_gauss_newton_solves_for_the_gradient_at_the_newest_factors():
    simulation = gauss_newton(dim=6, true_rank=2, max_rank=3, measurements=40)
    problem, hyper = drawn(simulation), simulation.hyper._replace(step_size=1.0, init_scale=0.7)
    state = simulation.init(KEY, problem, hyper)
    new = simulation.step(KEY, problem, hyper, state)

    def loss(left, right):
        return simulation.observe(problem, hyper, state._replace(left=left, right=right))["loss"]

    of_left = slopes(lambda left: loss(left, state.right), state.left)
    of_right = slopes(lambda right: loss(new.left, right), state.right)
    np.testing.assert_allclose((state.left - new.left) @ state.right.T @ state.right, of_left, atol=1e-8)
    np.testing.assert_allclose((state.right - new.right) @ new.left.T @ new.left, of_right, atol=1e-8)


def test_the_weight_normalised_steps():
    simulation = weight_normalized(dim=6, true_rank=2, max_rank=3, measurements=40)
    problem = drawn(simulation)
    state = simulation.init(KEY, problem, simulation.hyper)
    core = jax.random.normal(jax.random.key(2), (3, 3))
    state = state._replace(core=core + core.T)

    def loss(factor, core):
        # A packed operator sees symmetric matrices alone.
        moved = state._replace(factor=factor, core=(core + core.T) / 2)
        return simulation.observe(problem, None, moved)["loss"]

    only_factor = simulation.hyper._replace(step_size=WIDTH, core_step_size=0.0)
    moved = (state.factor - simulation.step(KEY, problem, only_factor, state).factor) / WIDTH
    euclidean = slopes(lambda factor: loss(factor, state.core), state.factor)
    inner = state.factor.T @ euclidean
    tangent = euclidean - state.factor @ (inner + inner.T) / 2
    # The retraction bends the step by half its length times the gradient.
    np.testing.assert_allclose(moved, tangent, atol=WIDTH * float(jnp.linalg.norm(tangent)) ** 2)
    only_core = simulation.hyper._replace(step_size=0.0, core_step_size=1.0)
    new = simulation.step(KEY, problem, only_core, state)
    measured = slopes(lambda core: loss(state.factor, core), state.core)
    np.testing.assert_allclose(state.core - new.core, measured, atol=1e-8)
