"""Attention to a prompt: gradients, steps, max margin problems with relaxed inputs, invariances, and instances."""

from functools import partial

import cvxpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from theory_sim.attention import head_max_margin, local_share, prompt_attention, prompt_max_margin, score_lead
from theory_sim.attention.prompt import Hyper, State
from theory_sim.attention.prompt_direction import compare_joint
from theory_sim.attention.prompt_gradient import (
    PromptProblem,
    log_gradients,
    log_loss,
    prompt_log_attention,
    prompt_scores,
)
from theory_sim.simulation import rollout

SEEDS = st.integers(0, 2**31 - 1)
SMALL = {"inputs": 3, "tokens": 4, "dim": 6}
CLARABEL = {"solver": cvxpy.CLARABEL, "tol_gap_rel": 1e-12, "tol_gap_abs": 1e-12, "tol_feas": 1e-11}
SAMPLED = {name: jax.jit(prompt_attention(**SMALL, instance=name).sample) for name in ("sphere", "planted")}


def draw(seed, instance="sphere"):
    simulation = prompt_attention(**SMALL, instance=instance)
    problem = SAMPLED[instance](jax.random.key(seed), simulation.setting)
    rng = np.random.default_rng(seed)
    return problem, jnp.asarray(rng.normal(size=6)), jnp.asarray(rng.normal(size=6))


def loss_of(loss, outputs):
    return {"logistic": np.logaddexp(0, -outputs), "exponential": np.exp(-outputs)}.get(loss, -outputs)


def plain_loss(problem, prompt, head, loss, sharpness):
    """The loss as the paper writes it, in NumPy, one input at a time."""
    total = 0.0
    for tokens, keys, label in zip(*(np.asarray(part) for part in problem[:3]), strict=True):
        attended = np.exp(keys @ prompt - np.max(keys @ prompt))
        output = label * np.asarray(head) @ (tokens.T @ (attended / attended.sum()))
        total += loss_of(loss, sharpness * output) / sharpness
    return total / len(problem.tokens)


def plain_gradients(problem, prompt, head, loss, sharpness=1.0):
    """The gradients as the chain rule gives them, through the softmax's Jacobian."""
    scores = np.asarray(problem.labels)[:, None] * (np.asarray(problem.tokens) @ head)
    logits = np.asarray(problem.keys) @ prompt
    attended = np.exp(logits - logits.max(axis=1, keepdims=True))
    attended /= attended.sum(axis=1, keepdims=True)
    outputs = sharpness * np.sum(attended * scores, axis=1)
    slopes = {"logistic": 1 / (1 + np.exp(outputs)), "exponential": np.exp(-outputs)}.get(
        loss, np.ones_like(outputs)
    )
    pulls = attended * (scores - np.sum(attended * scores, axis=1, keepdims=True))
    of_prompt = -np.einsum("n,nt,ntk->k", slopes, pulls, problem.keys) / len(slopes)
    of_head = -np.einsum("n,nt,ntd->d", slopes * problem.labels, attended, problem.tokens) / len(slopes)
    return of_prompt, of_head


GRADIENTS = jax.jit(log_gradients, static_argnames="loss")


@given(SEEDS, st.sampled_from(["logistic", "exponential", "correlation"]), st.sampled_from([0.3, 1.0]))
def test_log_gradients_are_the_plain_ones_far_from_saturation_and_the_finite_differences(
    seed, loss, sharpness
):
    problem, prompt, head = draw(seed)
    found = GRADIENTS(problem, prompt, head, loss, sharpness)
    expected = plain_gradients(problem, prompt, head, loss, sharpness)
    value = partial(plain_loss, problem, loss=loss, sharpness=sharpness)
    for i, (gradient, plain) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_allclose(np.exp(gradient.scale) * gradient.direction, plain, rtol=0, atol=1e-12)
        for unit in 1e-5 * np.eye(6)[:3]:
            moved = [
                value(*((prompt + s * unit, head) if i == 0 else (prompt, head + s * unit))) for s in (1, -1)
            ]
            assert (moved[0] - moved[1]) / 2e-5 == pytest.approx(plain @ unit / 1e-5, abs=1e-8)
    if loss != "correlation":
        expected_loss = np.log(value(prompt, head))
        assert float(log_loss(problem, prompt, head, loss, sharpness)) == pytest.approx(expected_loss)


