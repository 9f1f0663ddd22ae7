"""The task-vector form: gradient, a plain loop, rotation, order of tokens, width, residuals, pruning, predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.attention import (
    Setting,
    attention_residual,
    dead_fraction,
    draw_data,
    heads,
    hinge,
    neurons,
    residual_bound,
    task_vector_transformer,
    value_residual,
)
from theory_sim.simulation import rollout

SMALL = {"dim": 6, "tokens": 5, "max_width": 8, "samples": 12, "test_samples": 10, "batch": 4}
SIMULATION = task_vector_transformer(**SMALL)
HYPER = SIMULATION.hyper._replace(value_scale=0.5, attention_noise=0.2)
KEY = jax.random.key(5)
RUN, MOVE = jax.jit(rollout(SIMULATION, [0, 15])), jax.jit(SIMULATION.step)


@pytest.fixture(scope="module")
def problem():
    return jax.jit(SIMULATION.sample)(jax.random.key(0), SIMULATION.setting)


@pytest.fixture(scope="module")
def state(problem):
    return jax.jit(SIMULATION.init)(jax.random.key(1), problem, HYPER)


def places(key):
    """Return the samples that a step of this key draws."""
    return (np.asarray(jax.random.uniform(key, (4,), jnp.float32)) * 12).astype(int)


def close(first, second, atol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), first, second)


def test_the_second_pattern_is_minus_the_first_and_tokens_are_patterns():
    setting = Setting(patterns=5, token_noise=0.0)
    draw = jax.jit(lambda key: draw_data(key, setting, dim=6, samples=20, tokens=5, opposite=True))
    mu, data = draw(jax.random.key(0))
    np.testing.assert_array_equal(mu[1], -mu[0])
    np.testing.assert_allclose(mu[2:] @ mu[0], 0, atol=1e-12)
    sign = 1 - 2 * np.asarray(data.labels)[:, None]
    along = np.asarray(data.tokens @ mu[0])
    expected = np.where(data.relevant, sign, np.where(data.irrelevant, 0, -sign))
    np.testing.assert_allclose(along, expected, atol=1e-12)


def test_a_step_is_the_gradient_of_the_batch_by_finite_differences(problem, state):
    tokens, labels = (x[places(KEY)] for x in (problem.train.tokens, problem.train.given))
    hyper = HYPER._replace(width=7, score_scale=1.5)
    after = MOVE(KEY, problem, hyper, state)

    @jax.jit
    def loss(trained):
        outputs = neurons(trained.weights(), tokens, 5, 1.5) @ heads(2, 7, most=2, width=8).T
        return hinge(outputs, labels).mean()

    rng = np.random.default_rng(0)
    for name, before, now in zip(state.trained._fields, state.trained, after.trained, strict=True):
        direction = rng.normal(size=before.shape)
        ends = [loss(state.trained._replace(**{name: before + s * 1e-6 * direction})) for s in (1, -1)]
        slope = float(ends[0] - ends[1]) / 2e-6
        assert slope != 0
        moved = float(jnp.sum((before - now) / hyper.step_size * direction))
        assert moved == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_a_run_is_that_of_a_plain_loop(problem):
    result = RUN(KEY, problem, HYPER)
    start = result.state.start
    w, v = np.array(start.attention), np.array(start.value)
    a = np.where(np.arange(8) % 2 == 0, 1, -1) / np.sqrt(8)

    def output(tokens):
        """Return f and its derivatives, one query at a time."""
        f, by_w, by_v = 0.0, np.zeros_like(w), np.zeros_like(v)
        for asking in tokens:
            scores = np.array([x @ w @ asking for x in tokens])
            s = np.exp(scores) / np.exp(scores).sum()
            z = sum(p * x for p, x in zip(s, tokens, strict=True))
            active = v @ z > 0
            f += a @ np.maximum(v @ z, 0) / len(tokens)
            by_v += np.outer(a * active, z) / len(tokens)
            rewarded = tokens @ ((a * active) @ v)
            by_w += np.outer(tokens.T @ (s * (rewarded - s @ rewarded)), asking) / len(tokens)
        return f, by_w, by_v

    sequences, given = np.asarray(problem.train.tokens), np.asarray(problem.train.given)
    for step in range(15):
        step_key = jax.random.fold_in(jax.random.fold_in(KEY, 1), step)
        by_w, by_v = np.zeros_like(w), np.zeros_like(v)
        for place in places(step_key):
            y = 1 - 2 * given[place]
            f, of_w, of_v = output(sequences[place])
            if 1 - y * f > 0:
                by_w, by_v = by_w - y * of_w / 4, by_v - y * of_v / 4
        w, v = w - HYPER.step_size * by_w, v - HYPER.step_size * by_v
    close(result.state.trained, type(start)(w, v), atol=1e-10)
    outputs = [output(x)[0] for x in np.asarray(problem.test.tokens)]
    signs = 1 - 2 * np.asarray(problem.test.labels)
    expected = np.maximum(0, 1 - signs * outputs).mean()
    assert float(result.records["test_loss"][-1]) == pytest.approx(expected, abs=1e-10)


def test_rotated_patterns_and_weights_give_the_rotated_run(problem, state):
    rotation = jnp.linalg.qr(jax.random.normal(jax.random.key(9), (6, 6)))[0]

    def turned(trained):
        return type(trained)(rotation @ trained.attention @ rotation.T, trained.value @ rotation.T)

    train, test = (x._replace(tokens=x.tokens @ rotation.T) for x in (problem.train, problem.test))
    rotated = problem._replace(train=train, test=test, patterns=problem.patterns @ rotation.T)
    other = state._replace(trained=turned(state.trained), start=turned(state.start))
    for step in range(3):
        key = jax.random.fold_in(KEY, step)
        state, other = MOVE(key, problem, HYPER, state), MOVE(key, rotated, HYPER, other)
    close(turned(state.trained), other.trained)
    observe = jax.jit(SIMULATION.observe)
    close(observe(problem, HYPER, state), observe(rotated, HYPER, other), atol=1e-6)


def test_the_order_of_tokens_changes_no_run(problem):
    order = jnp.array([3, 0, 4, 2, 1])
    data = [
        x._replace(tokens=x.tokens[:, order], relevant=x.relevant[:, order])
        for x in (problem.train, problem.test)
    ]
    shuffled = problem._replace(train=data[0], test=data[1])
    close(RUN(KEY, problem, HYPER), RUN(KEY, shuffled, HYPER), atol=1e-6)


def test_a_masked_width_is_the_smaller_network(problem):
    hyper = HYPER._replace(width=5)
    smaller = task_vector_transformer(**{**SMALL, "max_width": 5})
    wide, narrow = RUN(KEY, problem, hyper), jax.jit(rollout(smaller, [0, 15]))(KEY, problem, hyper)
    np.testing.assert_array_equal(wide.state.trained.value[5:], 0)
    close(wide.state.trained._replace(value=wide.state.trained.value[:5]), narrow.state.trained)
    for name, value in {**narrow.records, **narrow.conclusions}.items():
        np.testing.assert_allclose({**wide.records, **wide.conclusions}[name], value, atol=1e-6, err_msg=name)


def test_uniform_attention_does_not_train_attention(problem):
    run = RUN(KEY, problem, HYPER._replace(score_scale=0.0))
    np.testing.assert_array_equal(run.state.trained.attention, run.state.start.attention)
    share = np.asarray(problem.test.relevant).mean()
    np.testing.assert_allclose(run.records["attention_mass"], share, rtol=1e-12)


def test_residuals_and_angles_are_those_of_numpys_decomposition(problem):
    run = RUN(KEY, problem, HYPER)
    moved = [now - start for now, start in zip(run.state.trained, run.state.start, strict=True)]
    mu, angles = np.asarray(problem.patterns[0]), []
    for i, update in enumerate(moved):
        left, values, right = np.linalg.svd(update)
        assert float(run.records["residual"][-1, i]) == pytest.approx(np.linalg.norm(values[1:]))
        share = np.linalg.norm(values[1:]) / np.linalg.norm(values)
        assert float(run.records["relative_residual"][-1, i]) == pytest.approx(share)
        np.testing.assert_allclose(run.records["singular_values"][-1, i], values, atol=1e-7)
        angles += [left[:, 0], right[0]] if i == 0 else [right[0]]
    expected = [np.degrees(np.arccos(abs(vector @ mu))) for vector in angles]
    np.testing.assert_allclose(run.records["angle"][-1], expected, atol=1e-6)


def test_pruning_sets_rows_of_the_update_to_zero(problem):
    run = RUN(KEY, problem, HYPER)
    trained, start = run.state.trained, run.state.start
    norms = np.linalg.norm(trained.value - start.value, axis=1)
    order, head = np.argsort(norms), heads(2, 8, most=2, width=8)

    def loss(removed):
        value = jnp.asarray(trained.value).at[order[:removed]].set(start.value[order[:removed]])
        outputs = neurons(trained._replace(value=value).weights(), problem.test.tokens, 5) @ head.T
        return float(hinge(outputs, problem.test.labels).mean())

    for fraction, found in zip(np.linspace(0, 1, 21), run.conclusions["pruned_loss"][0], strict=True):
        assert float(found) == pytest.approx(loss(round(fraction * 8)), abs=1e-12)
    small = round(float(run.conclusions["small_fraction"]) * 8)
    assert float(run.conclusions["group_pruned_loss"][0]) == pytest.approx(loss(small), abs=1e-12)
    expected = [np.sqrt(np.mean(norms[part] ** 2)) for part in (order[:small], order[small:])]
    np.testing.assert_allclose(run.conclusions["group_norm"], expected)


@pytest.mark.parametrize("patterns", [4, 16])
def test_predicted_residuals_are_those_of_the_expected_gradients(patterns):
    setting = Setting(patterns=patterns, token_noise=0.0)
    draw = jax.jit(lambda key: draw_data(key, setting, dim=16, samples=4000, tokens=10, opposite=True)[1])
    data = draw(jax.random.key(0))
    signs, tokens = 1 - 2 * np.asarray(data.labels), np.asarray(data.tokens)
    mean = tokens.mean(axis=1)
    by_label = np.stack([mean[signs == y].mean(axis=0) for y in (1, -1)])
    share = np.linalg.svd(by_label, compute_uv=False)
    assert value_residual(patterns, 0.4, 0.1) == pytest.approx(share[1] / np.hypot(*share), rel=0.03)
    rewarded = signs[:, None] * by_label[(1 - signs) // 2]
    answer = np.einsum("nld,nd->nl", tokens, rewarded)
    spread = np.einsum("nl,nld->nd", answer - answer.mean(axis=1, keepdims=True), tokens) / 10
    gradient = np.einsum("n,nd,ne->de", signs, spread, mean)
    values = np.linalg.svd(gradient, compute_uv=False)
    found = np.linalg.norm(values[1:]) / np.linalg.norm(values)
    assert attention_residual(patterns, 0.4, 0.1, 10) == pytest.approx(found, rel=0.1)


def test_predicted_residual_of_attention_falls_like_the_root_of_the_number_of_patterns():
    few, many = attention_residual([1e4, 4e4], 0.4, 0.1, 10)
    assert many / few == pytest.approx(0.5, rel=0.01)


def test_the_bound_on_the_residual_is_the_corollarys():
    np.testing.assert_allclose(
        residual_bound([6, 102], [0.25, 0.01]), [1 + 1 / np.log(4), 1 + 1 / np.log(100)]
    )


@pytest.mark.parametrize(("patterns", "relevant"), [(102, 0.4), (12, 0.4), (4, 0.3)])
def test_predicted_share_of_dead_rows_is_that_of_a_flow_in_the_plane(patterns, relevant):
    gap, common = relevant - 0.1, (0.9 - relevant) / np.sqrt(patterns - 2)
    means = np.array([[gap, common], [-gap, common]])
    rows = np.random.default_rng(0).normal(size=(10000, 2))
    for _ in range(1000):
        active = rows @ means.T > 0
        rows += 0.02 * active @ (means * [[1], [-1]])
    dead = np.mean(~(rows @ means.T > 0).any(axis=1))
    assert dead_fraction(patterns, relevant, 0.1) == pytest.approx(dead, abs=0.015)


def test_metrics_have_their_declared_dimensions_and_limits_name_every_axis(problem):
    result = jax.eval_shape(rollout(SIMULATION, [0, 1]), KEY, problem, SIMULATION.hyper)
    metrics = {**result.records, **result.conclusions}
    assert set(metrics) == set(SIMULATION.variables)
    for name, variable in SIMULATION.variables.items():
        own = [len(values) for values in variable.dims.values()]
        assert list(metrics[name].shape) == ([2] if name in result.records else []) + own, name
    defaults = {**SIMULATION.setting._asdict(), **SIMULATION.hyper._asdict()}
    assert set(SIMULATION.limits) == set(defaults)
    for name, value in defaults.items():
        assert SIMULATION.limits[name][0] <= value <= SIMULATION.limits[name][1], name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 2}, "dim must be at least 3, got 2"),
        ({"max_width": 0}, "max_width must be at least 2, got 0"),
        ({"tokens": 0}, "tokens must be at least 1, got 0"),
        ({"batch": 13}, "batch must be at most samples = 12, got 13"),
    ],
)
def test_wrong_sizes_raise_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        task_vector_transformer(**{**SMALL, **changes})
