"""Starts in cones: where they start, which tokens are locally optimal, what pushes a sequence from its optimal one."""

import jax
import numpy as np
import pytest

from theory_sim.attention import attention_margins, max_margin, selection_capture
from theory_sim.attention.selection_gradient import token_scores
from theory_sim.simulation import rollout

SIMULATION = selection_capture(inputs=3, tokens=4, dim=4)


@pytest.fixture(scope="module")
def found():
    run = rollout(SIMULATION, [300])

    def one(seed, spread):
        key = jax.random.key(seed)
        target = SIMULATION.sample(key, SIMULATION.setting._replace(score_spread=spread))
        start = SIMULATION.init(key, target, SIMULATION.hyper._replace(radius=3.0, opening=0.2))
        last = run(key, target, SIMULATION.hyper)
        return target, start, last.conclusions | {"weights": last.state.weights}

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(np.arange(10), np.repeat([1.0, 0.0], 5)))


def problem_of(target, i):
    return jax.tree.map(lambda x: x[i], target.problem)


def test_starts_have_their_norm_and_their_angle(found):
    target, start, _ = found
    np.testing.assert_allclose(np.linalg.norm(start.weights, axis=(1, 2)), 3.0)
    np.testing.assert_allclose(np.sum(start.weights * target.direction, axis=(1, 2)), 3.0 * 0.8)


def test_targets_are_solutions_for_the_second_best_token_and_their_optimality_is_counted(found):
    target, _, conclusions = found
    for i in range(10):
        problem = problem_of(target, i)
        scores = np.asarray(token_scores(problem))
        chosen = target.chosen[i]
        if i < 5:
            assert np.argsort(-scores[0])[1] == chosen[0]
        np.testing.assert_array_equal(scores.argmax(axis=1)[1:], chosen[1:])
        solution = max_margin(problem.tokens, problem.queries, chosen)
        expected = np.asarray(solution.weights) / np.linalg.norm(solution.weights)
        np.testing.assert_allclose(target.direction[i], expected, atol=1e-6)
        margins = np.asarray(attention_margins(solution.weights, problem.tokens, problem.queries, chosen))
        beaten = [
            scores[n, t] < scores[n, chosen[n]] - 1e-8
            for n in range(3)
            for t in range(4)
            if t != chosen[n] and margins[n, t] < 1.00001
        ]
        assert conclusions["target_local"][i] == all(beaten)
    assert not conclusions["target_local"][5:].any()


def test_the_push_is_the_worst_score_along_the_solution_of_the_other_sequences(found):
    target, _, conclusions = found
    for i in range(10):
        problem = problem_of(target, i)
        best = np.asarray(token_scores(problem)).argmax(axis=1)
        pushes = []
        for left_out in range(3):
            kept = np.delete(np.arange(3), left_out)
            solution = max_margin(problem.tokens[kept], problem.queries[kept], best[kept])
            scores = problem.tokens[left_out] @ np.asarray(solution.weights) @ problem.queries[left_out]
            pushes.append(np.delete(scores, best[left_out]).max() - scores[best[left_out]])
        assert conclusions["push"][i] == pytest.approx(max(pushes), abs=1e-5)


def test_the_error_is_the_distance_from_the_solution_of_the_optimal_tokens_whatever_is_selected(found):
    target, _, conclusions = found
    for i in range(10):
        problem = problem_of(target, i)
        best = np.asarray(token_scores(problem)).argmax(axis=1)
        solution = np.asarray(max_margin(problem.tokens, problem.queries, best).weights)
        np.testing.assert_allclose(target.optimal[i], solution / np.linalg.norm(solution), atol=1e-6)
        assert conclusions["global"][i] == np.all(conclusions["selected"][i] == best)
        assert conclusions["captured"][i] == np.all(conclusions["selected"][i] == target.chosen[i])
        weights = conclusions["weights"][i]
        expected = np.linalg.norm(weights / np.linalg.norm(weights) - target.optimal[i])
        assert conclusions["direction_error"][i] == pytest.approx(expected, rel=1e-9)


def test_a_place_beyond_the_tokens_is_out_of_the_limits():
    assert SIMULATION.limits["place"] == (0, 3)
    with pytest.raises(ValueError, match="inputs must be at least 1, got 0"):
        selection_capture(inputs=0, tokens=3, dim=4)
