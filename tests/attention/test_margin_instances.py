"""Random max margin problems: sizes by masks, the rank's and the feasibility's predictions, solving in pieces."""

import warnings
from functools import cache, partial

import cvxpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings

from theory_sim.attention import (
    feasibility_inputs,
    largest_rank,
    margin_instances,
    max_margin,
    max_margin_of_pairs,
    polar_dimension,
)
from theory_sim.attention.batching import in_pieces
from theory_sim.simulation import trajectory

SIZES = {"points": 12, "max_inputs": 4, "max_tokens": 5, "max_dim": 6}


@cache
def solver(norm):
    simulation = margin_instances(**SIZES, norm=norm)

    def one(key, setting):
        problem = simulation.sample(key, setting)
        return problem, trajectory(simulation, 0)(key, problem, simulation.hyper)

    return simulation, jax.jit(jax.vmap(one, (0, None)))


def solved(norm, **setting):
    simulation, solve = solver(norm)
    return solve(jax.random.split(jax.random.key(0), 6), simulation.setting._replace(**setting))


@pytest.mark.parametrize("norm", ["frobenius", "nuclear"])
def test_a_masked_instance_is_the_instance_of_its_size(norm):
    problems, found = solved(norm, inputs=3, tokens=4, dim=5)
    assert np.all(problems.constraints == 9)
    for i in range(6):
        left, right = np.asarray(problems.left[i]), np.asarray(problems.right[i])
        assert np.all(left[:, 5:] == 0)
        np.testing.assert_array_equal(left[9:], np.broadcast_to(left[0], (3, 6)))
        queries = right[:9:3, :5]
        np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1)
        # The selected token at the origin: the constraints are differences with it.
        tokens = np.concatenate([np.zeros((3, 1, 5)), -left[:9, :5].reshape(3, 3, 5)], axis=1)
        expected = max_margin(tokens, queries, np.zeros(3, int), norm=norm)
        assert found["feasible"][i] == expected.feasible == 1
        assert found["rank"][i] == expected.rank
        if norm == "nuclear":
            assert found["rank_bound"][i] == expected.rank_bound
        size = np.linalg.svd(expected.weights)[1]
        value = np.linalg.norm(size) if norm == "frobenius" else size.sum()
        assert found["value"][i] == pytest.approx(value, rel=1e-7)
        assert found["gap"][i] < 1e-9


LARGE = {"points": 42, "max_inputs": 6, "max_tokens": 8, "max_dim": 10}
"""The size of Fig. 7 of arXiv:2308.16898 as the largest: one program for instances of all sizes up to it."""
# A gap g leaves sqrt(2 g) of Frobenius weights open; a semidefinite problem gets no more than these, and not always.
CLARABEL = {"frobenius": (1e-12,), "nuclear": (1e-10, 1e-9, 1e-8)}


@cache
def solver_of_pairs(norm):
    simulation = margin_instances(**LARGE, norm=norm)

    def one(seed, setting):
        problem = simulation.sample(jax.random.key(seed), setting)
        return problem, max_margin_of_pairs(problem.left, problem.right, norm=norm)

    return simulation.setting, jax.jit(one)


def reference(left, right, norm):
    """Return the least norm, infinite where infeasible, and the weights, by CVXPY and CLARABEL."""
    weights = cvxpy.Variable((left.shape[1], left.shape[1]))
    rows = (left[:, None, :] * right[:, :, None]).reshape(
        len(left), -1
    )  # columns of the weights one after the other
    objective = cvxpy.sum_squares(weights) if norm == "frobenius" else cvxpy.normNuc(weights)
    problem = cvxpy.Problem(cvxpy.Minimize(objective), [rows @ cvxpy.vec(weights, order="F") >= 1])
    for gap in CLARABEL[norm]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem.solve(solver=cvxpy.CLARABEL, tol_gap_rel=gap, tol_gap_abs=gap, tol_feas=10 * gap)
        if problem.status in (cvxpy.OPTIMAL, cvxpy.INFEASIBLE):
            break
    assert problem.status in (cvxpy.OPTIMAL, cvxpy.INFEASIBLE)
    return np.sqrt(problem.value) if norm == "frobenius" else problem.value, weights.value


