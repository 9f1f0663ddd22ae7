"""Where token selection ends: the instances that are drawn, masked dimensions, and what is concluded."""

from functools import cache

import jax
import numpy as np
import pytest

from theory_sim.attention import attention_margins, max_margin, selection_outcome, token_selection
from theory_sim.attention.selection_gradient import logits_of, token_scores
from theory_sim.attention.token_selection import Direct, attention_weights
from theory_sim.simulation import rollout, trajectory

SIZES = {"inputs": 3, "tokens": 4, "max_dim": 6}


@cache
def runner(parameterization):
    simulation = selection_outcome(**SIZES, parameterization=parameterization)
    run = rollout(simulation, [400])

    def one(seed, setting):
        key = jax.random.key(seed)
        drawn = simulation.sample(key, setting)
        return drawn, run(jax.random.fold_in(key, 7), drawn, simulation.hyper)

    return simulation, jax.jit(jax.vmap(one, (0, None)))


@pytest.fixture(params=["weights", "key_query"])
def found(request):
    simulation, run = runner(request.param)
    drawn, runs = run(np.arange(12), simulation.setting._replace(dim=3))
    return request.param, *jax.tree.map(np.asarray, (drawn, runs))


def test_instances_are_on_the_sphere_of_their_dimension_and_have_the_gap(found):
    _, drawn, _ = found
    for vectors in (drawn.problem.tokens, drawn.problem.queries, drawn.problem.head):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1)
        assert np.all(vectors[..., 3:] == 0)
    scores = np.sort(np.asarray(jax.vmap(token_scores)(drawn.problem)), axis=-1)
    assert np.all(scores[..., -1] - scores[..., -2] >= 0.1)
    assert np.all((drawn.taken > 0) & (drawn.taken <= 1))
    assert set(np.unique(drawn.problem.labels)) == {-1.0, 1.0}


def test_a_larger_maximum_changes_no_instance():
    small, large = (selection_outcome(inputs=3, tokens=4, max_dim=size) for size in (3, 6))
    one, other = (s.sample(jax.random.key(2), s.setting._replace(dim=3)).problem for s in (small, large))
    np.testing.assert_allclose(one.tokens, other.tokens[..., :3], atol=1e-15)
    np.testing.assert_allclose(one.head, other.head[:3], atol=1e-15)


def test_coordinates_that_are_not_there_stay_zero():
    simulation, run = runner("key_query")
    _, runs = run(np.arange(12), simulation.setting._replace(dim=3))
    for matrix in runs.state:
        assert np.all(matrix[:, 3:] == 0)
        assert np.all(matrix[:, :, 3:] == 0)
        assert np.all(np.linalg.norm(matrix, axis=(1, 2)) > 1)


@pytest.mark.parametrize("dim", [2, 6])
def test_logits_are_those_of_trained_weights(dim):
    """The weights themselves, by the steps of `token_selection` from the same start: of key and query the first."""
    (outcome, _), (factors, _) = runner("weights"), runner("key_query")
    plain = token_selection(inputs=3, tokens=4, dim=6, rule="normalized")
    step, reference = jax.jit(outcome.step), jax.jit(plain.step)
    for seed in range(4):
        key = jax.random.key(seed)
        drawn = outcome.sample(key, outcome.setting._replace(dim=dim))
        state = outcome.init(key, drawn, outcome.hyper)
        weights = Direct(factors.init(key, drawn, outcome.hyper).key)
        for _ in range(60):
            state = step(key, drawn, outcome.hyper, state)
            weights = reference(key, drawn.problem, outcome.hyper, weights)
        np.testing.assert_allclose(state.logits, logits_of(drawn.problem, weights.weights), atol=1e-9)
        assert np.ptp(state.logits) > 1


