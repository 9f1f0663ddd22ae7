"""The pattern data: Gram matrix, exact mean fractions, classes, label and token noise, prefixes, random order."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given

from theory_sim.attention import (
    Setting,
    draw_data,
    draw_sequences,
    equicorrelated,
    orthonormal_rows,
    sort_places,
)

SEEDS = st.integers(0, 2**31 - 1)
BASIS = orthonormal_rows(jax.random.normal(jax.random.key(3), (7, 7)))
DRAW = jax.jit(
    lambda seed, setting: draw_sequences(jax.random.key(seed), BASIS, setting, samples=300, tokens=9)
)

PATTERNS = jax.jit(
    lambda seed, setting: draw_data(jax.random.key(seed), setting, dim=7, samples=1, tokens=1)[0]
)


def draw(seed, **changes):
    return jax.tree.map(np.asarray, DRAW(seed, Setting(**{"patterns": 7, "token_noise": 0.0, **changes})))


def kinds(data):
    """Index of the pattern of each token of sequences without noise."""
    overlap = data.tokens @ np.asarray(BASIS).T
    np.testing.assert_allclose(np.sort(overlap, axis=-1)[..., -1], 1, atol=1e-12)
    return np.argmax(overlap, axis=-1)


@given(SEEDS, st.sampled_from([2, 5, 7]), st.floats(0, 0.99))
def test_patterns_have_their_inner_products(seed, patterns, correlation):
    mu = PATTERNS(seed, Setting(patterns=patterns, correlation=correlation))
    expected = (1 - correlation) * np.eye(patterns) + correlation
    np.testing.assert_allclose((mu @ mu.T)[:patterns, :patterns], expected, atol=1e-12)


def test_patterns_without_correlation_are_the_basis_itself():
    np.testing.assert_array_equal(equicorrelated(BASIS, 5, 0.0), BASIS)


@given(SEEDS, st.floats(0, 0.6), st.floats(0, 0.4), st.sampled_from([3, 5, 7]))
def test_counts_are_the_fractions_up_to_one_token_and_kinds_are_legal(seed, relevant, confusion, patterns):
    data = draw(seed, relevant_fraction=relevant, confusion_fraction=confusion, patterns=patterns)
    kind, own = kinds(data), data.labels[:, None]
    for found, fraction in (
        (kind == own, relevant),
        (kind == 1 - own, confusion),
        (kind >= 2, 1 - relevant - confusion),
    ):
        assert np.all(np.abs(found.sum(axis=1) - 9 * fraction) < 1 + 1e-9)
    np.testing.assert_array_equal(data.relevant, kind == own)
    np.testing.assert_array_equal(data.irrelevant, kind >= 2)
    assert kind.max() == patterns - 1 or 1 - relevant - confusion < 0.1


def test_mean_fraction_is_exact_between_whole_counts():
    counts = np.concatenate([draw(seed, relevant_fraction=0.4).relevant.sum(axis=1) for seed in range(10)])
    error = counts.std() / np.sqrt(len(counts))
    assert abs(counts.mean() - 3.6) < 4 * error  # 0.4 of 9 tokens


def test_every_position_is_equally_often_relevant():
    share = np.concatenate([draw(seed, relevant_fraction=0.4).relevant for seed in range(10)]).mean(axis=0)
    assert np.all(np.abs(share - 0.4) < 4.5 * np.sqrt(0.24 / 3000))


def test_confusion_takes_what_relevant_tokens_leave():
    data = draw(1, relevant_fraction=0.7, confusion_fraction=1.0)
    assert kinds(data).max() <= 1
    assert np.all(np.abs(data.relevant.sum(axis=1) - 6.3) < 1)


def test_classes_are_equally_frequent_and_so_are_their_rivals():
    draws = [draw(seed, classes=4, relevant_fraction=0.5, confusion_fraction=0.3) for seed in range(10)]
    labels = np.concatenate([data.labels for data in draws])
    assert np.all(np.abs(np.bincount(labels) / 3000 - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / 3000))
    kind = np.concatenate([kinds(data) for data in draws])
    rival = (kind != labels[:, None]) & (kind < 4)
    distance = (kind - labels[:, None])[rival] % 4
    assert set(distance) == {1, 2, 3}
    assert np.all(
        np.abs(np.bincount(distance)[1:] / rival.sum() - 1 / 3) < 4.5 * np.sqrt(2 / 9 / rival.sum())
    )
    counts = np.stack([(kind == k).sum(axis=1) for k in range(4)], axis=1)
    np.testing.assert_array_equal(np.argmax(counts, axis=1), labels)


def test_given_labels_are_true_without_noise_and_coins_with_it():
    np.testing.assert_array_equal(*[getattr(draw(2), name) for name in ("labels", "given")])
    random = [draw(seed, label_noise=1.0) for seed in range(10)]
    agreement = np.mean([data.labels == data.given for data in random])
    assert abs(agreement - 0.5) < 4.5 * 0.5 / np.sqrt(3000)
    np.testing.assert_array_equal(random[0].labels, draw(0).labels)


def test_token_noise_has_its_standard_deviation():
    clean, noisy = (draw(4, token_noise=noise) for noise in (0.0, 0.3))
    assert np.std(noisy.tokens - clean.tokens) == pytest.approx(0.3, rel=0.02)


def test_bounded_noise_keeps_its_direction_and_its_bound():
    clean, free, bounded = (
        draw(4, token_noise=n, noise_bound=b) for n, b in ((0, 1e9), (0.3, 1e9), (0.3, 0.7))
    )
    noise, cut = free.tokens - clean.tokens, bounded.tokens - clean.tokens
    norm = np.linalg.norm(noise, axis=-1)
    # The normal numbers are of float32: where the compiler computes them twice they differ by its rounding.
    np.testing.assert_allclose(free.noise, norm, rtol=1e-6)
    np.testing.assert_allclose(bounded.noise, np.minimum(norm, 0.7), rtol=1e-6)
    np.testing.assert_allclose(cut, noise * np.minimum(1, 0.7 / norm)[..., None], atol=1e-6)
    assert 0.1 < np.mean(norm < 0.7) < 0.9


def test_noise_is_gaussian():
    noise = (draw(5, token_noise=1.0).tokens - draw(5).tokens).ravel()
    statistic = scipy.stats.kstest(noise, "norm").statistic
    assert statistic < 1.95 / np.sqrt(noise.size)  # passes once in a thousand by chance


def test_more_samples_keep_the_first():
    draw_some = jax.jit(draw_sequences, static_argnames=("samples", "tokens"))
    fewer, more = (
        draw_some(jax.random.key(0), BASIS, Setting(patterns=7), samples=samples, tokens=9)
        for samples in (20, 50)
    )
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:20]), fewer, more)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.5, -3.0, 7.0]), min_size=6, max_size=6))
def test_ranks_are_those_of_a_stable_sort(values):
    expected = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    np.testing.assert_array_equal(sort_places(jnp.asarray(values)), expected)