@given(SEEDS, st.sampled_from(["logistic", "exponential"]), st.sampled_from([1.0, 300.0, 2000.0]))
def test_nothing_underflows_however_long_prompt_and_head_are(seed, loss, scale):
    """In numbers with exponents down to 1e-4932, and shifted where those end."""
    problem, prompt, head = draw(seed, "planted")
    prompt, head = scale * prompt, scale * head
    found = GRADIENTS(problem, prompt, head, loss)
    tokens, keys, labels, _ = (np.asarray(part, np.longdouble) for part in problem)
    p, v = (np.asarray(part, np.longdouble) for part in (prompt, head))
    scores, logits = labels[:, None] * (tokens @ v), keys @ p
    logs = logits - logits.max(axis=1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    outputs = np.sum(np.exp(logs) * scores, axis=1)
    slopes = -np.logaddexp(0, outputs) if loss == "logistic" else -outputs
    shift = np.longdouble(found[0].scale)
    of_prompt = np.zeros(6, np.longdouble)
    for i, j in np.ndindex(4, 4):
        # Over pairs of tokens: half of s_i s_j (gamma_i - gamma_j)(k_i - k_j) for each order of the two.
        weight = np.exp(logs[:, i] + logs[:, j] + slopes - shift) * (scores[:, i] - scores[:, j]) / 2
        of_prompt -= weight @ (keys[:, i] - keys[:, j]) / 3
    weight = np.exp(logs + (slopes - np.longdouble(found[1].scale))[:, None])
    of_head = -np.einsum("n,nt,ntd->d", labels, weight, tokens) / 3
    for gradient, expected in zip(found, (of_prompt, of_head), strict=True):
        largest = np.abs(expected).max()
        assert 0.01 < largest < 100
        assert (
            np.abs(np.asarray(gradient.direction, np.longdouble) - expected).max() < 1e-11 * scale * largest
        )


@pytest.mark.parametrize(("rule", "joint"), [("gradient", False), ("normalized", True), ("power", True)])
def test_runs_follow_a_plain_loop(rule, joint):
    simulation = prompt_attention(**SMALL, rule=rule, joint=joint, instance="planted")
    hyper = Hyper(
        step_size=0.3, radius=0.5, power=0.5, decay=0.25, head_ratio=2.0, head_scale=0.7, sharpness=1.5
    )
    together = hyper._replace(together=1)
    problem, *_ = draw(3, "planted")
    for chosen in (hyper, together) if joint else (hyper,):
        run = jax.jit(rollout(simulation._replace(conclude=None), [0, 10]))
        found = run(jax.random.key(1), problem, chosen).state
        start = simulation.init(jax.random.fold_in(jax.random.key(1), 0), problem, chosen)
        assert float(jnp.linalg.norm(start.prompt)) == pytest.approx(0.5)
        prompt, head = np.asarray(start.prompt), np.asarray(start.head)
        np.testing.assert_allclose(head, (0.7 if joint else 1.0) * problem.head)
        for t in range(10):
            gradients = plain_gradients(problem, prompt, head, "logistic", 1.5)
            norms = [np.linalg.norm(gradient) for gradient in gradients]
            if chosen.together:
                norms = [np.hypot(*norms)] * 2
            power = {"gradient": 0.0, "normalized": 1.0, "power": 0.5}[rule]
            size = 0.3 * (t + 1) ** -0.25
            prompt = prompt - size * gradients[0] / norms[0] ** power
            head = head - 2.0 * size * gradients[1] / norms[1] ** power * joint
        np.testing.assert_allclose(found.prompt, prompt, atol=1e-11)
        np.testing.assert_allclose(found.head, head, atol=1e-11)
        assert found.steps == 10


@given(SEEDS)
@settings(max_examples=5)
def test_rotating_tokens_and_keys_rotates_head_and_prompt(seed):
    simulation = prompt_attention(**SMALL, joint=True, instance="planted")
    problem, prompt, head = draw(seed, "planted")
    rng = np.random.default_rng(seed)
    of_keys, of_tokens = (jnp.asarray(np.linalg.qr(rng.normal(size=(6, 6)))[0]) for _ in range(2))
    turned = PromptProblem(problem.tokens @ of_tokens.T, problem.keys @ of_keys.T, problem.labels, head)
    state = State(prompt, head, jnp.zeros(()))
    rotated = State(of_keys @ prompt, of_tokens @ head, jnp.zeros(()))
    step = jax.jit(partial(simulation.step, None))
    for _ in range(20):
        state, rotated = step(problem, Hyper(), state), step(turned, Hyper(), rotated)
    np.testing.assert_allclose(of_keys.T @ rotated.prompt, state.prompt, atol=1e-11)
    np.testing.assert_allclose(of_tokens.T @ rotated.head, state.head, atol=1e-11)


def test_larger_keys_make_a_smaller_prompt():
    simulation = prompt_attention(**SMALL)
    problem, *_ = draw(1)
    run = jax.jit(rollout(simulation, [0, 50, 500]))
    scaled = problem._replace(keys=3 * problem.keys)
    runs = [
        run(jax.random.key(0), one, Hyper(step_size=size)) for one, size in ((problem, 0.3), (scaled, 0.1))
    ]
    np.testing.assert_allclose(3 * runs[1].records["norm"], runs[0].records["norm"], rtol=1e-10)
    np.testing.assert_allclose(
        runs[1].conclusions["direction_error"], runs[0].conclusions["direction_error"], atol=1e-8
    )
    assert 3 * runs[1].conclusions["margin_norm"] == pytest.approx(float(runs[0].conclusions["margin_norm"]))


def differences(keys, places):
    return np.concatenate([np.delete(k[s] - k, s, axis=0) for k, s in zip(keys, places, strict=True)])


def shortest(rows, bounds):
    vector = cvxpy.Variable(rows.shape[1])
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(vector)), [rows @ vector >= bounds])
    return np.sqrt(problem.solve(**CLARABEL)), vector.value