def test_conclusions_are_those_of_a_plain_count(found):
    parameterization, drawn, runs = found
    norm = "nuclear" if parameterization == "key_query" else "frobenius"
    for i in range(12):
        problem = jax.tree.map(lambda x, i=i: x[i], drawn.problem)
        state = jax.tree.map(lambda x, i=i: x[i], runs.state)
        logits = np.asarray(
            state.logits if parameterization == "weights" else logits_of(problem, attention_weights(state))
        )
        scores = np.asarray(token_scores(problem))
        selected = logits.argmax(axis=1)
        assert runs.conclusions["global"][i] == np.all(selected == scores.argmax(axis=1))
        solution = max_margin(problem.tokens, problem.queries, selected, norm=norm)
        assert runs.conclusions["feasible"][i] == solution.feasible
        margins = np.asarray(attention_margins(solution.weights, problem.tokens, problem.queries, selected))
        beaten = [
            scores[n, t] < scores[n, selected[n]]
            for n in range(3)
            for t in range(4)
            if t != selected[n] and margins[n, t] < 1.00001
        ]
        assert runs.conclusions["local"][i] == (bool(solution.feasible) and all(beaten))


def test_support_tokens_are_counted_exactly_beside_the_published_mean(found):
    parameterization, drawn, runs = found
    norm = "nuclear" if parameterization == "key_query" else "frobenius"
    told = {name: runs.conclusions[name] for name in ("all_support", "near_support")}
    assert np.all(told["all_support"] <= told["near_support"])
    for i in range(12):
        problem = jax.tree.map(lambda x, i=i: x[i], drawn.problem)
        best = np.asarray(token_scores(problem)).argmax(axis=1)
        solution = max_margin(problem.tokens, problem.queries, best, norm=norm)
        margins = np.asarray(attention_margins(solution.weights, problem.tokens, problem.queries, best))
        others = margins[np.arange(4) != best[:, None]]
        assert told["all_support"][i] == (bool(solution.feasible) and bool(np.all(others < 1.00001)))
        assert told["near_support"][i] == (bool(solution.feasible) and others.mean() < 1.1)


def test_exact_counts_are_those_of_the_linear_system_and_rise_with_the_dimension():
    simulation = selection_outcome(inputs=3, tokens=3, max_dim=24)
    run = trajectory(simulation, [1])

    def one(seed, setting):
        drawn = simulation.sample(jax.random.key(seed), setting)
        return drawn.problem, run(jax.random.key(seed), drawn, simulation.hyper)

    shares = []
    for dim in (2, 24):
        setting = simulation.setting._replace(dim=dim)
        problems, told = jax.jit(jax.vmap(one, (0, None)))(np.arange(24), setting)
        for i in range(24):
            tokens, queries = np.asarray(problems.tokens[i]), np.asarray(problems.queries[i])
            best = np.asarray(problems.labels[i][:, None] * (tokens @ problems.head[i])).argmax(axis=1)
            rows = np.stack(
                [
                    np.kron(tokens[n, best[n]] - tokens[n, t], queries[n])
                    for n in range(3)
                    for t in range(3)
                    if t != best[n]
                ]
            )
            gram = rows @ rows.T
            solved = np.linalg.matrix_rank(gram) == 6
            alone = solved and bool(np.all(np.linalg.solve(gram, np.ones(6)) >= 0))
            assert told["all_support"][i] == alone
        shares.append(np.mean(told["all_support"]))
    assert shares[0] < 0.2
    assert shares[1] > 0.8


def test_bad_requests_are_refused_in_one_line():
    with pytest.raises(ValueError, match="tokens must be at least 2, got 1"):
        selection_outcome(inputs=3, tokens=1, max_dim=4)
    with pytest.raises(ValueError, match=r"inputs must be a whole number, got 2\.5"):
        selection_outcome(inputs=2.5, tokens=3, max_dim=4)
    with pytest.raises(ValueError, match="parameterization must be one of weights, key_query"):
        selection_outcome(inputs=3, tokens=2, max_dim=4, parameterization="both")
