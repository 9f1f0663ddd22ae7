"""The network against a loop over queries and neurons, and its symmetries."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given

from theory_sim.attention import Weights, attention, contributions, head, hinge

SEEDS = st.integers(0, 2**31 - 1)
OUTPUTS = jax.jit(contributions, static_argnames="queries")


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
        OUTPUTS(weights, tokens, queries=3).sum(axis=1), expected, rtol=1e-10, atol=1e-12
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


def test_head_is_balanced_and_of_unit_norm():
    assert float(head(10).sum()) == 0
    assert np.isclose(float(jnp.linalg.norm(head(10))), 1)


def test_hinge_is_zero_from_margin_one_on():
    np.testing.assert_allclose(hinge(jnp.array([2.0, 0.5, -1.0]), jnp.array([1.0, 1.0, 1.0])), [0, 0.5, 2])
    np.testing.assert_allclose(hinge(jnp.array([2.0, -3.0]), jnp.array([-1.0, -1.0])), [3, 0])
