"""The path of key and query: minima over the nuclear norm's ball, the predicted constant, rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from theory_sim.attention import factor_path, regularization_path
from theory_sim.attention.factor_path import Hyper, factored_problem
from theory_sim.attention.regularization_path import reduced_problem
from theory_sim.attention.selection_gradient import log_excess_loss, token_scores
from theory_sim.attention.token_selection import Setting, token_selection
from theory_sim.simulation import Status, rollout

SIZES = {"inputs": 3, "tokens": 3, "dim": 4}
PLAIN = token_selection(**SIZES)
SIMULATION = regularization_path(**SIZES, parameterization="key_query")
RADII = np.array([0.3, 1.0, 20.0, 1000.0])


@jax.jit
@jax.vmap
def solve(key, problem, radius):
    factored = factored_problem(problem)
    return factored, rollout(SIMULATION, [80])(key, factored, Hyper(radius))


@pytest.fixture(scope="module")
def both():
    """Return problems, and the path of each at all radii, as drawn and turned: axes [turned, problem, radius]."""
    keys = jnp.repeat(jax.random.split(jax.random.key(4), 4), len(RADII))
    drawn = jax.vmap(lambda key: PLAIN.sample(key, Setting(0.0)))(keys)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    turned = drawn._replace(
        tokens=drawn.tokens @ turn.T, queries=drawn.queries @ turn.T, head=drawn.head @ turn.T
    )
    problems = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), drawn, turned)
    factored, runs = solve(jnp.tile(keys, 2), problems, jnp.tile(RADII, 8))
    return jax.tree.map(
        lambda x: np.asarray(x).reshape(2, 4, len(RADII), *x.shape[1:]), (problems, factored, runs)
    )


@pytest.fixture(scope="module")
def paths(both):
    """Return the problems as drawn, and the path of each at all radii: axes [problem, radius]."""
    return jax.tree.map(lambda x: x[0], both)


def at(tree, *place):
    return jax.tree.map(lambda leaf: leaf[place], tree)


def weights_of(factored, state):
    """Return `W` on the coordinates of the queries, from a point."""
    dim, count = factored.solution.shape
    key, query = np.split(state.point, [dim * count])
    return key.reshape(dim, count) @ query.reshape(count, count).T


def in_coordinates(factored, problem):
    """Return the problem with queries in the coordinates of their span, padded to the tokens' dimension."""
    queries = np.pad(factored.queries, ((0, 0), (0, problem.tokens.shape[2] - factored.queries.shape[1])))
    return problem._replace(queries=queries)


@jax.jit
def value_and_slope(weights, problem):
    return jax.value_and_grad(log_excess_loss, argnums=1)(problem, weights, "logistic")


def frank_wolfe(problem, radius, start, rounds=200):
    """Return the value after some rounds over the ball of the nuclear norm, with exact line searches, and its gap."""

    def corner(slope):
        left, _, right = np.linalg.svd(slope)
        return -radius * np.outer(left[:, 0], right[0])

    weights = start
    for _ in range(rounds):
        end = corner(np.asarray(value_and_slope(weights, problem)[1]))
        along = lambda t, a=weights, b=end: float(value_and_slope(a + t * (b - a), problem)[0])  # noqa: E731
        share = minimize_scalar(along, bounds=(0, 1), method="bounded", options={"xatol": 1e-6}).x
        weights = weights + share * (end - weights)
    value, slope = (np.asarray(part) for part in value_and_slope(weights, problem))
    return float(value), float(np.sum(slope * (weights - corner(slope))))


def test_points_are_minima_over_the_ball_of_the_nuclear_norm(paths):
    problems, factored, runs = paths
    for i, j in ((0, 0), (1, 1), (2, 2), (3, 2)):
        problem, one, run = at((problems, factored, runs), i, j)
        found = weights_of(one, run.state)
        assert np.linalg.svd(found, compute_uv=False).sum() == pytest.approx(RADII[j], rel=1e-8)
        wide = np.pad(found, ((0, 0), (0, 4 - found.shape[1])))
        flat = in_coordinates(one, problem)
        value, slope = (np.asarray(part) for part in value_and_slope(wide, flat))
        most = RADII[j] * np.linalg.norm(slope, 2)
        assert most + np.sum(slope * wide) < 1e-6 * most
        other, gap = frank_wolfe(flat, RADII[j], np.zeros_like(wide))
        assert value - 1e-9 <= other <= value + gap + 1e-9


