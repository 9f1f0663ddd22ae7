"""The network against a loop over queries and neurons, and its symmetries."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from theory_sim.attention import Weights, attention, heads, hinge, neurons, wrong

SEEDS = st.integers(0, 2**31 - 1)
OUTPUTS = jax.jit(neurons, static_argnames="queries")
HEADS = heads(2, 6, most=2, width=6)


def network(seed, dim=4, width=6, tokens=5, samples=3):
    rng = np.random.default_rng(seed)
    shapes = ((dim, dim), (dim, dim), (dim, dim), (width, dim))
    return Weights(*(rng.normal(size=shape) for shape in shapes)), rng.normal(size=(samples, tokens, dim))


def loop(weights, sequence, queries):
    """F(X) as printed, with the tokens as columns of X."""
    x = sequence.T
    total = 0.0
    for l in range(queries):  # noqa: E741
        scores = x.T @ weights.key.T @ weights.query @ x[:, l]
        attended = x @ (np.exp(scores) / np.exp(scores).sum())
        hidden = np.maximum(weights.output @ weights.value @ attended, 0)
        total += sum((-1) ** i / np.sqrt(len(hidden)) * hidden[i] for i in range(len(hidden)))
    return total / queries


@given(SEEDS)
def test_output_is_the_printed_formula(seed):
    weights, tokens = network(seed)
    expected = [loop(weights, sequence, 3) for sequence in tokens]
    np.testing.assert_allclose(
        OUTPUTS(weights, tokens, queries=3) @ HEADS[0], expected, rtol=1e-10, atol=1e-12
    )


@given(SEEDS)
def test_order_of_tokens_does_not_matter_when_all_are_queries(seed):
    weights, tokens = network(seed)
    shuffled = tokens[:, np.random.default_rng(seed).permutation(5)]
    np.testing.assert_allclose(
        OUTPUTS(weights, tokens, queries=5), OUTPUTS(weights, shuffled, queries=5), rtol=1e-9, atol=1e-12
    )


@given(SEEDS)
def test_order_of_the_tokens_that_do_not_ask_does_not_matter(seed):
    weights, tokens = network(seed)
    order = np.concatenate([[0, 1], 2 + np.random.default_rng(seed).permutation(3)])
    np.testing.assert_allclose(
        OUTPUTS(weights, tokens, queries=2),
        OUTPUTS(weights, tokens[:, order], queries=2),
        rtol=1e-9,
        atol=1e-12,
    )
    np.testing.assert_allclose(
        attention(weights, tokens, 2)[:, :, order], attention(weights, tokens[:, order], 2), rtol=1e-9
    )


@given(SEEDS)
def test_uniform_attention_is_the_direct_mean_of_the_tokens(seed):
    weights, tokens = network(seed)
    hidden = np.maximum(tokens.mean(axis=1) @ weights.value.T @ weights.output.T, 0)
    np.testing.assert_allclose(OUTPUTS(weights, tokens, queries=3, score_scale=0.0), hidden, atol=1e-12)
    slopes = jax.grad(lambda w: neurons(w, tokens, 3, 0.0).sum())(weights)
    np.testing.assert_array_equal(slopes.query, 0)
    np.testing.assert_array_equal(slopes.key, 0)


def test_heads_of_two_classes_are_opposite_balanced_and_of_unit_norm():
    first, second = HEADS
    np.testing.assert_array_equal(first, -second)
    assert float(first.sum()) == 0
    assert np.isclose(float(jnp.linalg.norm(first)), 1)


@pytest.mark.parametrize(("classes", "used"), [(2, 4), (3, 6), (4, 7)])
def test_heads_in_use_are_those_of_a_smaller_network(classes, used):
    padded = heads(classes, used, most=5, width=9)
    np.testing.assert_array_equal(padded[:classes, :used], heads(classes, used, most=classes, width=used))
    np.testing.assert_array_equal(padded[classes:], 0)
    np.testing.assert_array_equal(padded[:, used:], 0)
    np.testing.assert_allclose(padded.sum(axis=0), 0, atol=1e-15)


def test_hinge_of_two_classes_is_zero_from_margin_one_on():
    def both(outputs):
        return jnp.stack([jnp.array(outputs), -jnp.array(outputs)], axis=-1)

    np.testing.assert_allclose(hinge(both([2.0, 0.5, -1.0]), jnp.array([0, 0, 0])), [0, 0.5, 2])
    np.testing.assert_allclose(hinge(both([2.0, -3.0]), jnp.array([1, 1])), [3, 0])
    np.testing.assert_allclose(wrong(both([2.0, 0.0, -1.0]), jnp.array([0, 0, 0])), [0, 1, 1])


def test_more_classes_are_trained_one_against_the_rest_and_the_largest_wins():
    outputs = jnp.array([[3.0, -0.5, -2.0, 9.0], [0.1, 0.2, -3.0, 9.0]])
    losses = [[0, 0.5, 0], [0.9, 1.2, 0]]
    np.testing.assert_allclose(hinge(outputs, jnp.array([0, 0]), 3), np.mean(losses, axis=1))
    np.testing.assert_array_equal(wrong(outputs, jnp.array([0, 0]), 3), [0, 1])
