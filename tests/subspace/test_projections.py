"""Projections: transposes, norms, moments, nesting, and an explicit Hadamard construction as reference."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from jax import export

from theory_sim.subspace import (
    PROJECTIONS,
    dense_projection,
    fastfood_projection,
    gram_moments,
    hadamard_transform,
)

KINDS = sorted(PROJECTIONS)
SIZES = [(1, 1), (7, 3), (64, 5), (65, 9), (4097, 3)]


@partial(jax.jit, static_argnums=(0, 1))
def both_ways(kind, size, key, x, y):
    projection = PROJECTIONS[kind](key, *size)
    return projection.apply(x), projection.transpose(y)


@pytest.mark.parametrize("kind", KINDS)
@given(size=st.sampled_from(SIZES), seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_transpose_is_the_adjoint(kind, size, seed, scale):
    generator = np.random.default_rng(seed)
    x, y = scale * generator.normal(size=size[1]), generator.normal(size=size[0])
    forward, backward = map(np.asarray, both_ways(kind, size, jax.random.key(seed), x, y))
    bound = 1e-12 * scale * size[0]
    assert forward.shape == (size[0],)
    assert backward.shape == (size[1],)
    assert abs(forward @ y - x @ backward) < bound


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_gram_is_the_product_of_the_columns(kind, size):
    projection = PROJECTIONS[kind](jax.random.key(0), *size)
    columns = np.stack(
        [both_ways(kind, size, jax.random.key(0), x, np.zeros(size[0]))[0] for x in np.eye(size[1])]
    )
    np.testing.assert_allclose(jax.jit(lambda p: p.gram())(projection), columns @ columns.T, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_dense_columns_have_unit_norm(size):
    gram = dense_projection(jax.random.key(3), *size).gram()
    np.testing.assert_allclose(np.diag(gram), 1, rtol=1e-12)


@pytest.mark.parametrize("bits", [0, 1, 5, 6, 7, 11])
def test_hadamard_transform_is_sylvesters_matrix(bits):
    size = 2**bits
    x = np.random.default_rng(bits).normal(size=size)
    np.testing.assert_allclose(
        hadamard_transform(jnp.asarray(x)), scipy.linalg.hadamard(size) @ x, atol=1e-10
    )


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (64, 10), (100, 100)])
def test_fastfood_is_the_explicit_product_of_its_factors(size):
    ambient, dim = size
    p = fastfood_projection(jax.random.key(5), ambient, dim)
    big = 1 << (ambient - 1).bit_length()
    hadamard = scipy.linalg.hadamard(big).astype(float)
    gaussian = np.asarray(p.gaussians)
    signs = np.ones(big)
    signs[:dim] = p.signs
    shuffle = np.eye(big)[np.asarray(p.permutation)]
    whole = hadamard @ np.diag(gaussian) @ shuffle @ hadamard @ np.diag(signs)
    whole /= np.sqrt(big * np.sum(gaussian**2)) * np.sqrt(ambient / big)
    np.testing.assert_allclose(jax.vmap(p.apply)(jnp.eye(dim)).T, whole[:ambient, :dim], atol=1e-12)
    np.testing.assert_allclose(jax.vmap(p.transpose)(jnp.eye(ambient)), whole[:ambient, :dim], atol=1e-12)


@pytest.mark.parametrize(("kind", "ambient"), [("dense", 48), ("fastfood", 48), ("fastfood", 64)])
def test_gram_moments_follow_the_derivation(kind, ambient):
    draws = 4000
    gram = jax.jit(jax.vmap(lambda key: PROJECTIONS[kind](key, ambient, 4).gram()))
    grams = gram(jax.random.split(jax.random.key(1), draws))
    norms, inner = np.asarray(grams[:, 0, 0]), np.asarray(grams[:, 1, 2])
    predicted = gram_moments(kind, ambient)
    assert z_score(norms - 1) < 4 or predicted.norm_variance == 0
    assert z_score(inner) < 4
    # The law is of leading order in 1/D: allow a relative correction of 2/D besides the sampling error.
    assert_variance(inner, predicted.inner_product_variance, 2 / ambient)
    if predicted.norm_variance == 0:
        np.testing.assert_allclose(norms, 1, rtol=1e-10)
    else:
        assert_variance(norms - 1, predicted.norm_variance, 4 / ambient)


def z_score(values):
    return abs(values.mean()) / (values.std() / np.sqrt(len(values)))


def assert_variance(values, predicted, correction):
    error = (values**2).std() / np.sqrt(len(values))
    assert abs((values**2).mean() - predicted) < 4 * error + correction * predicted


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_projection_is_the_first_columns_of_a_larger_one(kind):
    key, x = jax.random.key(7), np.random.default_rng(0).normal(size=4)
    small, large = PROJECTIONS[kind](key, 100, 4), PROJECTIONS[kind](key, 100, 9)
    np.testing.assert_allclose(large.apply(np.pad(x, (0, 5))), small.apply(x), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_batching_changes_nothing(kind):
    projection = PROJECTIONS[kind](jax.random.key(0), 1000, 20)
    xs = jax.random.normal(jax.random.key(1), (6, 20))
    alone = np.stack([projection.apply(x) for x in xs])
    np.testing.assert_allclose(jax.jit(jax.vmap(projection.apply))(xs), alone, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_through_apply_is_the_transpose(kind):
    projection = PROJECTIONS[kind](jax.random.key(0), 100, 5)
    y = jax.random.normal(jax.random.key(1), (100,))
    gradient = jax.grad(lambda x: projection.apply(x) @ y)(jnp.ones(5))
    np.testing.assert_allclose(gradient, projection.transpose(y), atol=1e-12)


def test_fastfood_needs_memory_of_order_ambient():
    p = jax.eval_shape(lambda key: fastfood_projection(key, 199_210, 750), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(p)) < 4 * 2**18


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wide", [False, True])
def test_lowers_for_every_platform(kind, wide):
    with jax.enable_x64(wide):

        def there_and_back(key, x):
            projection = PROJECTIONS[kind](key, 100, 5)
            return projection.transpose(projection.apply(x))

        exported = export.export(jax.jit(there_and_back), platforms=["cpu", "cuda", "tpu"])
        result = exported(jax.random.key(0), jnp.ones(5)).out_avals[0]
        assert result.dtype == (jnp.float64 if wide else jnp.float32)


@pytest.mark.parametrize("draw", [dense_projection, fastfood_projection])
@pytest.mark.parametrize("size", [(0, 1), (10, 0), (10, 11)])
def test_sizes_out_of_range_are_refused(draw, size):
    with pytest.raises(ValueError, match="must"):
        draw(jax.random.key(0), *size)


def test_hadamard_refuses_other_sizes():
    with pytest.raises(ValueError, match="power of two, got size 12"):
        hadamard_transform(jnp.ones(12))
