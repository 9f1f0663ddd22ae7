"""Random max margin problems: sizes by masks, the rank's and the feasibility's predictions, solving in pieces."""

from functools import cache, partial

import cvxpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
