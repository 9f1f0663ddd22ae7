"""The regularisation path: points by a general solver, certificates, and what must not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from theory_sim.attention import regularization_path
from theory_sim.attention.regularization_path import Hyper, reduced_problem
from theory_sim.attention.selection_gradient import log_excess, log_excess_loss, plain_gradient
from theory_sim.attention.selection_path import derivatives
from theory_sim.attention.token_selection import Setting
from theory_sim.simulation import Status, rollout

SIMULATION = regularization_path(inputs=3, tokens=3, dim=4)
RADII = np.array([0.3, 1.0, 20.0, 1e4])


def weights_of(reduced, point):
    """Return `W` of a point, in NumPy: `y = F p`, `W = sum_it p_it x_it z_i^T`."""
    pulls = np.linalg.solve(reduced.factor, point).reshape(reduced.scores.shape)
    return np.einsum("nt,ntd,ne->de", pulls, reduced.problem.tokens, reduced.problem.queries)


@pytest.fixture(scope="module")
def paths():
    """Return problems with equal scores, and the path of each at all radii."""

    def one(key, radius):
        reduced = SIMULATION.sample(key, Setting(0.0))
        return reduced, rollout(SIMULATION, [80])(key, reduced, Hyper(radius))

    keys = jax.random.split(jax.random.key(4), 4)
    each = jax.jit(jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None)))(keys, jnp.asarray(RADII))
    return jax.tree.map(np.asarray, each)


def at(tree, *place):
    return jax.tree.map(lambda leaf: leaf[place], tree)


@jax.jit
def value_and_slope(flat, problem):
    return jax.value_and_grad(lambda flat: log_excess_loss(problem, flat.reshape(4, 4), "logistic"))(flat)


def general_minimum(problem, radius):
    """Return the best of three runs of SLSQP from random starts."""
    runs = []
    for start in range(3):
        drawn = np.random.default_rng(start).normal(size=16)
        found = minimize(
            lambda flat: tuple(np.asarray(part) for part in value_and_slope(jnp.asarray(flat), problem)),
            drawn * min(radius, 1.0) / np.linalg.norm(drawn),
            jac=True,
            method="SLSQP",
            constraints={
                "type": "ineq",
                "fun": lambda flat: radius**2 - flat @ flat,
                "jac": lambda flat: -2 * flat,
            },
            options={"maxiter": 500, "ftol": 1e-13},
        )
        if found.x @ found.x < radius**2 * (1 + 1e-8):
            runs.append(found)
    return min(runs, key=lambda found: found.fun)


def test_points_are_the_minima_of_a_general_solver(paths):
    close = 0
    for i in range(4):
        for j, radius in enumerate(RADII[:3]):
            reduced, run = at(paths, i, j)
            found = weights_of(reduced, run.state.point).reshape(-1)
            assert np.linalg.norm(found) == pytest.approx(radius)
            best = general_minimum(reduced.problem, radius)
            value = float(value_and_slope(jnp.asarray(found), reduced.problem)[0])
            assert value <= best.fun + 1e-6
            if best.fun < value + 1e-6:
                np.testing.assert_allclose(found, best.x, atol=0.01 * radius)
                close += 1
    assert close >= 8


def test_derivatives_are_those_of_autodiff():
    rng = np.random.default_rng(0)
    scores, logits = jnp.asarray(rng.normal(size=(2, 3))), jnp.asarray(4 * rng.normal(size=6))

    def value(logits):
        return log_excess(scores, jax.nn.log_softmax(logits.reshape(2, 3)), "logistic")

    slope, bend = derivatives(scores, jax.nn.log_softmax(logits.reshape(2, 3)))
    np.testing.assert_allclose(slope, jax.grad(value)(logits), atol=1e-12)
    np.testing.assert_allclose(bend, jax.hessian(value)(logits), atol=1e-12)


def test_the_angle_is_that_of_the_weights_and_their_gradient(paths):
    reduced, run = at(paths, 0, 1)
    weights = weights_of(reduced, run.state.point)
    slope = -np.asarray(plain_gradient(reduced.problem, jnp.asarray(weights), "logistic"))
    angle = np.linalg.norm(weights / np.linalg.norm(weights) - slope / np.linalg.norm(slope))
    assert angle < 1e-7
    assert run.conclusions["angle"] < 1e-7
    assert (paths[1].status == Status.FINISHED).all()


def test_the_error_of_the_direction_is_its_limit_over_the_radius(paths):
    found = paths[1].conclusions
    shares = RADII * found["error"] / found["residual_limit"]
    assert np.median(np.abs(shares[:, 3] - 1)) < 0.01
    np.testing.assert_allclose(shares[:, 3], 1, atol=0.2)
    assert (shares[:, 0] < 0.5).all()
    assert (found["global"][:, 3] == 1).all()


@pytest.mark.parametrize("violation", [1e-3, np.nan])
def test_a_run_without_max_margin_weights_has_not_converged(paths, violation):
    reduced, run = at(paths, 0, 1)
    found = SIMULATION.conclude(
        reduced._replace(violation=jnp.asarray(violation)), Hyper(RADII[1]), {}, run.state
    )
    assert not found["converged"]
    assert SIMULATION.conclude(reduced, Hyper(RADII[1]), {}, run.state)["converged"]


def test_descent_at_equal_norm_has_no_smaller_loss(paths):
    assert (paths[1].conclusions["excess"] >= -1e-7).all()
    assert (paths[1].conclusions["excess"][:, 1] < 1).all()


def test_a_rotation_changes_nothing(paths):
    reduced, run = at(paths, 1, 2)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    problem = reduced.problem
    turned = problem._replace(
        tokens=problem.tokens @ turn.T, queries=problem.queries @ turn.T, head=turn @ problem.head
    )
    other = rollout(SIMULATION, [80])(jax.random.key(0), reduced_problem(turned), Hyper(RADII[2]))
    np.testing.assert_allclose(other.state.point, run.state.point, atol=1e-6)
    for name in ("error", "residual_limit", "margin_norm"):
        np.testing.assert_allclose(other.conclusions[name], run.conclusions[name], rtol=1e-5)


def test_too_small_a_dimension_is_refused():
    with pytest.raises(ValueError, match="dim must be at least inputs and tokens, 5, got 4"):
        regularization_path(inputs=3, tokens=5, dim=4)
