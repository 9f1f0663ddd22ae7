"""Small matrices without LAPACK: solutions, pseudo-inverses and functions of a spectrum against NumPy's."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from theory_sim.decompositions import (
    cholesky,
    leading_directions,
    of_spectrum,
    orthonormal_rows,
    pseudo_inverse,
    solve_spd,
)

SEEDS = st.integers(0, 2**31 - 1)


def spd(seed, size, condition):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    return (basis * np.geomspace(1, 1 / condition, size)) @ basis.T, rng.normal(size=(size, 7))


@given(SEEDS, st.sampled_from([1, 2, 5, 30]), st.sampled_from([1.0, 1e4, 1e9]))
def test_solution_is_as_accurate_as_the_condition_allows(seed, size, condition):
    matrix, right = spd(seed, size, condition)
    expected = np.linalg.solve(matrix, right)
    error = np.linalg.norm(solve_spd(jnp.asarray(matrix), jnp.asarray(right)) - expected)
    assert error <= 20 * size * np.finfo(float).eps * condition * np.linalg.norm(expected)


@given(SEEDS)
def test_scaling_a_variable_costs_no_accuracy(seed):
    matrix, right = spd(seed, 5, 10.0)
    scale = 10.0 ** np.array([0, -7, 5, -3, 2])
    scaled = solve_spd(jnp.asarray(scale[:, None] * matrix * scale), jnp.asarray(scale[:, None] * right))
    np.testing.assert_allclose(
        scale[:, None] * scaled, np.linalg.solve(matrix, right), rtol=1e-11, atol=1e-12
    )


def test_blocks_do_not_mix_and_unused_variables_are_zero():
    matrix, right = spd(0, 4, 100.0)
    wide, tall = np.eye(6), np.zeros((6, 7))
    wide[:4, :4], tall[:4] = matrix, right
    solution = solve_spd(jnp.asarray(wide), jnp.asarray(tall))
    assert not np.any(solution[4:])
    np.testing.assert_array_equal(solution[:4], solve_spd(jnp.asarray(matrix), jnp.asarray(right)))


def test_a_singular_matrix_has_a_finite_answer():
    tall = np.random.default_rng(0).normal(size=(3, 6))
    assert np.isfinite(solve_spd(jnp.asarray(tall.T @ tall), jnp.eye(6))).all()


def test_a_batch_equals_single_solutions():
    pairs = [spd(seed, 5, 10.0) for seed in range(3)]
    matrices, rights = (jnp.stack([jnp.asarray(pair[i]) for pair in pairs]) for i in range(2))
    batched = jax.jit(jax.vmap(solve_spd))(matrices, rights)
    for i in range(3):
        np.testing.assert_allclose(batched[i], solve_spd(matrices[i], rights[i]), atol=1e-13)


def test_derivative_of_the_solution():
    matrix, right = (jnp.asarray(part) for part in spd(1, 4, 10.0))
    direction = jnp.asarray(spd(2, 4, 3.0)[0])
    _, tangent = jax.jvp(lambda m: solve_spd(m, right), (matrix,), (direction,))
    solution = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(tangent, -np.linalg.solve(matrix, direction @ solution), atol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 9])
def test_function_of_a_spectrum(size):
    matrix = spd(3, size, 20.0)[0]
    values, vectors = np.linalg.eigh(matrix)
    for function in (jnp.exp, jnp.log, lambda v: 1 / jnp.sqrt(v)):
        expected = (vectors * np.asarray(function(values))) @ vectors.T
        np.testing.assert_allclose(of_spectrum(function, jnp.asarray(matrix)), expected, atol=1e-12)


@given(SEEDS, st.sampled_from([(6, 3), (4, 4), (2, 5)]), st.sampled_from([1e-9, 1.0, 1e9]))
def test_pseudo_inverse_of_any_rank_and_scale(seed, shape, scale):
    factor = np.random.default_rng(seed).normal(size=shape)
    gram = factor.T @ factor
    expected = np.linalg.pinv(gram, rcond=1e-13, hermitian=True)
    found = pseudo_inverse(jnp.asarray(gram * scale)) * scale
    np.testing.assert_allclose(
        found, expected, atol=1e-10 * np.linalg.norm(expected) ** 2 * np.linalg.norm(gram)
    )


def test_pseudo_inverse_of_zero_is_zero():
    assert not np.any(pseudo_inverse(jnp.zeros((3, 3))))
    assert np.isfinite(jax.jacfwd(pseudo_inverse)(jnp.diag(jnp.array([1.0, 2.0, 0.0])))).all()


@pytest.mark.parametrize("function", [leading_directions, cholesky, orthonormal_rows, pseudo_inverse])
def test_a_program_that_calls_a_function_twice_traces_it_once(function):
    jaxpr = jax.make_jaxpr(lambda x: (function(x), function(x + 1)))(jnp.eye(4))
    inner = [each.params["jaxpr"] for each in jaxpr.eqns if each.params.get("name") == function.__name__]
    assert len(inner) == 2
    assert inner[0] is inner[1]
