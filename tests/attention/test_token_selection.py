"""Token selection: the gradient in the log domain, the steps of every rule, invariances, and what is concluded."""

from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from theory_sim.attention import token_selection
from theory_sim.attention.directions import distance
from theory_sim.attention.selection_direction import compare
from theory_sim.attention.selection_gradient import (
    LOSSES,
    Problem,
    log_excess_loss,
    log_gradient,
    log_unselected,
    plain_gradient,
    token_scores,
)
from theory_sim.attention.token_selection import Direct, Hyper, KeyQuery
from theory_sim.simulation import rollout, trajectory

SEEDS = st.integers(0, 2**31 - 1)
SMALL = {"inputs": 3, "tokens": 4, "dim": 6}
RULES = ("gradient", "normalized", "published", "polyak")
CHOICES = [
    (rule, parameterization, loss)
    for rule in RULES
    for parameterization in ("weights", "key_query")
    for loss in (LOSSES if rule == "polyak" else LOSSES[:1])
]


def draw(seed, **changes):
    simulation = token_selection(**SMALL)
    return simulation.sample(jax.random.key(seed), simulation.setting._replace(**changes))


def loss_of(loss, outputs):
    return {"logistic": jnp.log1p(jnp.exp(-outputs)), "exponential": jnp.exp(-outputs)}.get(loss, -outputs)


def plain_loss(weights, problem, loss):
    """The loss as the paper writes it, one sequence at a time."""
    total = 0.0
    for tokens, query, label in zip(*problem[:3], strict=True):
        total += loss_of(loss, label * problem.head @ (tokens.T @ jax.nn.softmax(tokens @ weights @ query)))
    return total / len(problem.tokens)


def infimum(problem, loss):
    return loss_of(loss, jnp.max(problem.labels[:, None] * (problem.tokens @ problem.head), axis=1)).mean()


def wide_reference(problem, weights, loss):
    """Gradient and excess loss in numbers with exponents down to 1e-4932, by the sum over pairs of tokens."""
    tokens, queries, labels, head, weights = (np.asarray(x, np.longdouble) for x in (*problem, weights))
    gradient, excess = np.zeros_like(weights), np.longdouble(0)
    for x, z, y in zip(tokens, queries, labels, strict=True):
        logits, scores = x @ (weights @ z), y * (x @ head)
        attended = np.exp(logits - logits.max())
        attended /= attended.sum()
        pulls = [np.sum(attended[t] * attended * (scores[t] - scores)) for t in range(len(x))]
        output, short = attended @ scores, attended @ (scores.max() - scores)
        slope = {"logistic": 1 / (1 + np.exp(output)), "exponential": np.exp(-output)}.get(loss, 1.0)
        gradient -= slope * np.outer(x.T @ np.array(pulls), z) / len(tokens)
        excess += {
            "logistic": np.log1p(np.expm1(short) / (1 + np.exp(scores.max()))),
            "exponential": np.exp(-scores.max()) * np.expm1(short),
        }.get(loss, short) / len(tokens)
    return gradient, excess


@given(SEEDS, st.sampled_from(LOSSES), st.floats(0.0, 5.0))
def test_log_gradient_is_the_gradient_far_from_saturation(seed, loss, scale):
    problem = draw(seed)
    weights = scale * jax.random.normal(jax.random.key(seed + 1), (6, 6))
    log_scale, gradient = log_gradient(problem, weights, loss)
    expected = jax.grad(plain_loss)(weights, problem, loss)
    np.testing.assert_allclose(jnp.exp(log_scale) * gradient, expected, atol=1e-12, rtol=0)
    np.testing.assert_allclose(plain_gradient(problem, weights, loss), expected, atol=1e-12, rtol=0)