def test_no_start_of_a_general_solver_on_the_factors_ends_lower(paths):
    problem, one, run = at(paths, 0, 2)
    radius, dim = RADII[2], 4
    wide = np.pad(weights_of(one, run.state), ((0, 0), (0, 1)))
    value = float(value_and_slope(wide, in_coordinates(one, problem))[0])

    @jax.jit
    def of_factors(flat):
        def loss(flat):
            key, query = flat.reshape(2, dim, dim)
            return log_excess_loss(problem, key @ query.T, "logistic")

        return jax.value_and_grad(loss)(flat)

    best = np.inf
    for seed in range(3):
        bound = {"type": "ineq", "fun": lambda f: 2 * radius - f @ f, "jac": lambda f: -2 * f}
        start = np.random.default_rng(seed).normal(size=2 * dim * dim)
        found = minimize(
            lambda flat: tuple(np.asarray(part) for part in of_factors(jnp.asarray(flat))),
            start / np.linalg.norm(start),
            jac=True,
            method="SLSQP",
            constraints=bound,
            options={"maxiter": 500, "ftol": 1e-13},
        )
        if found.x @ found.x < 2 * radius * (1 + 1e-8):
            best = min(best, found.fun)
    assert value <= best + 1e-7
    assert best < value + 1e-3


def test_key_and_query_have_no_step_size():
    assert SIMULATION.hyper._fields == ("radius",)


def test_all_points_are_certified(paths):
    runs = paths[2]
    assert (runs.status == Status.FINISHED).all()
    assert (runs.conclusions["gap"] < 1e-9).all()
    assert (runs.conclusions["gap"] > -1e-9).all()
    assert (runs.conclusions["gap"] * RADII**2 < 1e-5).all()


@pytest.mark.parametrize("field", ["gap", "violation"])
@pytest.mark.parametrize("value", [1e-3, np.nan])
def test_a_run_without_max_margin_weights_has_not_converged(paths, field, value):
    one, run = at(paths[1:], 0, 1)
    without = one._replace(**{field: jnp.asarray(value)})
    assert factor_path.conclude(one, Hyper(RADII[1]), {}, run.state)["converged"]
    assert not factor_path.conclude(without, Hyper(RADII[1]), {}, run.state)["converged"]


def test_a_gap_that_leaves_the_direction_open_is_no_certificate(paths):
    one, run = at(paths[1:], 0, 3)
    rng = np.random.default_rng(0)
    moved = run.state.point + 0.1 * rng.normal(size=run.state.point.shape)
    moved = moved * np.linalg.norm(run.state.point) / np.linalg.norm(moved)
    found = factor_path.conclude(one, Hyper(RADII[3]), {}, run.state._replace(point=moved))
    assert found["gap"] * RADII[3] ** 2 > 1e-5
    assert not found["converged"]


def test_the_error_of_the_direction_is_its_limit_over_the_radius(paths):
    found = paths[2].conclusions
    shares = RADII * found["error"] / found["residual_limit"]
    np.testing.assert_allclose(shares[:, 3], 1, atol=0.1)
    assert (shares[:, 0] < 0.5).all()
    assert (found["global"][:, 3] == 1).all()


def test_the_constant_of_the_frobenius_norm_is_not_that_of_key_and_query(paths):
    problems, _, runs = at(paths, slice(None), 3)
    limits = jax.jit(jax.vmap(lambda problem: reduced_problem(problem).residual_limit))(problems)
    shares = RADII[3] * runs.conclusions["error"] / limits
    assert (np.abs(shares - 1) > 0.1).all()


def test_solutions_meet_the_constraints_with_the_least_of_their_norms(paths):
    problem, one = at(paths[0], 0, 0), at(paths[1], 0, 0)
    best = np.argmax(token_scores(problem), axis=1)
    apart = problem.tokens[np.arange(3), best][:, None] - problem.tokens
    for weights in (one.solution, one.frobenius):
        margins = np.einsum("ntd,de,ne->nt", apart, weights, one.queries)
        assert (margins[np.arange(3) != best[:, None]] > 1 - 1e-6).all()
    nuclear = [np.linalg.norm(weights, "nuc") for weights in (one.solution, one.frobenius)]
    assert nuclear[0] == pytest.approx(one.least_norm, rel=1e-6)
    assert nuclear[0] < nuclear[1]
    assert np.linalg.norm(one.frobenius) < np.linalg.norm(one.solution)


def test_a_rotation_changes_nothing(both):
    found = both[2].conclusions
    for name in ("error", "margin_norm", "frobenius_error"):
        np.testing.assert_allclose(found[name][1], found[name][0], rtol=1e-3)
    # Multipliers are known to the solver's gap, and H may be nearly degenerate.
    np.testing.assert_allclose(found["residual_limit"][1], found["residual_limit"][0], rtol=1e-2)
