"""ReLU neurons in the head: the step by finite differences, the solutions by CVXPY, and what must not matter."""

from functools import partial

import cvxpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.attention import finite_part, relu_head
from theory_sim.attention.relu_head import SOLUTIONS, Hyper, Setting, State, trained_weights
from theory_sim.simulation import rollout

SHAPE = {"inputs": 3, "tokens": 4, "max_dim": 6}
SIMULATION = relu_head(**SHAPE)
DIM = 5


@pytest.fixture(scope="module")
def drawn():
    return SIMULATION.sample(jax.random.key(3), Setting(DIM))


def output_loss(weights, drawn, leak):
    """Return the mean logistic loss, in NumPy."""
    total = 0.0
    for tokens, query, label in zip(drawn.tokens, drawn.queries, drawn.labels, strict=True):
        logits = np.asarray(tokens) @ weights @ np.asarray(query)
        attended = np.exp(logits - logits.max())
        inputs = np.asarray(drawn.neurons) @ (np.asarray(tokens).T @ (attended / attended.sum()))
        total += np.log1p(np.exp(-float(label) * np.where(inputs > 0, inputs, leak * inputs).sum()))
    return total / len(drawn.labels)


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_a_step_descends_along_the_gradient_of_the_loss(drawn, leak):
    hyper = Hyper(0.1, leak)
    state = SIMULATION.init(jax.random.key(0), drawn, hyper)
    weights = np.asarray(trained_weights(drawn, state))
    moved = np.asarray(trained_weights(drawn, SIMULATION.step(None, drawn, hyper, state))) - weights
    slope = np.zeros_like(weights)
    for place in np.ndindex(weights.shape):
        change = np.zeros_like(weights)
        change[place] = 1e-6
        rise = output_loss(weights + change, drawn, leak) - output_loss(weights - change, drawn, leak)
        slope[place] = rise / 2e-6
    np.testing.assert_allclose(moved, -0.1 * slope / np.linalg.norm(slope), atol=1e-7)


def test_the_logits_are_those_of_the_weights_and_masked_coordinates_stay_zero(drawn):
    state = SIMULATION.init(jax.random.key(1), drawn, Hyper())
    state = jax.lax.fori_loop(0, 50, lambda _, now: SIMULATION.step(None, drawn, Hyper(), now), state)
    weights = trained_weights(drawn, state)
    logits = np.einsum("ntd,de,ne->nt", drawn.tokens, weights, drawn.queries)
    np.testing.assert_allclose(state.logits, logits, atol=1e-12)
    assert np.linalg.norm(weights[:DIM, :DIM]) > 3
    assert not np.any(weights[DIM:])
    assert not np.any(weights[:, DIM:])
    assert np.linalg.norm(drawn.neurons) == pytest.approx(1)
    np.testing.assert_allclose(np.linalg.norm(drawn.tokens, axis=2), 1)


def test_the_finite_part_is_the_shortest_matrix_with_the_ratios_and_a_part_of_the_weights(drawn):
    rng = np.random.default_rng(0)
    selected = np.array([[True, True, False, True], [False, True, False, False], [True, True, True, True]])
    weights = np.asarray(rng.normal(size=(6, 6)))
    weights[DIM:], weights[:, DIM:] = 0, 0
    tokens, queries = np.asarray(drawn.tokens), np.asarray(drawn.queries)
    logits = np.einsum("ntd,de,ne->nt", tokens, weights, queries)
    found = np.asarray(finite_part(drawn.tokens, drawn.queries, jnp.asarray(selected), jnp.asarray(logits)))

    variable = cvxpy.Variable((6, 6))
    rows, ratios = [], []
    for x, z, chosen, row in zip(tokens, queries, selected, logits, strict=True):
        first, *others = np.flatnonzero(chosen)
        rows += [np.outer(x[t] - x[first], z).ravel(order="F") for t in others]
        ratios += [row[t] - row[first] for t in others]
    equalities = [np.array(rows) @ cvxpy.vec(variable, order="F") == np.array(ratios)]
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(variable)), equalities).solve(solver=cvxpy.CLARABEL)
    np.testing.assert_allclose(found, variable.value, atol=1e-6)
    projected = np.linalg.pinv(np.array(rows)) @ np.array(rows) @ weights.ravel(order="F")
    np.testing.assert_allclose(found.ravel(order="F"), projected, atol=1e-9)


@pytest.fixture(scope="module")
def many():
    """Return problems with the last states and conclusions of their runs."""

    def one(key):
        drawn = SIMULATION.sample(jax.random.fold_in(key, 0), Setting(4))
        found = rollout(SIMULATION, [2000])(jax.random.fold_in(key, 1), drawn, Hyper())
        return drawn, found.state, found.conclusions

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(9), 48)))


def test_the_best_sum_is_closer_by_the_share_of_the_finite_part(many):
    """An identity, whatever was learned: `corr^2` rises by `|W_fin|^2 / |W|^2`."""
    drawn, state, found = many
    seen = 0
    for i in np.flatnonzero(found["accepted"] * found["several"]):
        problem, last = (jax.tree.map(lambda leaf: leaf[i], part) for part in (drawn, state))  # noqa: B023
        selected = jax.nn.softmax(last.logits) > 1e-3
        finite = finite_part(problem.tokens, problem.queries, selected, last.logits)
        share = np.sum(np.square(finite)) / found["norm"][i] ** 2
        both, margin, *_ = 1 - found["error"][i]
        assert both**2 - margin**2 == pytest.approx(share, abs=1e-8)
        seen += 1
    assert seen >= 3


def test_directions_are_those_of_the_sequences_that_push(many):
    _, _, found = many
    kept = (found["accepted"] * found["several"] * found["pushed"]) == 1
    places = {name: i for i, name in enumerate(SOLUTIONS)}
    assert np.median(found["error"][kept, places["live"]]) < 2e-3
    assert np.median(found["error"][kept, places["margin"]]) > 1e-2


def test_a_rotation_changes_nothing(drawn):
    """Tokens, queries, neurons and start turned alike: the same logits, and weights turned."""
    turn = np.eye(6)
    turn[:DIM, :DIM] = np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, DIM)))[0]
    turned = drawn._replace(
        tokens=drawn.tokens @ turn.T, queries=drawn.queries @ turn.T, neurons=drawn.neurons @ turn.T
    )
    state = SIMULATION.init(jax.random.key(2), drawn, Hyper())
    start = State(turn @ state.start @ turn.T, state.logits, state.pulls)
    advance = jax.jit(
        partial(jax.lax.fori_loop, 0, 30, lambda _, now: SIMULATION.step(None, drawn, Hyper(), now))
    )
    last, other = advance(state), advance(start)
    np.testing.assert_allclose(
        trained_weights(turned, other), turn @ trained_weights(drawn, last) @ turn.T, atol=1e-12
    )
    np.testing.assert_allclose(turned.tokens @ turned.neurons.T, drawn.units, atol=1e-12)


def test_bad_sizes_are_refused():
    for name, value in (("inputs", 0), ("tokens", 1), ("max_dim", 0)):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            relu_head(**{**SHAPE, name: value})