@pytest.mark.parametrize("shape", [(3, 3, 5), (4, 2, 3)])
@given(seed=SEEDS)
@settings(max_examples=12)
def test_relaxed_prompts_agree_with_cvxpy_and_prove_it(shape, seed):
    rng = np.random.default_rng(seed)
    keys, places = rng.normal(size=shape), rng.integers(shape[1], size=shape[0])
    required = rng.choice([0.0, 0.0, 0.4, 1.0, 2.5], size=shape[0])
    required[rng.integers(shape[0])] = 1.0
    found = prompt_max_margin(keys, places, required)
    rows, bounds = differences(keys, places), np.repeat(required, shape[1] - 1)
    value, expected = shortest(rows, bounds)
    assert bool(found.feasible) == np.isfinite(value)
    if not found.feasible:
        assert found.gap < 1e-7
        return
    assert np.linalg.norm(found.prompt) == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(found.prompt, expected, atol=1e-5 * value)
    assert (rows @ found.prompt - bounds).min() > -1e-9 * value
    assert found.dual.min() >= 0
    combined = np.einsum("nt,ntd->d", found.dual, keys[np.arange(shape[0]), places][:, None] - keys)
    assert np.linalg.norm(combined) == pytest.approx(1, abs=1e-9)
    assert found.gap < 1e-8
    assert np.sum(required[:, None] * found.dual) == pytest.approx(value, rel=1e-6)


