"""Pruning of tokens: all cuts at once against shorter sequences, one by one, and the orders of removal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.attention import (
    Setting,
    Weights,
    draw_data,
    neurons,
    outputs_without,
    pattern_transformer,
    removals,
    removed_counts,
)
from theory_sim.simulation import trajectory


@pytest.fixture(scope="module")
def drawn():
    setting = Setting(patterns=5, relevant_fraction=0.4, confusion_fraction=0.2)
    return draw_data(jax.random.key(0), setting, dim=6, samples=7, tokens=5)[1]


def test_all_cuts_at_once_equal_shorter_sequences_one_by_one(drawn):
    rng = np.random.default_rng(0)
    weights = Weights(*(rng.normal(size=shape) for shape in ((6, 6), (6, 6), (6, 6), (8, 6))))
    removal = np.asarray(removals(drawn, drawn.tokens.dtype))
    together = outputs_without(weights, drawn.tokens, jnp.asarray(removal), 1.3)
    for order, places in enumerate(removal):
        for cut, count in enumerate(removed_counts(5)):
            for sample, tokens in enumerate(np.asarray(drawn.tokens)):
                shorter = tokens[places[sample] >= count]
                alone = neurons(weights, shorter[None], len(shorter), 1.3)[0]
                np.testing.assert_allclose(together[order, cut, sample], alone, atol=1e-10)


def test_orders_remove_what_they_say(drawn):
    irrelevant, noisy, random = np.asarray(removals(drawn, drawn.tokens.dtype))
    harm = np.where(drawn.irrelevant, 0, np.where(drawn.relevant, 2, 1))
    for sample in range(7):
        assert np.all(np.diff(harm[sample][np.argsort(irrelevant[sample])]) >= 0)
        assert np.all(np.diff(drawn.noise[sample][np.argsort(noisy[sample])]) <= 0)
        np.testing.assert_array_equal(random[sample], range(5))


@pytest.mark.parametrize("tokens", [1, 2, 5, 6, 12, 30])
def test_some_tokens_are_always_left(tokens):
    counts = removed_counts(tokens)
    assert counts[0] == 0
    assert counts[-1] < tokens
    assert len(counts) <= 6


def test_a_run_reports_its_loss_without_some_tokens():
    sizes = {"dim": 6, "tokens": 5, "max_width": 8, "samples": 12, "test_samples": 10, "batch": 4}
    simulation = pattern_transformer(**sizes, queries=5, geometry=False, pruning=False, token_pruning=True)
    problem = jax.jit(simulation.sample)(jax.random.key(1), simulation.setting)
    last = jax.jit(trajectory(simulation, [20]))(jax.random.key(2), problem, simulation.hyper)
    assert last["token_pruned_loss"].shape == (3, 5)
    # With all tokens as queries, removing none is the test loss itself.
    np.testing.assert_allclose(last["token_pruned_loss"][:, 0], last["test_loss"][0], rtol=1e-9)
