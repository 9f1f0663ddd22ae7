"""The simulation: gradient, rotation, masking, batching, precision, platforms, shapes, wrong requests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.attention import Weights, contributions, hinge, pattern_transformer
from theory_sim.simulation import rollout, trajectory

SMALL = {"dim": 6, "tokens": 5, "width": 8, "samples": 12, "test_samples": 10, "batch": 4, "queries": 3}
SIMULATION = pattern_transformer(**SMALL)
LARGER_START = SIMULATION.hyper._replace(output_scale=0.5)
KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def problem():
    return jax.jit(SIMULATION.sample)(jax.random.key(0), SIMULATION.setting)


@pytest.fixture(scope="module")
def state(problem):
    return SIMULATION.init(jax.random.key(1), problem, LARGER_START)


def test_a_step_is_the_gradient_of_the_batch_by_finite_differences(problem, state):
    place = np.asarray(jax.random.uniform(KEY, (4,), jnp.float32)) * 12
    tokens, labels = (x[place.astype(int)] for x in (problem.train.tokens, problem.train.given))
    after = SIMULATION.step(KEY, problem, LARGER_START, state)

    @jax.jit
    def loss(weights):
        return hinge(contributions(weights, tokens, 3).sum(axis=1), labels).mean()

    rng = np.random.default_rng(0)
    for name, before, now in zip(Weights._fields, state.weights, after.weights, strict=True):
        direction = rng.normal(size=before.shape)
        ends = [loss(state.weights._replace(**{name: before + s * 1e-6 * direction})) for s in (1, -1)]
        slope = float(ends[0] - ends[1]) / 2e-6
        assert slope != 0
        moved = float(jnp.sum((before - now) / LARGER_START.step_size * direction))
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
    rotated = problem._replace(train=train, basis=problem.basis @ rotation.T)
    start = state._replace(weights=turned(state.weights), start=turned(state.start))
    for step in range(3):
        key = jax.random.fold_in(KEY, step)
        state = SIMULATION.step(key, problem, LARGER_START, state)
        start = SIMULATION.step(key, rotated, LARGER_START, start)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), turned(state.weights), start.weights
    )
    test = problem.test._replace(tokens=problem.test.tokens @ rotation.T)
    before = SIMULATION.observe(problem, LARGER_START, state)
    after = SIMULATION.observe(rotated._replace(test=test), LARGER_START, start)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), before, after)


def test_stored_samples_beyond_those_in_use_change_nothing(problem):
    hyper = LARGER_START._replace(train_samples=7)
    spoilt = problem.train._replace(tokens=problem.train.tokens.at[7:].set(jnp.nan))
    run = jax.jit(trajectory(SIMULATION, [0, 30]))
    clean, other = run(KEY, problem, hyper), run(KEY, problem._replace(train=spoilt), hyper)
    jax.tree.map(np.testing.assert_array_equal, clean, other)


def test_a_batch_of_runs_equals_lone_runs(problem):
    run = trajectory(SIMULATION, [0, 5, 20])
    keys = jax.random.split(jax.random.key(3), 4)
    scales = jnp.array([0.01, 0.1, 0.5, 1.0])
    hypers = jax.vmap(lambda scale: SIMULATION.hyper._replace(output_scale=scale))(scales)
    together = jax.jit(jax.vmap(run, in_axes=(0, None, 0)))(keys, problem, hypers)
    alone = jax.jit(run)(keys[2], problem, SIMULATION.hyper._replace(output_scale=0.5))
    for name, value in alone.items():
        np.testing.assert_allclose(together[name][2], value, atol=1e-9, err_msg=name)


def test_metrics_have_their_declared_dimensions(problem):
    result = jax.eval_shape(rollout(SIMULATION, [0, 1]), KEY, problem, SIMULATION.hyper)
    metrics = {**result.records, **result.conclusions}
    assert set(metrics) == set(SIMULATION.variables)
    for name, variable in SIMULATION.variables.items():
        own = [len(values) for values in variable.dims.values()]
        assert list(metrics[name].shape) == ([2] if name in result.records else []) + own, name


def test_a_trained_network_learns_and_a_frozen_one_does_not_move(problem):
    simulation = pattern_transformer(dim=8, tokens=8, width=32, samples=128, test_samples=64)
    easy = simulation.setting._replace(relevant_fraction=0.6)
    run = jax.jit(trajectory(simulation, [0, 400]))
    drawn = jax.jit(simulation.sample)(jax.random.key(2), easy)
    trained = run(KEY, drawn, simulation.hyper)
    assert trained["test_error"][-1] == 0
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
        ({"width": 7}, "width must be even.*got 7"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
    ],
)
def test_wrong_sizes_raise_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        pattern_transformer(**{**SMALL, **changes})


def test_limits_name_every_axis():
    names = {*SIMULATION.setting._fields, *SIMULATION.hyper._fields}
    assert set(SIMULATION.limits) == names
    assert SIMULATION.limits["patterns"] == (3, 6)