@given(SEEDS, st.sampled_from(LOSSES), st.sampled_from([1.0, 30.0, 300.0, 1000.0]))
def test_nothing_underflows_or_cancels_at_any_saturation(seed, loss, scale):
    problem = draw(seed)
    weights = scale * jax.random.normal(jax.random.key(seed + 1), (6, 6))
    log_scale, gradient = log_gradient(problem, weights, loss)
    expected, excess = wide_reference(problem, weights, loss)
    rounding = 1e-12 * max(
        scale, 1.0
    )  # logits are of the size of the weights, and so are their rounding errors
    factor = np.exp(np.longdouble(log_scale))
    largest = np.abs(expected).max()
    assert np.abs(factor * np.asarray(gradient, np.longdouble) - expected).max() < rounding * largest
    np.testing.assert_allclose(
        log_excess_loss(problem, weights, loss), float(np.log(excess)), rtol=0, atol=rounding
    )


def test_equal_scores_pull_to_the_optimal_token_however_little_it_is_attended():
    """Two tokens tie up to rounding, and the optimal one has attention e^-90: rounding of scores must not decide."""
    tokens = jnp.array([[[1.0, 0.0, 0.0], [0.1 + 0.2, 1.0, 0.0], [0.3, 0.0, 1.0]]])
    problem = Problem(tokens, jnp.array([[1.0, 0.0, 0.0]]), jnp.ones(1), jnp.array([1.0, 0.0, 0.0]))
    assert token_scores(problem)[0, 1] != token_scores(problem)[0, 2]
    weights = jnp.zeros((3, 3)).at[:, 0].set(jnp.array([-90.0, 30.0, 29.0]))
    scale, gradient = log_gradient(problem, weights, "correlation")
    logits = np.asarray(tokens[0] @ weights[:, 0])
    shares = np.exp(logits - logits.max()) / np.sum(np.exp(logits - logits.max()))
    expected = -shares * (np.array([0.7, 0.0, 0.0]) - 0.7 * shares[0])
    found = np.asarray(jnp.exp(scale) * gradient[:, 0])
    np.testing.assert_allclose(found, np.asarray(tokens[0]).T @ expected, rtol=1e-9)


def test_the_direction_survives_where_the_plain_gradient_underflows():
    problem = draw(0, score_spread=0.0)
    simulation = token_selection(**SMALL)._replace(conclude=None)
    weights = rollout(simulation, [5_000])(jax.random.key(1), problem, Hyper(step_size=1.0)).state.weights
    _, gradient = log_gradient(problem, weights, "logistic")
    assert not np.any(plain_gradient(problem, weights, "logistic"))
    assert log_unselected(problem, weights) < np.log(np.finfo(float).tiny)
    assert distance(-gradient[None], weights)[0] < 0.01


@pytest.mark.parametrize(("rule", "parameterization", "loss"), CHOICES)
def test_runs_follow_a_plain_loop(rule, parameterization, loss):
    simulation = token_selection(**SMALL, rule=rule, parameterization=parameterization, loss=loss)
    problem = draw(3, score_spread=0.3)
    hyper = Hyper(step_size=0.2, init_scale=0.3)
    start = simulation.init(jax.random.fold_in(jax.random.key(5), 0), problem, hyper)
    value = jax.jit(jax.value_and_grad(lambda w: plain_loss(w, problem, loss)))
    least, now = float(infimum(problem, loss)), [np.asarray(part) for part in start]
    for _ in range(15):
        weights = now[0] if len(now) == 1 else now[0] @ now[1].T
        current, gradient = value(weights)
        slopes = [gradient] if len(now) == 1 else [gradient @ now[1], gradient.T @ now[0]]
        if rule == "published" and len(now) == 2:
            # The rule's own regularisation: without it the first slope of the key, of a query of zero, is zero.
            slopes = [slope + 2 * 2.22e-16 * part for slope, part in zip(slopes, now, strict=True)]
        added = 2.22e-16 if rule == "published" else 0.0
        norms = [np.linalg.norm(slope) + added for slope in slopes]
        lengths = {
            "gradient": [0.2] * len(now),
            "polyak": [0.2 * (current - least) / sum(norm**2 for norm in norms)] * len(now),
        }.get(rule, [0.2 / norm if norm > 0 else 0.0 for norm in norms])
        now = [
            np.asarray(part - length * slope)
            for part, length, slope in zip(now, lengths, slopes, strict=True)
        ]
    result = rollout(simulation._replace(conclude=None), [0, 7, 15])(jax.random.key(5), problem, hyper)
    for part, expected in zip(result.state, now, strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-10)
    weights = now[0] if len(now) == 1 else now[0] @ now[1].T
    np.testing.assert_allclose(result.records["norm"][-1], np.linalg.norm(weights), atol=1e-10)
    excess = plain_loss(weights, problem, loss) - least
    np.testing.assert_allclose(np.exp(result.records["log_excess_loss"][-1]), excess, atol=1e-12)


