"""The misfit of an estimate: what a square loss needs of it, by one product with `A*A` or by two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.sensing import asymmetric_gd, gauss_newton, gaussian, symmetric_gd, with_gram
from theory_sim.sensing.measurements import adjoint, measure
from theory_sim.sensing.problems import misfit

SIZES = {"true_rank": 2, "max_rank": 3}


def drawn(form, measurements, noise=0.0):
    factories = {
        "symmetric": lambda: symmetric_gd(dim=6, **SIZES, measurements=measurements),
        "asymmetric": lambda: asymmetric_gd(rows=6, cols=4, **SIZES, measurements=measurements),
        "general": lambda: gauss_newton(dim=6, **SIZES, measurements=measurements),
    }
    simulation = factories[form]()
    return simulation.sample(jax.random.key(0), simulation.setting._replace(noise_std=noise))


def estimate_of(problem, seed=1):
    change = jax.random.normal(jax.random.key(seed), problem.target.shape)
    return change + change.T if change.shape[0] == change.shape[1] else change


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize(
    ("form", "measurements", "held"),
    [
        ("symmetric", 10, False),
        ("symmetric", 40, True),
        ("asymmetric", 12, False),
        ("asymmetric", 13, True),
        ("general", 60, True),
    ],
)
def test_misfit_is_that_of_the_measurements(form, measurements, held, noise):
    problem = drawn(form, measurements, noise)
    assert (problem.operator.gram is not None) == held
    estimate = estimate_of(problem)
    residual = measure(problem.operator, estimate) - problem.observed
    pull, square = misfit(problem, estimate)
    np.testing.assert_allclose(pull, adjoint(problem.operator, residual), atol=1e-12)
    np.testing.assert_allclose(square, jnp.sum(residual**2), rtol=1e-12)


def test_misfit_of_the_population_is_the_distance():
    problem = drawn("symmetric", None)
    estimate = estimate_of(problem)
    pull, square = misfit(problem, estimate)
    np.testing.assert_array_equal(pull, estimate - problem.target)
    np.testing.assert_allclose(square, jnp.sum((estimate - problem.target) ** 2), rtol=1e-14)


@pytest.mark.parametrize("measurements", [10, 40])
def test_misfit_keeps_its_accuracy_near_the_target(measurements):
    """A residual of measurements of size one is known to 1e-16 alone: four digits of these."""
    problem = drawn("symmetric", measurements)
    change = 2.0**-40 * estimate_of(problem)
    estimate = problem.target + change
    exact = measure(problem.operator, estimate - problem.target)
    pull, square = misfit(problem, estimate)
    np.testing.assert_allclose(pull, adjoint(problem.operator, exact), rtol=1e-9)
    np.testing.assert_allclose(square, jnp.sum(exact**2), rtol=1e-10)


def test_the_gram_matrix_is_held_where_it_is_less_work():
    """One product of p^2 terms against two of m p."""
    few, many = (gaussian(jax.random.key(0), dim=4, measurements=m) for m in (5, 6))
    assert with_gram(few) is few
    np.testing.assert_allclose(with_gram(many).gram, many.matrix.T @ many.matrix, atol=1e-14)