def unique(left, right, dual):
    """Tell whether the nuclear optimum is surely unique.

    Optima are `U S V^T` with `U, V` where `D` has singular value 1, and meet with equality what has a multiplier: they
    are one if these equalities determine a symmetric S.
    """
    u, values, vt = np.linalg.svd((left * dual[:, None]).T @ right)
    count = np.sum(values > 1 - 1e-6)
    kept = dual > 1e-6 * dual.sum()
    products = np.einsum("ka,kb->kab", left[kept] @ u[:, :count], right[kept] @ vt[:count].T)
    places = np.triu_indices(count)
    rows = (products + products.swapaxes(1, 2))[:, places[0], places[1]]
    return len(rows) >= len(places[0]) and np.linalg.svd(rows, compute_uv=False)[-1] > 1e-2


@pytest.mark.parametrize("norm", ["frobenius", "nuclear"])
@settings(max_examples=60)
@example(inputs=6, tokens=8, dim=10, seed=0, unit=1, optimal=1, own=0)
@example(inputs=1, tokens=2, dim=1, seed=0, unit=1, optimal=0, own=0)
@example(inputs=4, tokens=5, dim=4, seed=0, unit=1, optimal=1, own=1)
@given(
    inputs=st.integers(1, 6),
    tokens=st.integers(2, 8),
    dim=st.integers(1, 10),
    seed=st.integers(0, 2**31 - 1),
    unit=st.integers(0, 1),
    optimal=st.integers(0, 1),
    own=st.integers(0, 1),
)
def test_instances_of_all_sizes_agree_with_cvxpy(norm, inputs, tokens, dim, seed, unit, optimal, own):
    setting, solve = solver_of_pairs(norm)
    drawn = setting._replace(
        inputs=inputs, tokens=tokens, dim=dim, unit=unit, optimal=optimal, self_attention=own
    )
    problem, found = jax.tree.map(np.asarray, solve(seed, drawn))
    left, right = (part[: inputs * (tokens - 1), :dim] for part in (problem.left, problem.right))
    sizes = np.linalg.svd(found.weights, compute_uv=False)
    size = np.linalg.norm(sizes) if norm == "frobenius" else sizes.sum()
    if found.feasible and size > 1e4:
        return  # a margin too small for the reference to be one
    value, weights = reference(left, right, norm)
    assert found.feasible == np.isfinite(value)
    if not found.feasible:
        assert found.gap <= 1e-7
        return
    assert found.gap <= 1e-8
    assert size == pytest.approx(value, rel=1e-6)
    assert np.all(found.weights[dim:] == 0)
    assert np.all(found.weights[:, dim:] == 0)
    if norm == "frobenius" or unique(problem.left, problem.right, found.dual):
        np.testing.assert_allclose(found.weights[:dim, :dim], weights, atol=1e-5 * value)


def test_tokens_are_drawn_as_told():
    simulation = margin_instances(points=16, max_inputs=4, max_tokens=5, max_dim=6)
    draw = lambda **changes: simulation.sample(jax.random.key(3), simulation.setting._replace(**changes))  # noqa: E731
    best, free = draw(dim=6), draw(dim=6, optimal=0)
    # Differences of unit tokens: |x - y|^2 = 2 - 2 x.y, and x.(x - y) = |x - y|^2 / 2.
    for problem in (best, free):
        squares = np.sum(np.asarray(problem.left) ** 2, axis=1)
        assert np.all((squares > 0) & (squares < 4))
    np.testing.assert_array_equal(best.right, free.right)
    assert np.any(best.left != free.left)
    fewer = draw(dim=6, optimal=0, inputs=2)
    np.testing.assert_array_equal(fewer.left[:8], free.left[:8])


def test_with_self_attention_first_tokens_are_the_queries():
    simulation = margin_instances(points=16, max_inputs=4, max_tokens=5, max_dim=6)
    draw = lambda **changes: simulation.sample(jax.random.key(3), simulation.setting._replace(**changes))  # noqa: E731
    drawn, own, first = draw(), draw(self_attention=1), draw(self_attention=1, optimal=0)
    np.testing.assert_array_equal(own.left, drawn.left)
    np.testing.assert_array_equal(own.right, first.right)
    # Where the first token of unit norm is also selected, x.(x - y) = |x - y|^2 / 2.
    np.testing.assert_allclose(
        np.sum(first.left * first.right, axis=1), np.sum(np.asarray(first.left) ** 2, axis=1) / 2
    )
    # That is a margin of the identity.
    _, found = solved("frobenius", inputs=3, tokens=5, dim=2, optimal=0, self_attention=1)
    assert np.all(found["feasible"] == 1)