@pytest.mark.parametrize(("power", "rule"), [(0.0, "gradient"), (1.0, "normalized"), (2.0, "polyak")])
@pytest.mark.parametrize("longest_step", [0.01, 10.0])
def test_powers_give_the_steps_of_the_rules(power, rule, longest_step):
    hyper = Hyper(step_size=0.2, longest_step=longest_step, power=power)
    start, problem = Direct(jax.random.normal(jax.random.key(1), (6, 6))), draw(2)
    found, expected = (
        token_selection(**SMALL, rule=name).step(None, problem, hyper, start).weights
        for name in ("power", rule)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.any(found != start.weights)


def test_polyak_steps_are_bounded_where_a_wrong_token_is_selected():
    simulation, problem = token_selection(**SMALL, rule="polyak"), draw(0)
    worst = jnp.argmin(token_scores(problem), axis=1)
    wrong = problem.tokens[jnp.arange(3), worst] - problem.tokens.mean(axis=1)
    weights = Direct(1e4 * wrong.T @ problem.queries)
    assert log_unselected(problem, weights.weights) < -50
    for longest in (0.5, 2.0):
        after = simulation.step(None, problem, Hyper(step_size=1.0, longest_step=longest), weights)
        assert float(jnp.linalg.norm(after.weights - weights.weights)) == pytest.approx(longest)


@given(SEEDS, st.sampled_from(["weights", "key_query"]), st.sampled_from(RULES))
@settings(max_examples=8)
def test_rotating_the_problem_rotates_the_run(seed, parameterization, rule):
    simulation = token_selection(**SMALL, parameterization=parameterization, rule=rule)
    problem, hyper = draw(seed), Hyper(step_size=0.3, init_scale=0.5)
    rotation = jnp.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))[0])
    turned = Problem(
        problem.tokens @ rotation.T, problem.queries @ rotation.T, problem.labels, rotation @ problem.head
    )
    state = simulation.init(jax.random.key(seed), problem, hyper)
    if parameterization == "weights":
        rotated = Direct(rotation @ state.weights @ rotation.T)
    else:
        rotated = KeyQuery(rotation @ state.key, rotation @ state.query)
    for _ in range(20):
        state = simulation.step(None, problem, hyper, state)
        rotated = simulation.step(None, turned, hyper, rotated)
    if parameterization == "weights":
        back = Direct(rotation.T @ rotated.weights @ rotation)
    else:
        back = KeyQuery(rotation.T @ rotated.key, rotation.T @ rotated.query)
    for found, expected in zip(back, state, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-11)


def test_larger_tokens_and_queries_make_smaller_weights():
    """Logits are products of tokens, weights and queries; the correlation loss only changes its unit."""
    simulation, problem = token_selection(**SMALL, loss="correlation"), draw(1)
    scaled = problem._replace(tokens=3 * problem.tokens, queries=0.5 * problem.queries)
    run = jax.jit(rollout(simulation, [0, 50, 500]))
    runs = [
        run(jax.random.key(0), instance, Hyper(step_size=size))
        for instance, size in ((problem, 0.3), (scaled, 0.2))
    ]
    np.testing.assert_allclose(runs[1].records["norm"] * 1.5, runs[0].records["norm"], rtol=1e-10)
    for name in ("direction_error", "global", "support_share"):
        np.testing.assert_allclose(runs[1].conclusions[name], runs[0].conclusions[name], atol=1e-8)


