"""The first-order solver: against the certified optimum, and what it leaves of the rank."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from theory_sim.attention import margin_instances, max_margin_of_pairs, nuclear_splitting
from theory_sim.attention.splitting import MOST_STEPS, shrunk
from theory_sim.simulation import trajectory

SPLIT = jax.jit(nuclear_splitting)


def drawn(seed, points=12, dim=6):
    return np.random.default_rng(seed).normal(size=(2, points, dim))


@given(st.integers(0, 2**31))
def test_shrinking_lowers_every_singular_value_by_one(seed):
    matrix = 2 * np.random.default_rng(seed).normal(size=(5, 4))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    np.testing.assert_allclose(shrunk(matrix), (left * np.maximum(values - 1, 0)) @ right, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_tolerance_leads_to_the_certified_optimum(seed):
    left, right = drawn(seed)
    exact = max_margin_of_pairs(left, right, norm="nuclear")
    best = np.linalg.svd(exact.weights)[1].sum()
    loose, tight = (SPLIT(left, right, np.ones(12), tolerance) for tolerance in (1e-3, 1e-7))
    assert loose.settled
    assert tight.settled
    assert loose.steps < tight.steps
    assert np.linalg.svd(tight.weights)[1].sum() == pytest.approx(best, rel=1e-5)
    # The multipliers are those of strong duality.
    assert tight.dual.sum() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_a_count_of_small_singular_values_is_not_the_rank(seed):
    left, right = drawn(seed, points=20)
    found, exact = SPLIT(left, right, np.ones(20)), max_margin_of_pairs(left, right, norm="nuclear")
    values = np.linalg.svd(found.weights)[1]
    assert np.sum(values > 1e-3) == exact.rank < np.sum(values > 1e-7)


def test_constraints_without_a_bound_are_none():
    left, right = drawn(0)
    few = SPLIT(left[:7], right[:7], np.ones(7))
    masked = SPLIT(left, right, np.where(np.arange(12) < 7, 1.0, -np.inf))
    np.testing.assert_allclose(masked.weights, few.weights, atol=1e-12)
    assert masked.steps == few.steps


def test_a_problem_without_a_solution_does_not_settle():
    left, right = drawn(0, points=4)
    found = SPLIT(np.concatenate([left, -left]), np.concatenate([right, right]), np.ones(8))
    assert not found.settled
    assert found.steps == MOST_STEPS


def test_instances_tell_what_the_splitting_proves():
    sizes = {"points": 12, "max_inputs": 4, "max_tokens": 4, "max_dim": 6, "norm": "nuclear"}
    split, exact = (margin_instances(**sizes, solver=solver) for solver in ("splitting", "interior"))
    setting = exact.setting._replace(inputs=3, tokens=4, dim=5)
    for seed in range(4):
        key = jax.random.key(seed)
        problem = exact.sample(key, setting)
        ours, best = (jax.jit(trajectory(s, 0))(key, problem, s.hyper) for s in (split, exact))
        assert ours["feasible"] == best["feasible"] == 1
        assert best["value"] * (1 - 1e-9) <= ours["value"] <= best["value"] * (1 + 1e-3)
        assert 0 < ours["gap"] < 1e-2
        assert jnp.isfinite(ours["gap"])