@given(SEEDS)
@settings(max_examples=15)
def test_heads_agree_with_cvxpy(seed):
    rng = np.random.default_rng(seed)
    points, labels = rng.normal(size=(4, 3)), rng.choice([-1.0, 1.0], size=4)
    found = head_max_margin(points, labels)
    value, expected = shortest(labels[:, None] * points, np.ones(4))
    assert bool(found.feasible) == np.isfinite(value)
    if found.feasible:
        assert np.linalg.norm(found.head) == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(found.head, expected, atol=1e-5 * value)


def test_joint_solutions_are_plain_relaxed_or_in_between():
    problem, *_ = draw(0, "planted")
    simulation = prompt_attention(**SMALL, joint=True, instance="planted")
    state = rollout(simulation._replace(conclude=None), [2000])(
        jax.random.key(0), problem, Hyper(head_ratio=4.0)
    ).state
    found = jax.jit(jax.vmap(partial(compare_joint, problem), (None, None, 0)))(
        state.prompt[None], state.head[None], jnp.array([0.0, 0.3, 1e9])
    )
    found = jax.tree.map(np.asarray, found)
    places = np.argmax(prompt_scores(problem, state.head), axis=1)
    chosen = np.asarray(problem.tokens)[np.arange(3), places]
    head = head_max_margin(chosen, problem.labels)
    margins = np.asarray(problem.labels) * (chosen @ head.head)
    excess = (margins - 1) / np.linalg.norm(head.head)
    support = margins < 1 + 1e-5
    assert 0 < support.sum() < 3
    np.testing.assert_allclose(found["support_share"], support.mean())
    np.testing.assert_allclose(found["head_margin"], 1 / np.linalg.norm(head.head))
    plain, relaxed = (
        prompt_max_margin(problem.keys, places, required) for required in (np.ones(3), support * 1.0)
    )
    lengths = [float(np.linalg.norm(one.prompt)) for one in (plain, relaxed)]
    np.testing.assert_allclose(found["plain_norm"], lengths[0], rtol=1e-7)
    np.testing.assert_allclose(found["relaxed_norm"], lengths[1], rtol=1e-7)
    np.testing.assert_allclose(found["paced_norm"][[0, 2]], lengths, rtol=1e-7)
    # Of the ratio in between, the length gives the margins of which it is the length.
    length = found["paced_norm"][1]
    required = np.where(support, 1.0, np.maximum(1 - 0.3 * length * excess, 0))
    assert np.linalg.norm(prompt_max_margin(problem.keys, places, required).prompt) == pytest.approx(
        length, rel=1e-6
    )
    assert lengths[1] < length < lengths[0]
    assert found["relaxed_error"][2] == found["paced_error"][2]
    assert found["plain_error"][0] == pytest.approx(found["paced_error"][0], abs=1e-5)


def test_small_instances_are_the_published_ones():
    choice = prompt_attention(inputs=1, tokens=3, dim=3, instance="choice")
    problem = choice.sample(jax.random.key(0), choice.setting._replace(third_score=0.9))
    np.testing.assert_allclose(problem.keys[0], [[-0.1, 1], [1, 0], [0, 0]])
    np.testing.assert_allclose(prompt_scores(problem, problem.head)[0], [1, 0.9, 0.9])
    best, second = (
        np.asarray(prompt_max_margin(problem.keys, jnp.array([place])).prompt) for place in (0, 1)
    )
    np.testing.assert_allclose(best, np.array([-0.1, 1]) / 1.01, atol=1e-7)
    np.testing.assert_allclose(second, [1, 0], atol=1e-7)
    pair = prompt_attention(inputs=2, tokens=2, dim=3, instance="pair")
    for seed in range(5):
        problem = pair.sample(jax.random.key(seed), pair.setting._replace(score_scale=7.0))
        np.testing.assert_allclose(prompt_scores(problem, problem.head), [[1, 0], [7, 0]])
        across = np.asarray(problem.keys[:, 0] - problem.keys[:, 1])
        np.testing.assert_allclose(np.linalg.norm(across, axis=1), np.sqrt(2))
        assert 45 <= np.degrees(np.arccos(across[0] @ across[1] / 2)) <= 90