def test_batches_of_runs_and_of_problems_equal_lone_runs():
    simulation = token_selection(**SMALL)
    run = trajectory(simulation, [0, 30, 200])
    problems = jax.vmap(lambda key: simulation.sample(key, simulation.setting))(
        jax.random.split(jax.random.key(0), 2)
    )
    keys = jax.random.split(jax.random.key(1), 3)
    hypers = Hyper(
        jnp.array([0.1, 0.2, 0.3]), jnp.array([0.0, 0.5, 1.0]), jnp.full(3, 9.0), jnp.ones(3), jnp.full(3, 6)
    )
    batched = jax.jit(jax.vmap(jax.vmap(run, (0, None, 0)), (None, 0, None)))(keys, problems, hypers)
    lone = jax.jit(run)
    for p in range(2):
        for r in range(3):
            problem = jax.tree.map(lambda x, p=p: x[p], problems)
            alone = lone(keys[r], problem, jax.tree.map(lambda x, r=r: x[r], hypers))
            for name, value in alone.items():
                # The solver's answer is certified to a gap of 1e-8, whatever path it took.
                atol = 1e-6 if name == "residual_limit" else 1e-8
                np.testing.assert_allclose(batched[name][p, r], value, atol=atol, err_msg=name)


@given(SEEDS, st.floats(0.0, 1.0))
def test_score_spread_moves_only_the_scores_of_other_tokens(seed, spread):
    drawn, moved = draw(seed), draw(seed, score_spread=spread)
    np.testing.assert_allclose(jnp.linalg.norm(drawn.tokens, axis=2), 1, atol=1e-12)
    before, after = np.asarray(token_scores(drawn)), np.asarray(token_scores(moved))
    best = before.argmax(axis=1)
    np.testing.assert_array_equal(after.argmax(axis=1), best)
    others = np.arange(4) != best[:, None]
    old, new = (scores[others].reshape(3, 3) for scores in (before, after))
    old_mean, new_mean = old.mean(axis=1, keepdims=True), new.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(new - new_mean, spread * (old - old_mean), atol=1e-12)
    np.testing.assert_allclose(new_mean, old_mean, atol=1e-12)
    across = np.eye(6) - np.outer(drawn.head, drawn.head)
    np.testing.assert_allclose(moved.tokens @ across, drawn.tokens @ across, atol=1e-12)


def test_queries_are_the_first_tokens_in_self_attention_and_independent_otherwise():
    own = token_selection(**SMALL, self_attention=True)
    problem = own.sample(jax.random.key(0), own.setting._replace(score_spread=0.0))
    np.testing.assert_array_equal(problem.queries, problem.tokens[:, 0])
    crossed = draw(0)
    np.testing.assert_allclose(jnp.linalg.norm(crossed.queries, axis=1), 1, atol=1e-12)
    assert np.linalg.norm(crossed.queries - crossed.tokens[:, 0]) > 0.1


def test_a_selection_is_local_when_it_beats_its_support_tokens():
    line = jnp.array([[[1.0, 0.0], [0.0, 0.0], [-5.0, 0.0]]])
    query, label, weights = jnp.array([[0.0, 2.0]]), jnp.ones(1), jnp.ones((1, 2, 2))
    compared = jax.jit(partial(compare, loss="correlation"))

    def found(scores, selected):
        # The second coordinate carries the scores; it is too small to change the margins.
        tokens = line + 1e-9 * jnp.array(scores)[None, :, None] * jnp.array([0.0, 1.0])
        problem = Problem(tokens, query, label, jnp.array([0.0, 1e9]))
        result = compared(problem, weights, jnp.array([selected]))
        return [int(result[name]) for name in ("global", "local", "feasible")]

    assert found([2.0, 1.0, 0.0], 0) == [1, 1, 1]
    assert found([1.0, 0.0, 2.0], 0) == [0, 1, 1]
    assert found([1.0, 2.0, 0.0], 0) == [0, 0, 1]


