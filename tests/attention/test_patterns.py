"""The pattern data: orthonormality, exact mean fractions, label noise, prefixes, random order."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from theory_sim.attention import Setting, draw_sequences, orthonormal_patterns, ranks

SEEDS = st.integers(0, 2**31 - 1)
BASIS = orthonormal_patterns(jax.random.key(3), dim=7)
DRAW = jax.jit(
    lambda seed, setting: draw_sequences(jax.random.key(seed), BASIS, setting, samples=300, tokens=9)
)


def draw(seed, **changes):
    return jax.tree.map(np.asarray, DRAW(seed, Setting(**{"patterns": 7, "token_noise": 0.0, **changes})))


def kinds(data):
    """Index of the pattern of each token of sequences without noise."""
    overlap = data.tokens @ np.asarray(BASIS).T
    np.testing.assert_allclose(np.sort(overlap, axis=-1)[..., -1], 1, atol=1e-12)
    return np.argmax(overlap, axis=-1)


def test_patterns_are_orthonormal():
    np.testing.assert_allclose(BASIS @ BASIS.T, np.eye(7), atol=1e-13)


@given(SEEDS, st.floats(0, 0.6), st.floats(0, 0.4), st.sampled_from([3, 5, 7]))
def test_counts_are_the_fractions_up_to_one_token_and_kinds_are_legal(seed, relevant, confusion, patterns):
    data = draw(seed, relevant_fraction=relevant, confusion_fraction=confusion, patterns=patterns)
    kind, own = kinds(data), np.where(data.labels > 0, 0, 1)[:, None]
    for found, fraction in (
        (kind == own, relevant),
        (kind == 1 - own, confusion),
        (kind >= 2, 1 - relevant - confusion),
    ):
        assert np.all(np.abs(found.sum(axis=1) - 9 * fraction) < 1 + 1e-9)
    np.testing.assert_array_equal(data.relevant, kind == own)
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


def test_given_labels_are_true_without_noise_and_coins_with_it():
    np.testing.assert_array_equal(*[getattr(draw(2), name) for name in ("labels", "given")])
    random = [draw(seed, label_noise=1.0) for seed in range(10)]
    agreement = np.mean([data.labels == data.given for data in random])
    assert abs(agreement - 0.5) < 4.5 * 0.5 / np.sqrt(3000)
    np.testing.assert_array_equal(random[0].labels, draw(0).labels)


def test_token_noise_has_its_standard_deviation():
    clean, noisy = (draw(4, token_noise=noise) for noise in (0.0, 0.3))
    assert np.std(noisy.tokens - clean.tokens) == pytest.approx(0.3, rel=0.02)


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
    np.testing.assert_array_equal(ranks(jnp.asarray(values)), expected)
