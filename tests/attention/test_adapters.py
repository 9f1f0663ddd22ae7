"""Adapters: gradient of the factors, rank kept, masked rank, the full arm against full training, wrong requests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.attention import Weights, adapted_transformer, heads, hinge, neurons
from theory_sim.simulation import rollout

SMALL = {"dim": 6, "tokens": 5, "max_width": 8, "samples": 12, "test_samples": 10, "batch": 4, "queries": 3}
SIMULATION = adapted_transformer(**SMALL, max_rank=4, max_classes=3)
HYPER = SIMULATION.hyper._replace(adapter_rank=3, step_size=0.2)
KEY = jax.random.key(5)
USED = {0: [True, True, False], 1: [False, False, True]}
"""Which of `W_Q`, `W_K`, `W_V` have adapters, without and with `value_adapters`."""
RUN = jax.jit(rollout(SIMULATION, [0, 12]))


@pytest.fixture(scope="module")
def problem():
    return jax.jit(SIMULATION.sample)(jax.random.key(0), SIMULATION.setting._replace(classes=3))


@pytest.mark.parametrize("of_values", [0, 1])
def test_a_step_follows_the_gradient_by_both_factors_and_by_the_matrices_without_adapters(problem, of_values):
    used, hyper = np.array(USED[of_values]), HYPER._replace(value_adapters=of_values)
    state = jax.jit(SIMULATION.init)(jax.random.key(1), problem, hyper)
    left = jnp.where(used[:, None, None], jax.random.normal(jax.random.key(2), state.left.shape), 0.0)
    state = state._replace(left=left)
    adapted = [w + b @ a for w, b, a in zip(state.start[:3], state.left, state.right, strict=True)]
    state = state._replace(weights=Weights(*adapted, state.start.output))
    place = (np.asarray(jax.random.uniform(KEY, (4,), jnp.float32)) * 12).astype(int)
    tokens, labels = problem.train.tokens[place], problem.train.given[place]
    head = heads(3, 8, most=3, width=8)

    @jax.jit
    def loss(left, right, whole, output):
        moved = [w + b @ a if one else w for w, b, a, one in zip(whole, left, right, used, strict=True)]
        return hinge(neurons(Weights(*moved, output), tokens, 3) @ head.T, labels, 3).mean()

    after = jax.jit(SIMULATION.step)(KEY, problem, hyper, state)
    slopes = jax.grad(loss, argnums=(0, 1, 2, 3))(
        state.left, state.right, state.start[:3], state.start.output
    )
    for before, now, slope in zip((state.left, state.right), (after.left, after.right), slopes, strict=False):
        assert float(jnp.abs(slope[used]).max()) > 1e-3
        np.testing.assert_allclose((before - now)[used], 0.2 * slope[used], atol=1e-12)
    for i in np.flatnonzero(~used):
        np.testing.assert_allclose(state.weights[i] - after.weights[i], 0.2 * slopes[2][i], atol=1e-12)
    for i in np.flatnonzero(used):
        product = state.start[i] + after.left[i] @ after.right[i]
        np.testing.assert_allclose(after.weights[i], product, atol=1e-12)
    moved = 0.0 if of_values else 0.2 * slopes[3]
    np.testing.assert_allclose(state.weights.output - after.weights.output, moved, atol=1e-12)


@pytest.mark.parametrize("of_values", [0, 1])
def test_updates_have_the_rank_of_the_adapter_and_full_matrices_more(problem, of_values):
    hyper, used = HYPER._replace(value_adapters=of_values), np.array(USED[of_values])
    for rank in (1, 3):
        values = RUN(KEY, problem, hyper._replace(adapter_rank=rank)).records["singular_values"][-1, :3]
        assert np.all(values[used][:, rank:] < 1e-6 * values[used][:, :1])
        assert np.all(values[used][:, rank - 1] > 1e-6 * values[used][:, 0])
        assert np.all(values[~used][:, 4] > 1e-6 * values[~used][:, 0])
    full = RUN(KEY, problem, hyper._replace(adapter_rank=0)).records["singular_values"][-1, :3]
    assert np.all(full[:, 4] > 1e-6 * full[:, 0])


def test_adapters_that_start_at_zero_never_move(problem):
    run = RUN(KEY, problem, HYPER._replace(adapter_scale=0.0))
    np.testing.assert_array_equal(run.state.weights.query, run.state.start.query)
    np.testing.assert_array_equal(run.state.weights.key, run.state.start.key)
    assert np.any(run.state.weights.value != run.state.start.value)


def test_a_masked_rank_is_the_smaller_adapter(problem):
    smaller = adapted_transformer(**SMALL, max_rank=2, max_classes=3)
    state = jax.jit(SIMULATION.init)(KEY, problem, HYPER._replace(adapter_rank=2))
    few = jax.jit(smaller.init)(KEY, problem, HYPER._replace(adapter_rank=2))
    np.testing.assert_array_equal(state.right[:, 2:], 0)
    np.testing.assert_array_equal(state.right[:, :2], few.right)
    few = few._replace(start=state.start, weights=state.weights)
    many_step, few_step = jax.jit(SIMULATION.step), jax.jit(smaller.step)
    for i in range(3):
        key = jax.random.fold_in(KEY, i)
        state = many_step(key, problem, HYPER, state)
        few = few_step(key, problem, HYPER, few)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), state.weights, few.weights)


def test_the_first_steps_of_adapters_are_those_of_the_full_matrix_on_average(problem):
    step, init = jax.jit(SIMULATION.step), jax.jit(jax.vmap(SIMULATION.init, (0, None, None)))
    states = init(jax.random.split(jax.random.key(3), 4000), problem, HYPER)
    first = jax.tree.map(lambda x: x[0], states)
    # The same output matrix for all: the gradient is then one, and only A differs.
    full = step(KEY, problem, HYPER._replace(adapter_rank=0), first)
    slope = (first.weights.value - full.weights.value) / 0.2
    moved = -0.2 * jnp.einsum("ij,srj,srk->sik", slope, states.right[:, 2], states.right[:, 2])
    error = moved.std(axis=0) / np.sqrt(4000)
    assert np.all(np.abs(moved.mean(axis=0) + 0.2 * slope) < 4.5 * error + 1e-12)


@pytest.mark.parametrize("rank", [0, 7])
def test_a_rank_that_cannot_be_raises_at_once(rank):
    with pytest.raises(ValueError, match=f"max_rank must lie between 1 and dim = 6, got {rank}"):
        adapted_transformer(**SMALL, max_rank=rank)


def test_limits_and_metrics_are_those_declared(problem):
    assert set(SIMULATION.limits) == {*SIMULATION.setting._fields, *SIMULATION.hyper._fields}
    records = jax.eval_shape(rollout(SIMULATION, [0, 1]), KEY, problem, HYPER).records
    assert set(records) == set(SIMULATION.variables)