def test_direction_error_is_the_distance_from_the_closed_form_solution():
    problem = Problem(jnp.eye(2)[None], jnp.array([[0.0, 2.0]]), jnp.ones(1), jnp.array([1.0, 0.0]))
    weights = jnp.array([[[0.0, 3.0], [0.0, -3.0]], [[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    found = compare(problem, weights, jnp.array([0]), loss="correlation", nuclear=True)
    np.testing.assert_allclose(found["direction_error"], [0, np.sqrt(2), 1], atol=1e-7)
    np.testing.assert_allclose(found["nuclear_error"], [0, np.sqrt(2), 1], atol=1e-6)
    assert float(found["margin_norm"]) == pytest.approx(np.sqrt(2) / 4)
    assert float(found["support_share"]) == 1
    np.testing.assert_allclose(found["residual"], 0, atol=1e-7)


def test_tokens_that_cannot_be_separated_are_told():
    problem = Problem(jnp.ones((1, 3, 2)), jnp.ones((1, 2)), jnp.ones(1), jnp.ones(2))
    found = compare(problem, jnp.ones((2, 2, 2)), jnp.array([0]), loss="logistic")
    assert float(found["feasible"]) == float(found["margin_norm"]) == float(found["support_share"]) == 0
    np.testing.assert_allclose(found["direction_error"], 1)
    assert all(np.isfinite(value).all() for value in found.values())


def test_masked_columns_are_a_narrower_key_and_query():
    wide, narrow = (token_selection(**SMALL, parameterization="key_query", key_dim=size) for size in (4, 2))
    problem = draw(0)
    run = [
        rollout(simulation._replace(conclude=None), [60])(
            jax.random.key(1), problem, simulation.hyper._replace(columns=2)
        )
        for simulation in (wide, narrow)
    ]
    for found, expected in zip(*(result.state for result in run), strict=True):
        assert np.all(found[:, 2:] == 0)
        np.testing.assert_allclose(found[:, :2], expected, atol=1e-12)


def test_a_query_of_zero_starts_a_key_and_query_with_its_own_step():
    simulation = token_selection(**SMALL, parameterization="key_query", key_dim=2)
    problem = draw(0)
    start = simulation.init(jax.random.key(0), problem, simulation.hyper)
    after = simulation.step(None, problem, simulation.hyper, start)
    assert start.key.shape == (6, 2)
    assert not np.any(start.query)
    np.testing.assert_array_equal(after.key, start.key)
    assert float(jnp.linalg.norm(after.query)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": 0}, "inputs must be at least 1, got 0"),
        ({"inputs": 2.5}, "inputs must be a whole number, got 2.5"),
        ({"tokens": "2"}, "tokens must be a whole number, got '2'"),
        ({"tokens": 1}, "tokens must be at least 2, got 1"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"rule": "adam"}, "rule must be one of gradient, normalized, published, polyak, power, got 'adam'"),
        ({"loss": "hinge"}, "loss must be one of logistic, exponential, correlation, got 'hinge'"),
        ({"parameterization": "kq"}, "parameterization must be one of weights, key_query, got 'kq'"),
        ({"key_dim": 2}, "key_dim needs parameterization='key_query', got key_dim=2 without it"),
        ({"key_dim": 0, "parameterization": "key_query"}, "key_dim must be at least 1, got 0"),
        ({"key_dim": 2.0, "parameterization": "key_query"}, "key_dim must be a whole number, got 2.0"),
    ],
)
def test_bad_requests_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        token_selection(**(SMALL | changes))
    assert "\n" not in str(raised.value)
