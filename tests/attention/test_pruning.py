"""Pruning at all fractions at once, and the two groups of row norms."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from theory_sim.attention import (
    UNIMODAL_SEPARATION,
    Weights,
    heads,
    kept,
    neurons,
    pruned_outputs,
    pruning_ranks,
    quantiles,
    two_groups,
)

SEEDS = st.integers(0, 2**31 - 1)
FRACTIONS = np.linspace(0, 1, 7)
GROUPS, PLACES = jax.jit(two_groups), jax.jit(pruning_ranks)


@given(SEEDS)
def test_all_fractions_at_once_equal_deleting_rows_one_by_one(seed):
    rng = np.random.default_rng(seed)
    weights = Weights(*(rng.normal(size=shape) for shape in ((3, 3), (3, 3), (3, 3), (8, 3))))
    tokens = rng.normal(size=(5, 4, 3))
    norms, shuffle = np.linalg.norm(weights.output, axis=1), rng.permutation(8)
    removal = pruning_ranks(jnp.asarray(norms), jnp.asarray(shuffle))
    head = heads(2, 8, most=2, width=8)
    outputs = pruned_outputs(neurons(weights, tokens, 2), head, removal, jnp.asarray(FRACTIONS))
    orders = np.argsort(norms), np.argsort(-norms), np.argsort(shuffle)
    for i, order in enumerate(orders):
        for j, fraction in enumerate(FRACTIONS):
            pruned = weights.output.copy()
            pruned[order[: round(fraction * 8)]] = 0
            expected = neurons(weights._replace(output=pruned), tokens, 2) @ head.T
            np.testing.assert_allclose(outputs[i, j], expected, atol=1e-12)


@given(st.permutations(range(9)), st.floats(0, 1))
def test_a_fraction_removes_its_number_of_neurons(places, fraction):
    mask = kept(jnp.asarray(places), jnp.asarray([fraction]))[0]
    assert int((~mask).sum()) == round(fraction * 9)
    assert not np.any(np.asarray(places)[mask] < (~mask).sum())


@given(SEEDS)
def test_the_split_is_the_best_of_all_splits(seed):
    norms = np.random.default_rng(seed).lognormal(size=12)
    logs = np.sort(np.log(norms))
    shares = [
        k * (12 - k) / 144 * (logs[k:].mean() - logs[:k].mean()) ** 2 / logs.var() for k in range(1, 12)
    ]
    groups = two_groups(jnp.asarray(norms))
    best = 1 + int(np.argmax(shares))
    assert float(groups.small_fraction) == pytest.approx(best / 12)
    assert float(groups.separation) == pytest.approx(max(shares))
    assert float(groups.large_norm) == pytest.approx(np.exp(logs[best:].mean()))
    assert float(groups.small_norm) == pytest.approx(np.exp(logs[:best].mean()))
    assert float(groups.threshold) == pytest.approx(np.exp(logs[best - 1 : best + 1].mean()))


def test_one_mode_stays_below_the_bound_and_two_exceed_it():
    rng = np.random.default_rng(0)
    gaussian, uniform = rng.normal(size=4000), rng.uniform(-1, 1, size=4000)
    assert float(two_groups(jnp.exp(gaussian)).separation) == pytest.approx(2 / np.pi, abs=0.02)
    assert float(two_groups(jnp.exp(uniform)).separation) == pytest.approx(UNIMODAL_SEPARATION, abs=0.02)
    chi = np.linalg.norm(rng.normal(size=(4000, 16)), axis=1)
    assert float(two_groups(jnp.asarray(chi)).separation) < UNIMODAL_SEPARATION
    two = np.concatenate([gaussian[:1000], gaussian[1000:] + 6])
    groups = two_groups(jnp.exp(two))
    assert float(groups.separation) > UNIMODAL_SEPARATION
    assert float(groups.small_fraction) == pytest.approx(0.25, abs=0.01)


@given(SEEDS, st.sampled_from([4, 9, 12]))
def test_neurons_that_are_not_in_use_do_not_matter(seed, count):
    rng = np.random.default_rng(seed)
    norms = np.concatenate([rng.lognormal(size=count), rng.choice([0.0, 5.0], size=12 - count)])
    shuffle, levels = rng.permutation(12), np.linspace(0, 1, 9)
    sliced = np.argsort(np.argsort(shuffle[:count]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
        GROUPS(jnp.asarray(norms), count),
        GROUPS(jnp.asarray(norms[:count])),
    )
    np.testing.assert_allclose(
        quantiles(jnp.asarray(norms), levels, count), quantiles(jnp.asarray(norms[:count]), levels)
    )
    removal = PLACES(jnp.asarray(norms), jnp.asarray(shuffle), count)
    few = PLACES(jnp.asarray(norms[:count]), jnp.asarray(sliced))
    np.testing.assert_array_equal(removal[:, :count], few)
    np.testing.assert_array_equal(kept(removal[0], levels, count)[:, :count], kept(few[0], levels))


def test_equal_norms_have_no_separation():
    assert float(two_groups(jnp.ones(5)).separation) == 0


def test_quantiles_at_the_values_own_levels_are_the_values():
    values = jax.random.normal(jax.random.key(0), (64,))
    np.testing.assert_allclose(quantiles(values, (jnp.arange(64) + 0.5) / 64), np.sort(values))
    assert float(quantiles(values, jnp.array([0.5]))[0]) == pytest.approx(np.median(values))