def test_constraints_without_a_place_are_told():
    _, found = solved("frobenius", inputs=4, tokens=5, dim=6)
    assert np.all(found["fits"] == 0)


def test_pairs_are_refused_in_one_line():
    with pytest.raises(ValueError, match="left and right must be of one shape"):
        max_margin_of_pairs(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="norm must be one of frobenius, nuclear, got 'l1'"):
        max_margin_of_pairs(np.ones((3, 2)), np.ones((3, 2)), norm="l1")
    with pytest.raises(ValueError, match="points must be at least 1, got 0"):
        margin_instances(**SIZES | {"points": 0})
    with pytest.raises(ValueError, match=r"max_dim must be a whole number, got 6\.5"):
        margin_instances(**SIZES | {"max_dim": 6.5})
    with pytest.raises(ValueError, match="solver must be one of interior, splitting, got 'scs'"):
        margin_instances(**SIZES, solver="scs")
    with pytest.raises(
        ValueError, match="a splitting solves problems in the nuclear norm, got norm='frobenius'"
    ):
        margin_instances(**SIZES, solver="splitting")
    with pytest.raises(ValueError, match="left must be finite"):
        max_margin_of_pairs(np.full((3, 2), np.nan), np.ones((3, 2)))


def test_the_solver_stops_at_the_gap_that_it_is_told():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 12, 5))
    loose = max_margin_of_pairs(left, right, norm="nuclear", tolerance=1e-3)
    tight = max_margin_of_pairs(left, right, norm="nuclear")
    assert 1e-6 < loose.gap < 1e-3
    assert tight.gap < 1e-10
    assert np.sum(np.linalg.svd(loose.weights)[1] > 1e-7) > tight.rank


def test_a_first_order_solver_leaves_singular_values_that_a_count_takes_for_rank():
    """The mechanism behind published counts of the rank, with the solver that they were made with (AT-A-F2)."""
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(2, 20, 6))
    weights = cvxpy.Variable((6, 6))
    rows = np.einsum("ki,kj->kij", left, right).reshape(20, 36)
    constraint = rows @ cvxpy.vec(weights, order="C") >= 1
    value = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(weights)), [constraint]).solve(solver=cvxpy.SCS)
    exact = max_margin_of_pairs(left, right, norm="nuclear")
    assert np.sum(np.linalg.svd(exact.weights)[1]) == pytest.approx(value, rel=1e-2)
    counted = np.linalg.matrix_rank(weights.value, tol=1e-7)
    assert counted == 6
    assert exact.rank == exact.rank_bound < counted


def test_the_largest_rank_is_the_last_whose_symmetric_matrices_are_determined():
    for active in range(1, 200):
        r = int(largest_rank(active))
        assert r * (r + 1) / 2 <= active < (r + 1) * (r + 2) / 2


def test_statistical_dimensions_of_simple_cones():
    # With two tokens the polar cone is a ray, of statistical dimension 1/2: boundary at twice the squared dimension.
    assert polar_dimension(6, 2, True) == pytest.approx(0.5, abs=4 * np.sqrt(1.25 / 4000))
    assert feasibility_inputs(6, 2) == pytest.approx(72, rel=0.1)
    # So many tokens that the differences span the half-space of all vectors that point away from the sphere.
    assert polar_dimension(2, 2000, True) == pytest.approx(1.5, abs=0.1)
    assert feasibility_inputs(30, 40) >= 30


@pytest.mark.parametrize("width", [1, 4, 7, 64])
def test_pieces_are_the_whole(width):
    function = in_pieces(lambda x, y: {"sum": x @ y, "first": x[0]}, width)
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    plain = {"sum": np.sum(x * y, axis=-1), "first": x[..., 0]}
    nested = jax.jit(jax.vmap(jax.vmap(function)))(x, y)
    shared = jax.vmap(jax.vmap(function), in_axes=(0, None))(x, y[0])
    for name in plain:
        np.testing.assert_allclose(nested[name], plain[name])
    np.testing.assert_allclose(shared["sum"], np.sum(x * y[0], axis=-1))
    np.testing.assert_allclose(function(x[0, 0], y[0, 0])["sum"], plain["sum"][0, 0])
    assert jax.tree.map(jnp.shape, jax.vmap(partial(function, x[0, 0]))(y[0])) == {"sum": (3,), "first": (3,)}
