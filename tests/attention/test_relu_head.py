"""ReLU neurons in the head: the step by finite differences, the solutions by CVXPY, and what must not matter."""

from functools import partial

import cvxpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.attention import generalized_max_margin, max_margin, relu_head, untouched_start
from theory_sim.attention.relu_head import SOLUTIONS, Hyper, Setting, State, solutions, trained_weights
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
    hyper, drawn = Hyper(0.1), drawn._replace(leak=jnp.asarray(leak))
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
    assert np.linalg.norm(weights[:DIM, :DIM]) > 2
    assert not np.any(weights[DIM:])
    assert not np.any(weights[:, DIM:])
    assert np.linalg.norm(drawn.neurons) == pytest.approx(1)
    np.testing.assert_allclose(np.linalg.norm(drawn.tokens, axis=2), 1)


SELECTED = np.array([[True, True, False, True], [False, True, False, False], [True, True, True, True]])
PUSHING = np.array([False, True, False])


@pytest.fixture(scope="module")
def solved(drawn):
    """Return logits whose largest are selected, the solutions as matrices, and their violation."""
    logits = np.where(SELECTED, 3.0, -3.0) + np.random.default_rng(0).normal(size=(3, 4))
    pulls, violation = solutions(drawn.gram, jnp.asarray(logits), jnp.asarray(SELECTED), jnp.asarray(PUSHING))
    assert violation < 1e-9
    return logits, np.einsum("snt,ntd,ne->sde", pulls, drawn.tokens, drawn.queries)


def test_the_finite_part_is_the_shortest_matrix_with_the_ratios(drawn, solved):
    logits, (found, *_) = solved
    variable = cvxpy.Variable((6, 6))
    rows, ratios = [], []
    for x, z, chosen, row in zip(drawn.tokens, drawn.queries, SELECTED, logits, strict=True):
        first, *others = np.flatnonzero(chosen)
        rows += [np.outer(x[t] - x[first], z).ravel(order="F") for t in others]
        ratios += [row[t] - row[first] for t in others]
    equalities = [np.array(rows) @ cvxpy.vec(variable, order="F") == np.array(ratios)]
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(variable)), equalities).solve(solver=cvxpy.CLARABEL)
    np.testing.assert_allclose(found, variable.value, atol=1e-5)


def test_the_margins_are_those_of_the_certified_solver(drawn, solved):
    logits, (_, margin, one_token, live) = solved
    expected = generalized_max_margin(drawn.tokens, drawn.queries, jnp.asarray(SELECTED))
    np.testing.assert_allclose(margin, expected.weights, atol=1e-5)
    expected = max_margin(drawn.tokens, drawn.queries, jnp.asarray(np.argmax(logits, axis=1)))
    np.testing.assert_allclose(one_token, expected.weights, atol=1e-5)
    # A masked token that is not pushed gives way to a copy of a selected one, whose equality says nothing.
    top = np.take_along_axis(np.asarray(drawn.tokens), np.argmax(logits, axis=1)[:, None, None], axis=1)
    free = ~SELECTED & ~PUSHING[:, None]
    tokens = jnp.where(jnp.asarray(free[:, :, None]), top, drawn.tokens)
    expected = generalized_max_margin(tokens, drawn.queries, jnp.asarray(SELECTED | free))
    np.testing.assert_allclose(live, expected.weights, atol=1e-5)


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
        rows, ratios = [], []
        for x, z, logits in zip(problem.tokens, problem.queries, last.logits, strict=True):
            first, *others = np.flatnonzero(np.asarray(jax.nn.softmax(logits)) > 1e-3)
            rows += [np.outer(x[t] - x[first], z).ravel() for t in others]
            ratios += [logits[t] - logits[first] for t in others]
        finite = np.linalg.pinv(np.array(rows)) @ np.array(ratios)
        share = np.sum(np.square(finite)) / found["norm"][i] ** 2
        both, margin, *_ = 1 - found["error"][i]
        assert both**2 - margin**2 == pytest.approx(share, abs=1e-6)
        seen += 1
    assert seen >= 3


def test_directions_are_those_of_the_sequences_that_push(many):
    _, _, found = many
    kept = (found["accepted"] * found["several"] * found["pushed"]) == 1
    places = {name: i for i, name in enumerate(SOLUTIONS)}
    assert np.median(found["error"][kept, places["live"]]) < 2e-3
    assert np.median(found["error"][kept, places["margin"]]) > 1e-2


def test_without_a_finite_part_the_sums_are_the_margins(many):
    _, _, found = many
    both, margin, one_token, _, finite_and_one = found["error"][found["several"] == 0].T
    assert len(both) >= 3
    np.testing.assert_allclose(both, margin, atol=1e-9)
    np.testing.assert_allclose(finite_and_one, one_token, atol=1e-9)


def test_what_is_not_a_number_is_not_solved(drawn):
    state = SIMULATION.init(jax.random.key(0), drawn, Hyper())
    found = SIMULATION.conclude(drawn._replace(gram=drawn.gram * np.nan), Hyper(), {}, state)
    assert found["unsolved"] == 1
    assert found["accepted"] == 0


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


def test_what_the_start_keeps_has_the_mean_of_the_bound(many):
    drawn, state, _ = many
    kept = []
    for tokens, queries, start, pulls in zip(
        drawn.tokens, drawn.queries, state.start, state.pulls, strict=True
    ):
        rows = [
            np.outer(x[t] - x[0], z).ravel() for x, z in zip(tokens, queries, strict=True) for t in (1, 2, 3)
        ]
        outside = np.eye(36) - np.linalg.pinv(np.array(rows)) @ np.array(rows)
        kept.append(np.sum((outside @ start.ravel()) ** 2))
        change = np.einsum("nt,ntd,ne->de", pulls, tokens, queries)
        np.testing.assert_allclose(outside @ change.ravel(), 0, atol=1e-9)
    expected = untouched_start(4, 3, 4)
    assert abs(np.mean(kept) - expected) < 4 * np.std(kept) / np.sqrt(len(kept))
    assert expected == pytest.approx(7 / 12)


def test_bad_sizes_are_refused():
    for name, value in (("inputs", 0), ("tokens", 1), ("max_dim", 0)):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            relu_head(**{**SHAPE, name: value})
