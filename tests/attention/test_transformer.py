"""The simulation: gradient, rotation, masking, batching, precision, platforms, shapes, wrong requests."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from theory_sim import RequestError, Sweep, run
from theory_sim.attention import Weights, draw_sequences, heads, hinge, neurons, pattern_transformer, wrong
from theory_sim.simulation import rollout, trajectory

SMALL = {"dim": 6, "tokens": 5, "max_width": 8, "samples": 12, "test_samples": 10, "batch": 4, "queries": 3}
SIMULATION = pattern_transformer(**SMALL)
LARGER_START = SIMULATION.hyper._replace(output_scale=0.5)
KEY = jax.random.key(5)
RUN = jax.jit(rollout(SIMULATION, [0, 15]))


@pytest.fixture(scope="module")
def problem():
    return jax.jit(SIMULATION.sample)(jax.random.key(0), SIMULATION.setting)


@pytest.fixture(scope="module")
def state(problem):
    return jax.jit(SIMULATION.init)(jax.random.key(1), problem, LARGER_START)


def test_a_step_is_the_gradient_of_the_batch_by_finite_differences(problem, state):
    place = np.asarray(jax.random.uniform(KEY, (4,), jnp.float32)) * 12
    tokens, labels = (x[place.astype(int)] for x in (problem.train.tokens, problem.train.given))
    check_step(SIMULATION, problem, LARGER_START, state, tokens, labels)


def test_a_step_of_many_classes_and_fewer_neurons_is_the_gradient_of_a_fresh_batch():
    simulation = pattern_transformer(**SMALL, max_classes=4, fresh_batches=True)
    hyper = simulation.hyper._replace(output_scale=0.5, width=7, score_scale=1.5)
    problem = jax.jit(simulation.sample)(jax.random.key(0), simulation.setting._replace(classes=3))
    state = jax.jit(simulation.init)(jax.random.key(1), problem, hyper)
    fresh = draw_sequences(KEY, problem.patterns, problem.setting, samples=4, tokens=5)
    check_step(simulation, problem, hyper, state, fresh.tokens, fresh.given, classes=3)


def check_step(simulation, problem, hyper, state, tokens, labels, classes=2):
    """Assert that a step moves the weights along the gradient of the mean loss of the given sequences."""
    after = jax.jit(simulation.step)(KEY, problem, hyper, state)
    head = heads(classes, hyper.width, most=classes, width=8)

    @jax.jit
    def loss(weights):
        return hinge(neurons(weights, tokens, 3, hyper.score_scale) @ head.T, labels, classes).mean()

    rng = np.random.default_rng(0)
    for name, before, now in zip(Weights._fields, state.weights, after.weights, strict=True):
        direction = rng.normal(size=before.shape)
        ends = [loss(state.weights._replace(**{name: before + s * 1e-6 * direction})) for s in (1, -1)]
        slope = float(ends[0] - ends[1]) / 2e-6
        assert slope != 0
        moved = float(jnp.sum((before - now) / hyper.step_size * direction))
        assert moved == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_rotated_patterns_and_weights_give_the_rotated_step(problem, state):
    rotation = jnp.linalg.qr(jax.random.normal(jax.random.key(9), (6, 6)))[0]

    def turned(weights):
        # Query and key share their output space, value and output theirs: turn the input side and the values.
        turn = rotation.T
        return Weights(
            weights.query @ turn, weights.key @ turn, rotation @ weights.value @ turn, weights.output @ turn
        )

    train = problem.train._replace(tokens=problem.train.tokens @ rotation.T)
    rotated = problem._replace(
        train=train, patterns=problem.patterns @ rotation.T, plane=problem.plane @ rotation.T
    )
    start = state._replace(weights=turned(state.weights), start=turned(state.start))
    move = jax.jit(SIMULATION.step)
    for step in range(15):
        key = jax.random.fold_in(KEY, step)
        state = move(key, problem, LARGER_START, state)
        start = move(key, rotated, LARGER_START, start)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), turned(state.weights), start.weights
    )
    test = problem.test._replace(tokens=problem.test.tokens @ rotation.T)
    rotated = rotated._replace(test=test)
    observe = jax.jit(SIMULATION.observe)
    conclude = jax.jit(partial(SIMULATION.conclude, records={}))
    before = observe(problem, LARGER_START, state), conclude(problem, LARGER_START, state=state)
    after = observe(rotated, LARGER_START, start), conclude(rotated, LARGER_START, state=start)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), before, after)


def test_stored_samples_beyond_those_in_use_change_nothing(problem):
    hyper = LARGER_START._replace(train_samples=7)
    spoilt = problem.train._replace(tokens=problem.train.tokens.at[7:].set(jnp.nan))
    clean, other = RUN(KEY, problem, hyper), RUN(KEY, problem._replace(train=spoilt), hyper)
    jax.tree.map(np.testing.assert_array_equal, clean, other)


def test_a_masked_width_is_the_smaller_network(problem):
    hyper = LARGER_START._replace(width=5, value_error=0.1)
    smaller = pattern_transformer(**{**SMALL, "max_width": 5})
    wide, narrow = RUN(KEY, problem, hyper), jax.jit(rollout(smaller, [0, 15]))(KEY, problem, hyper)
    np.testing.assert_array_equal(wide.state.weights.output[5:], 0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[: len(b)], b, atol=1e-12),
        wide.state.weights,
        narrow.state.weights,
    )
    for name, value in narrow.records.items():
        np.testing.assert_allclose(wide.records[name], value, atol=1e-6, err_msg=name)
    for name, value in narrow.conclusions.items():
        np.testing.assert_allclose(wide.conclusions[name], value, atol=1e-9, err_msg=name)


def test_order_of_tokens_that_do_not_ask_changes_no_run(problem):
    order = jnp.array([0, 1, 2, 4, 3])
    train = problem.train._replace(tokens=problem.train.tokens[:, order])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        RUN(KEY, problem, LARGER_START),
        RUN(KEY, problem._replace(train=train), LARGER_START),
    )


def test_uniform_attention_does_not_train_queries_and_keys(problem):
    run = RUN(KEY, problem, LARGER_START._replace(score_scale=0.0))
    np.testing.assert_array_equal(run.state.weights.query, run.state.start.query)
    share = np.asarray(problem.test.relevant).mean()
    np.testing.assert_allclose(run.records["attention_mass"], share, rtol=1e-12)


def test_a_batch_of_runs_equals_lone_runs(problem):
    run = rollout(SIMULATION, [0, 15])
    keys = jax.random.split(jax.random.key(3), 4)
    scales = jnp.array([0.01, 0.1, 0.5, 1.0])
    hypers = jax.vmap(lambda scale: SIMULATION.hyper._replace(output_scale=scale))(scales)
    together = jax.jit(jax.vmap(run, in_axes=(0, None, 0)))(keys, problem, hypers)
    alone = RUN(keys[2], problem, LARGER_START)
    for many, one in ((together.records, alone.records), (together.conclusions, alone.conclusions)):
        for name, value in one.items():
            np.testing.assert_allclose(many[name][2], value, atol=1e-9, err_msg=name)


def test_metrics_have_their_declared_dimensions(problem):
    result = jax.eval_shape(rollout(SIMULATION, [0, 1]), KEY, problem, SIMULATION.hyper)
    metrics = {**result.records, **result.conclusions}
    assert set(metrics) == set(SIMULATION.variables)
    for name, variable in SIMULATION.variables.items():
        own = [len(values) for values in variable.dims.values()]
        assert list(metrics[name].shape) == ([2] if name in result.records else []) + own, name


@pytest.mark.parametrize(
    ("axis", "scale", "names"), [("value_error", 0.3, ["value"]), ("query_key_error", 0.3, ["query", "key"])]
)
def test_the_error_of_a_matrix_has_its_size_and_changes_no_other_draw(problem, axis, scale, names):
    init = jax.jit(jax.vmap(SIMULATION.init, (0, None, None)))
    keys = jax.random.split(KEY, 2000)
    exact, off, twice = (
        init(keys, problem, LARGER_START._replace(**{axis: size})) for size in (0.0, 0.1, 0.2)
    )
    for name in Weights._fields:
        start, moved, further = (getattr(each.weights, name) for each in (exact, off, twice))
        if name not in names:
            np.testing.assert_array_equal(moved, start)
            continue
        np.testing.assert_array_equal(start, np.broadcast_to(scale * np.eye(6), (2000, 6, 6)))
        error = np.asarray(moved - start)
        np.testing.assert_allclose(further - start, 2 * error, atol=1e-15)
        # The square of a vector of six Gaussians has a relative spread of sqrt(2/6).
        square = np.sum((error @ np.asarray(problem.patterns[0])) ** 2, axis=1)
        assert abs(square.mean() / 0.01 - 1) < 4.5 * np.sqrt(2 / 6 / 2000)
    np.testing.assert_array_equal(off.shuffle, exact.shuffle)


def test_small_neurons_that_no_test_sequence_activates_are_counted(problem):
    run = RUN(KEY, problem, LARGER_START)
    output = np.array(run.state.weights.output)
    output[:3] *= 1e-3
    weights = run.state.weights._replace(output=jnp.asarray(output))
    state = run.state._replace(weights=weights)
    active = np.asarray(neurons(weights, problem.test.tokens, 3)).max(axis=0)[:3] > 0
    found = jax.jit(partial(SIMULATION.conclude, records={}))(problem, LARGER_START, state=state)
    assert float(found["small_fraction"]) == 3 / 8
    assert float(found["small_inactive"]) == pytest.approx(1 - active.mean())


def test_angles_and_responses_are_those_of_the_updates_with_zeros_where_nothing_is_in_use():
    simulation = pattern_transformer(**SMALL, max_classes=3)
    hyper = simulation.hyper._replace(output_scale=0.5)
    problem = jax.jit(simulation.sample)(jax.random.key(0), simulation.setting._replace(patterns=5))
    run = jax.jit(rollout(simulation, [0, 15]))(KEY, problem, hyper)
    patterns = np.asarray(problem.patterns)
    for i in range(4):
        update = np.asarray(run.state.weights[i] - run.state.start[i])
        leading = np.linalg.svd(update)[2][:2]
        angles = np.degrees(scipy.linalg.subspace_angles(leading.T, patterns[:2].T))
        found = run.records["angle"][-1, i]
        np.testing.assert_allclose(found[:2], angles, atol=1e-5)
        assert found[2] == 0
        norms = np.linalg.norm(update @ patterns.T, axis=0)
        response = run.conclusions["response"][i]
        np.testing.assert_allclose(response[:5], norms[:5] / norms[:2].mean(), rtol=1e-9)
        assert response[5] == 0


def test_errors_are_those_of_the_labels_given_in_training_and_of_the_true_ones_in_testing():
    hyper = LARGER_START._replace(train_samples=9)
    problem = jax.jit(SIMULATION.sample)(jax.random.key(4), SIMULATION.setting._replace(label_noise=1.0))
    run = RUN(KEY, problem, hyper)
    head = heads(2, hyper.width, most=2, width=8)
    train, test = jax.tree.map(lambda x: x[:9], problem.train), problem.test
    errors = [
        wrong(neurons(run.state.weights, tokens, 3) @ head.T, labels).mean()
        for tokens, labels in (
            (train.tokens, train.given),
            (train.tokens, train.labels),
            (test.tokens, test.labels),
        )
    ]
    assert errors[0] != errors[1]
    assert float(run.records["train_error"][-1]) == pytest.approx(float(errors[0]))
    assert float(run.records["test_error"][-1]) == pytest.approx(float(errors[2]))


def test_a_trained_network_learns_and_a_frozen_one_does_not_move(problem):
    simulation = pattern_transformer(dim=8, tokens=8, max_width=32, samples=128, test_samples=64)
    easy = simulation.setting._replace(relevant_fraction=0.6)
    run = jax.jit(trajectory(simulation, [0, 400]))
    drawn = jax.jit(simulation.sample)(jax.random.key(2), easy)
    trained = run(KEY, drawn, simulation.hyper)
    assert trained["test_error"][-1] == trained["train_error"][-1] == 0
    assert trained["test_loss"][-1] < 0.1
    assert trained["attention_mass"][-1] > trained["attention_mass"][0]
    np.testing.assert_array_equal(trained["effective_rank"][-1], 2)
    frozen = run(KEY, drawn, simulation.hyper._replace(step_size=0.0))
    np.testing.assert_allclose(frozen["singular_values"], 0, atol=1e-14)
    assert float(frozen["separation"]) < 0.75 < float(trained["separation"])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_programs_lower_for_all_platforms_in_both_precisions(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        simulation = pattern_transformer(**SMALL)

        def whole(seed):
            problem = simulation.sample(jax.random.key(seed), simulation.setting)
            result = rollout(simulation, [0, 2])(jax.random.key(seed + 1), problem, simulation.hyper)
            return {**result.records, **result.conclusions}

        exported = jax.export.export(jax.jit(whole), platforms=["cpu", "cuda", "tpu"])(jnp.uint32(0))
        assert {x.dtype for x in exported.out_avals if jnp.issubdtype(x.dtype, jnp.floating)} == {
            jnp.dtype(dtype)
        }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 2}, "dim must be at least 3, got 2"),
        ({"queries": 6}, "queries must be at most tokens = 5, got 6"),
        ({"max_width": 0}, "max_width must be at least 2, got 0"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"batch": 13}, "batch must be at most samples = 12, got 13"),
        ({"max_classes": 7}, "max_classes must be at most dim = 6, the number of patterns, got 7"),
    ],
)
def test_wrong_sizes_raise_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        pattern_transformer(**{**SMALL, **changes})


def test_limits_name_every_axis():
    names = {*SIMULATION.setting._fields, *SIMULATION.hyper._fields}
    assert set(SIMULATION.limits) == names
    assert SIMULATION.limits["patterns"] == (3, 6)
    for name, value in {**SIMULATION.setting._asdict(), **SIMULATION.hyper._asdict()}.items():
        low, high = SIMULATION.limits[name]
        assert low <= value <= high, name


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (
            {"relevant_fraction": 0.8, "confusion_fraction": 0.3},
            "relevant_fraction [+] confusion_fraction must be",
        ),
        ({"classes": 5, "patterns": 3}, "1 of 1 cells: classes must be at most patterns"),
        ({"classes": 3, "width": 2}, "width must be at least classes"),
    ],
)
def test_cells_that_cannot_be_are_refused_with_the_first_of_them(axes, message, tmp_path):
    kinds = {
        kind: {name: [value] for name, value in axes.items() if name in names}
        for kind, names in (("problem", SIMULATION.setting._fields), ("run", SIMULATION.hyper._fields))
    }
    sweep = Sweep(simulation=five_classes, steps=[0, 1], **kinds)
    with pytest.raises(RequestError, match=message) as raised:
        run(sweep, tmp_path / "refused")
    assert "first: " in str(raised.value)
    assert not any((tmp_path / "refused").glob("blocks/*"))


def five_classes():
    return pattern_transformer(**SMALL, max_classes=5)


def test_cells_that_get_other_data_than_one_might_think_are_told():
    simulation = five_classes()
    setting = simulation.setting._replace(classes=np.array([2, 3]), patterns=np.array(3))
    told = {text: np.broadcast_to(cells, 2).tolist() for text, cells in caution(simulation, setting)}
    assert [text.partition(":")[0] for text, cells in told.items() if any(cells)] == [
        "classes = patterns, fractions that sum to less than 1"
    ]
    assert [False, True] in told.values()


def caution(simulation, setting):
    return simulation.caution(setting, simulation.hyper).items()


@pytest.mark.parametrize(
    ("classes", "relevant", "confusion", "warned"),
    [
        (2, 0.1, 0.6, True),
        (2, 0.3, 0.3, True),
        (2, 0.4, 0.1, False),
        (2, 0.0, 0.0, False),
        (4, 0.3, 0.6, False),
        (4, 0.2, 0.6, True),
    ],
)
def test_labels_that_a_majority_vote_misses_are_told(classes, relevant, confusion, warned):
    simulation = five_classes()
    setting = simulation.setting._replace(
        classes=classes, relevant_fraction=relevant, confusion_fraction=confusion
    )
    told = [text for text, cells in caution(simulation, setting) if np.any(cells)]
    assert ["majority vote" in text for text in told] == [True] * warned
