"""Spectra and angles of updates, against SciPy and planted ranks; the predictions, against explicit data."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given

from theory_sim.attention import (
    Setting,
    Weights,
    attention,
    draw_data,
    effective_rank,
    energy_outside,
    equicorrelated,
    key_angle,
    leading_directions,
    mean_token_angle,
    principal_angles,
    stable_rank,
)

SEEDS = st.integers(0, 2**31 - 1)
ANGLES = jax.jit(principal_angles)


def degrees(a, b):
    return np.degrees(scipy.linalg.subspace_angles(np.asarray(a).T, np.asarray(b).T))


@given(SEEDS)
def test_stable_rank_is_the_ratio_of_norms_also_from_the_first_singular_values(seed):
    matrices = np.random.default_rng(seed).normal(size=(3, 7, 5))
    values = np.linalg.svd(matrices, compute_uv=False)
    expected = np.linalg.norm(matrices, axis=(1, 2)) ** 2 / np.linalg.norm(matrices, 2, axis=(1, 2)) ** 2
    np.testing.assert_allclose(stable_rank(values), expected)
    outside = (values[:, 2:] ** 2).sum(axis=1) / (values**2).sum(axis=1)
    np.testing.assert_allclose(stable_rank(values[:, :2], outside), expected)
    assert stable_rank(np.zeros(4)) == 0


@given(SEEDS, st.sampled_from([1e-9, 1e-4, 1.0, 1e6]))
def test_principal_angles_are_scipys_from_tiny_to_right(seed, tilt):
    rng = np.random.default_rng(seed)
    first = np.linalg.qr(rng.normal(size=(5, 2)))[0]
    second = np.linalg.qr(first + tilt * rng.normal(size=(5, 2)))[0]
    expected = degrees(first.T, second.T)
    found = ANGLES(jnp.asarray(first.T), jnp.asarray(second.T))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * min(1.0, tilt))


@given(SEEDS, st.sampled_from([1, 2, 3]))
def test_rows_of_zeros_add_angles_of_zero_at_the_end(seed, dimension):
    rng = np.random.default_rng(seed)
    first, second = (np.linalg.qr(rng.normal(size=(6, dimension)))[0].T for _ in range(2))
    padded = (jnp.pad(jnp.asarray(rows), ((0, 4 - dimension), (0, 0))) for rows in (first, second))
    found = np.asarray(ANGLES(*padded))
    np.testing.assert_allclose(found[:dimension], degrees(first, second), rtol=1e-6, atol=2e-6)
    np.testing.assert_array_equal(found[dimension:], 0)


@pytest.mark.parametrize("shape", [(9, 4), (4, 4), (2, 4), (5, 3), (7, 2), (40, 16), (16, 31)])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_decomposition_is_numpys(shape, scale):
    update = np.random.default_rng(sum(shape)).normal(size=shape)
    values, directions = jax.jit(leading_directions)(scale * update)
    expected, right = np.linalg.svd(update)[1:]
    np.testing.assert_allclose(values[: min(shape)] / scale, expected, rtol=1e-9)
    # Roots of eigenvalues that are zero up to rounding.
    rounding = np.sqrt(max(shape) * np.finfo(float).eps) * expected[0]
    np.testing.assert_allclose(values[min(shape) :] / scale, 0, atol=rounding)
    overlap = np.abs(np.sum(np.asarray(directions) * right, axis=1))[: min(shape)]
    np.testing.assert_allclose(overlap, 1, atol=1e-9)


def test_decomposition_in_float32_has_its_precision():
    with jax.enable_x64(False):
        update = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
        values, directions = leading_directions(jnp.asarray(update))
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, np.linalg.svd(update)[1], rtol=1e-4)
        np.testing.assert_allclose(directions @ directions.T, np.eye(16), atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_planted_rank_is_found_under_small_noise(rank):
    left, right, noise = (
        jax.random.normal(key, (12, 12)) for key in jax.random.split(jax.random.key(rank), 3)
    )
    orthogonal = jnp.linalg.qr(left)[0][:, :rank] @ jnp.linalg.qr(right)[0][:rank]
    values, _ = leading_directions(orthogonal + 1e-3 * noise)
    assert int(effective_rank(values)) == rank
    assert float(energy_outside(values, rank)) == pytest.approx(144e-6 / rank, rel=0.5)


def test_energy_is_counted_squared_and_nothing_moved_is_rank_zero():
    values = jnp.array([3.0, 1.0, 0.0])
    assert float(energy_outside(values, 1)) == pytest.approx(0.1)
    assert int(effective_rank(values)) == 2  # 0.9 is below 0.95
    assert int(effective_rank(jnp.zeros(3))) == 0
    assert float(energy_outside(jnp.zeros(3), 2)) == 0


@given(
    st.sampled_from([7, 20]),
    st.floats(0.2, 0.7),
    st.floats(0.0, 0.15),
    st.sampled_from([2, 3, 6]),
    st.floats(0.0, 0.9),
)
def test_predicted_angle_is_that_of_the_mean_tokens(patterns, relevant, confusion, classes, correlation):
    mean = np.full((classes, patterns), (1 - relevant - confusion) / (patterns - classes))
    mean[:, :classes] = confusion / (classes - 1)
    np.fill_diagonal(mean, relevant)
    mu = np.asarray(equicorrelated(jnp.eye(patterns), patterns, correlation), float)
    predicted = mean_token_angle(patterns, relevant, confusion, classes, correlation=correlation)
    plane = np.linalg.qr(mu[:classes].T)[0].T
    assert predicted == pytest.approx(degrees(mean @ mu, plane).max(), abs=1e-2)


@pytest.mark.parametrize(
    ("patterns", "classes", "relevant", "confusion", "noise", "against", "correlation"),
    [
        (7, 2, 0.4, 0.1, 0.0, 0.0, 0.0),
        (7, 3, 0.3, 0.2, 0.0, 0.3, 0.0),
        (7, 2, 0.4, 0.1, 0.4, 1.0, 0.0),
        (5, 2, 0.6, 0.0, 0.4, 1.0, 0.0),
        (7, 3, 0.6, 0.2, 0.3, 0.5, 0.0),
        (7, 2, 0.4, 0.1, 0.3, 1.0, 0.4),
        (7, 3, 0.5, 0.1, 0.3, 0.5, 0.4),
    ],
)
def test_angle_of_keys_is_that_of_the_gradient_under_uniform_attention(
    patterns, classes, relevant, confusion, noise, against, correlation
):
    # The output rewards `(1 + against) mu_y - against sum_c mu_c`, which sums to 0 over classes at 1 / (K - 1).
    # Without noise and correlation another direction makes no difference.
    setting = Setting(patterns, classes, relevant, confusion, noise, correlation=correlation)
    mu, gradient = key_gradient(jax.random.key(patterns + classes), setting, against)
    right = np.linalg.svd(gradient)[2][:classes]
    predicted = key_angle(patterns, relevant, confusion, classes, correlation=correlation)
    plane = np.linalg.qr(np.asarray(mu)[:classes].T)[0].T
    # Means of 6000 sequences are off by a hundredth of the signal.
    assert predicted == pytest.approx(degrees(right, plane).max(), abs=2)


def test_noise_lowers_the_angle_of_keys_where_rewarded_directions_do_not_sum_to_zero():
    mu, gradient = key_gradient(jax.random.key(0), Setting(7, 2, 0.4, 0.1, 0.4), 0.0)
    right = np.linalg.svd(gradient)[2][:2]
    assert degrees(right, np.asarray(mu)[:2]).max() < key_angle(7, 0.4, 0.1) - 5


@jax.jit
def key_gradient(key, setting, against):
    """Return the patterns, and the gradient by W_K of what attention gets of the rewarded direction."""
    mu, data = draw_data(key, setting, dim=7, samples=6000, tokens=20)
    told = jnp.arange(7) < setting.classes
    rewarded = (1 + against) * mu[data.labels] - against * jnp.sum(jnp.where(told[:, None], mu, 0), axis=0)
    small = 1e-3 * jnp.eye(7)

    def reward(weights):
        mixed = jnp.einsum("bsl,bld->bd", attention(weights, data.tokens, 4), data.tokens)
        return jnp.sum(mixed * rewarded) / len(data.labels)

    return mu, jax.grad(reward)(Weights(small, small, small, small)).key


def test_angle_of_keys_is_zero_where_all_tokens_tell():
    assert key_angle(7, 0.9, 0.1) == 0
    assert key_angle(7, 1.0, 0.0, correlation=0.2) == 0
    assert key_angle(7, 0.4, 0.1) == pytest.approx(key_angle(7, 0.3, 0.3))


def test_angle_vanishes_without_irrelevant_tokens_and_with_many_patterns():
    assert mean_token_angle(10, 0.9, 0.1) == pytest.approx(0, abs=1e-6)
    assert mean_token_angle(10**8, 0.4, 0.1) < 0.01
