"""Shortest vectors with given products, against CVXPY, and what they say of their own failure."""

import cvxpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from theory_sim.attention.least_norm import least_norm

SOLVE = jax.jit(least_norm)


@settings(max_examples=4)
@given(seed=st.integers(0, 2**31 - 1))
def test_vectors_are_those_of_a_general_solver(seed):
    rng = np.random.default_rng(seed)
    rows, target = rng.normal(size=(8, 12)), rng.normal(size=8)
    free, used = rng.random(8) < 0.3, rng.random(8) < 0.8
    found = SOLVE(jnp.asarray(rows @ rows.T), jnp.asarray(target), jnp.asarray(free), jnp.asarray(used))
    assert found.violation < 1e-8
    vector = cvxpy.Variable(12)
    constraints = [rows[used & free] @ vector == target[used & free]] if (used & free).any() else []
    if (used & ~free).any():
        constraints += [rows[used & ~free] @ vector >= target[used & ~free]]
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(vector)), constraints).solve(solver=cvxpy.CLARABEL)
    np.testing.assert_allclose(found.multipliers @ rows, vector.value, atol=1e-5)
    assert not np.any(found.multipliers[~used])
    # In other units of each constraint the vector is the same.
    units = np.exp(rng.normal(size=8))
    scaled = rows * units[:, None]
    other = SOLVE(
        jnp.asarray(scaled @ scaled.T), jnp.asarray(target * units), jnp.asarray(free), jnp.asarray(used)
    )
    np.testing.assert_allclose(other.multipliers @ scaled, found.multipliers @ rows, atol=1e-8)


def test_what_cannot_be_met_is_told():
    """`V >= 1` and `-V >= 1` along one direction."""
    found = SOLVE(jnp.array([[1.0, -1.0], [-1.0, 1.0]]), jnp.ones(2), jnp.zeros(2, bool), jnp.ones(2, bool))
    assert not found.violation < 1e-4
    assert SOLVE(jnp.eye(2), jnp.ones(2), jnp.zeros(2, bool), jnp.zeros(2, bool)).violation == pytest.approx(
        0
    )
