"""The path of key and query: minima over the nuclear norm's ball, the predicted constant, rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from theory_sim.attention import max_margin, regularization_path
from theory_sim.attention.factor_path import factored_problem
from theory_sim.attention.selection_gradient import log_excess_loss, token_scores
from theory_sim.attention.selection_path import Hyper
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
def paths():
    """Return problems, and the path of each at all radii: axes [problem, radius]."""
    keys = jnp.repeat(jax.random.split(jax.random.key(4), 4), len(RADII))
    problems = jax.vmap(lambda key: PLAIN.sample(key, Setting(0.0)))(keys)
    factored, runs = solve(keys, problems, jnp.tile(RADII, 4))
    shaped = jax.tree.map(
        lambda x: np.asarray(x).reshape(4, len(RADII), *x.shape[1:]), (problems, factored, runs)
    )
    return shaped


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


def frank_wolfe(problem, radius, start, rounds=400):
    """Return the value and its gap after some rounds over the ball of the nuclear norm, with exact line searches."""
    weights, least = start, -np.inf
    for _ in range(rounds):
        value, slope = (np.asarray(part) for part in value_and_slope(weights, problem))
        left, _, right = np.linalg.svd(slope)
        corner = -radius * np.outer(left[:, 0], right[0])
        least = max(least, value - np.sum(slope * (weights - corner)))
        along = lambda t, a=weights, b=corner: float(value_and_slope(a + t * (b - a), problem)[0])  # noqa: E731
        share = minimize_scalar(along, bounds=(0, 1), method="bounded", options={"xatol": 1e-6}).x
        weights = weights + share * (corner - weights)
    return float(value_and_slope(weights, problem)[0]), least


def test_points_are_minima_over_the_ball_of_the_nuclear_norm(paths):
    problems, factored, runs = paths
    for i, j in ((0, 0), (1, 1), (2, 2), (3, 2)):
        problem, one, run = at((problems, factored, runs), i, j)
        found = weights_of(one, run.state)
        assert np.linalg.svd(found, compute_uv=False).sum() == pytest.approx(RADII[j], rel=1e-8)
        wide = np.pad(found, ((0, 0), (0, 4 - found.shape[1])))
        flat = in_coordinates(one, problem)
        value = float(value_and_slope(wide, flat)[0])
        other, _ = frank_wolfe(flat, RADII[j], np.zeros_like(wide))
        assert value <= other + 1e-9
        assert other - value < 0.02


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


def test_all_points_are_certified(paths):
    runs = paths[2]
    assert (runs.status == Status.FINISHED).all()
    assert (runs.conclusions["gap"] < 1e-9).all()
    assert (runs.conclusions["gap"] > -1e-9).all()


def test_the_error_of_the_direction_is_its_limit_over_the_radius(paths):
    found = paths[2].conclusions
    shares = RADII * found["error"] / found["residual_limit"]
    np.testing.assert_allclose(shares[:, 3], 1, atol=0.1)
    assert (shares[:, 0] < 0.5).all()
    assert (found["global"][:, 3] == 1).all()


def test_solutions_are_those_of_the_original_problem(paths):
    problem, one = at(paths[0], 0, 0), at(paths[1], 0, 0)
    best = np.argmax(token_scores(problem), axis=1)
    for norm, weights in (("nuclear", one.solution), ("frobenius", one.frobenius)):
        found = max_margin(problem.tokens, problem.queries, best, norm=norm)
        np.testing.assert_allclose(
            weights @ one.queries.T, np.asarray(found.weights) @ problem.queries.T, atol=1e-6
        )


def test_a_rotation_changes_nothing(paths):
    problems, _, runs = paths
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    turned = problems._replace(
        tokens=problems.tokens @ turn.T, queries=problems.queries @ turn.T, head=problems.head @ turn.T
    )
    flat = jax.tree.map(lambda x: jnp.asarray(x.reshape(-1, *x.shape[2:])), turned)
    keys = jax.random.split(jax.random.key(0), len(flat.head))
    _, other = solve(keys, flat, jnp.tile(RADII, 4))
    for name in ("error", "residual_limit", "margin_norm", "frobenius_error"):
        again = np.asarray(other.conclusions[name]).reshape(4, -1)
        np.testing.assert_allclose(again, runs.conclusions[name], rtol=1e-3)