def test_the_share_of_local_starts_is_that_of_the_pulls_between_logits():
    """On a circle so far out that the largest of the other two logits decides where the attended one is left for."""
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    keys, scores = np.array([[-0.1, 1], [1, 0], [0, 0]]), np.array([1, 0.9, 0.0])
    logits = places @ keys.T
    order = np.argsort(-logits, axis=1)
    attended, next_best = order[:, 0], order[:, 1]
    upward = scores[next_best] > scores[attended]
    ends = np.where(upward & (attended != 0), next_best, attended)
    assert np.mean(ends == 1) == pytest.approx(local_share(), abs=1e-4)
    assert np.mean(ends == 2) == 0
    assert score_lead(100.0, 0.0) == pytest.approx(np.log(100))
    assert max(score_lead(np.geomspace(1, 100, 1000), 1.0)) == pytest.approx(0.035, abs=1e-3)


def test_attention_is_a_softmax_over_keys():
    problem, prompt, _ = draw(0)
    attended = np.exp(prompt_log_attention(problem, prompt))
    np.testing.assert_allclose(attended.sum(axis=1), 1)
    np.testing.assert_allclose(
        attended[0] / attended[0, 0], np.exp((problem.keys[0] - problem.keys[0, 0]) @ prompt)
    )


KEYS, SELECTED = np.ones((2, 3, 4)), np.array([0, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prompt_attention(inputs=0, tokens=2, dim=3), "inputs must be at least 1, got 0"),
        (lambda: prompt_attention(inputs=2.5, tokens=2, dim=3), "inputs must be a whole number, got 2.5"),
        (lambda: prompt_attention(inputs=1, tokens=1, dim=3), "tokens must be at least 2, got 1"),
        (lambda: prompt_attention(inputs=1, tokens=2, dim=0), "dim must be at least 1, got 0"),
        (
            lambda: prompt_attention(**SMALL, rule="adam"),
            "rule must be one of gradient, normalized, power, got",
        ),
        (lambda: prompt_attention(**SMALL, loss="hinge"), "loss must be one of logistic, exponential, corr"),
        (lambda: prompt_attention(**SMALL, loss="correlation", joint=True), "joint training needs loss="),
        (
            lambda: prompt_attention(**SMALL, instance="ring"),
            "instance must be one of sphere, planted, choice",
        ),
        (
            lambda: prompt_attention(**SMALL, instance="pair"),
            r"pair has inputs, tokens and dim \(2, 2, 3\), got",
        ),
        (lambda: prompt_max_margin(KEYS, SELECTED, np.ones(3)), "required must be 2 margins, one a sequence"),
        (
            lambda: prompt_max_margin(KEYS, SELECTED, np.zeros(2)),
            "required must be margins of at least 0, one",
        ),
        (
            lambda: prompt_max_margin(KEYS, SELECTED, np.array([1.0, -1])),
            "required must be margins of at least 0",
        ),
        (
            lambda: prompt_max_margin(KEYS, SELECTED, np.array([1.0, np.nan])),
            "required must be finite, got nan",
        ),
        (lambda: prompt_max_margin(KEYS[:, :1], SELECTED), "keys must have shape"),
        (lambda: prompt_max_margin(KEYS, [0, 3]), "selected must lie between 0 and 2, got 3"),
        (lambda: head_max_margin(KEYS[0], SELECTED), r"points must be \[samples, dim\] with a label each"),
        (lambda: head_max_margin(KEYS[0, :2], SELECTED), r"labels must be \+1 or -1, got \[0.0, 2.0\]"),
        (lambda: head_max_margin(KEYS[0] * np.nan, np.ones(3)), "points must be finite, got nan"),
    ],
)
def test_bad_requests_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
