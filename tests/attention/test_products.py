"""A product's derivatives by hand are those of a plain product, alone and in a batch."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from theory_sim.attention.products import mixtures, product, similarities


def gradients(times, matrix, columns, slope):
    return jax.grad(lambda m, c: jnp.sum(times(m, c) * slope), (0, 1))(matrix, columns)


ALONE = [jax.jit(lambda *args, times=times: gradients(times, *args)) for times in (product, jnp.matmul)]
BATCHED = [
    jax.jit(jax.vmap(lambda *args, times=times: gradients(times, *args), (0, None, 0)))
    for times in (product, jnp.matmul)
]


@given(st.integers(0, 2**31 - 1), st.sampled_from([ALONE, BATCHED]))
def test_derivatives_are_those_of_a_plain_product(seed, both):
    rng = np.random.default_rng(seed)
    lead = () if both is ALONE else (2,)
    matrix, columns, slope = (
        rng.normal(size=(*lead, 5, 3)),
        rng.normal(size=(3, 4)),
        rng.normal(size=(*lead, 5, 4)),
    )
    by_hand, by_jax = (way(matrix, columns, slope) for way in both)
    for ours, theirs in zip(by_hand, by_jax, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batched", [False, True])
def test_derivative_is_the_slope_of_finite_differences(batched):
    """The product is bilinear: a difference over any length is exact."""
    rng = np.random.default_rng(0)
    lead = (2,) if batched else ()
    matrix, columns, slope = (
        rng.normal(size=(*lead, 5, 3)),
        rng.normal(size=(3, 4)),
        rng.normal(size=(*lead, 5, 4)),
    )
    by_matrix, by_columns = (BATCHED if batched else ALONE)[0](matrix, columns, slope)
    move, shift = rng.normal(size=(*lead, 5, 3)), rng.normal(size=(3, 4))
    np.testing.assert_allclose(np.sum(by_matrix * move), np.sum((move @ columns) * slope), rtol=1e-12)
    np.testing.assert_allclose(np.sum(by_columns * shift), np.sum((matrix @ shift) * slope), rtol=1e-12)


@pytest.mark.parametrize(
    ("times", "plain", "count"),
    [(similarities, lambda rows, tokens: rows @ jnp.swapaxes(tokens, 1, 2), 5), (mixtures, jnp.matmul, 3)],
)
def test_products_with_tokens_have_the_derivatives_of_plain_ones(times, plain, count):
    rng = np.random.default_rng(0)
    left, tokens = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, count, 3))
    slope = rng.normal(size=plain(left, tokens).shape)
    np.testing.assert_allclose(times(left, tokens), plain(left, tokens), rtol=1e-12)
    for ours, theirs in zip(
        gradients(times, left, tokens, slope), gradients(plain, left, tokens, slope), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
