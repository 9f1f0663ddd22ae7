"""When all tokens are support tokens: against the quadratic program, and the derived dimension."""

from functools import cache

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given

from theory_sim.attention import margin_instances, support_dim, support_tokens
from theory_sim.simulation import trajectory

SIZES = {"points": 8, "max_inputs": 4, "max_tokens": 4, "max_dim": 12}


@cache
def program(factory, **fields):
    simulation = factory(**SIZES)
    setting = simulation.setting._replace(**fields)

    def one(seed):
        problem = simulation.sample(jax.random.key(seed), setting)
        return trajectory(simulation, 0)(jax.random.key(0), problem, simulation.hyper), problem

    return jax.jit(jax.vmap(one))


def found(factory, seeds, **fields):
    return program(factory, **fields)(np.asarray(seeds))


@pytest.mark.parametrize(
    "fields", [{"inputs": 4, "tokens": 3, "dim": 8}, {"inputs": 2, "tokens": 4, "dim": 12}]
)
@given(st.integers(0, 1000))
def test_all_multipliers_are_positive_where_all_constraints_are_active(fields, seed):
    seeds = seed + np.arange(16)
    told, problem = found(support_tokens, seeds, **fields)
    solved, _ = found(margin_instances, seeds, **fields)
    clear = np.abs(told["least"]) > 1e-3
    assert clear.sum() > 10
    np.testing.assert_array_equal(told["all_active"][clear], (solved["active"] == problem.constraints)[clear])


def test_the_least_multiplier_is_that_of_a_dense_solution():
    told, problem = found(support_tokens, range(8), inputs=3, tokens=3, dim=7)
    for i, least in enumerate(told["least"]):
        left, right = (np.asarray(part[i])[: int(problem.constraints[i])] for part in problem[:2])
        multipliers = np.linalg.solve((left @ left.T) * (right @ right.T), np.ones(len(left)))
        assert least == pytest.approx(multipliers.min() / multipliers.mean(), abs=1e-9)


def test_more_constraints_than_weights_are_never_all_active():
    told, _ = found(support_tokens, range(32), inputs=4, tokens=3, dim=2)
    np.testing.assert_array_equal(told["all_active"], 0)


def test_the_derived_dimension_solves_its_equation():
    for inputs, tokens in ((3, 3), (5, 5), (20, 3)):
        dim = float(support_dim(inputs, tokens))
        draw = np.random.default_rng(0).normal(size=(40_000, inputs * (tokens - 1)))
        deviation = (tokens - 1) * np.sqrt(1 / dim + inputs / dim**2)
        assert np.mean((deviation * draw < 1).all(axis=1)) == pytest.approx(0.5, abs=0.01)
