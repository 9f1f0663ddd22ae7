"""Predictions for the transformer on patterns against drawn data, and the fit of a boundary against a planted one."""

from pathlib import Path

import jax
import numpy as np
import pytest

from theory_sim.attention import Setting, draw_data, mean_token_error
from theory_sim.study import load_module

STUDY = load_module(Path(__file__).parents[2] / "sweeps" / "attention_sample_complexity.py")


@pytest.mark.parametrize("fraction", [0.1, 0.2])
def test_error_of_the_mean_token_is_that_of_its_best_classifier(fraction):
    setting = Setting(patterns=8, relevant_fraction=fraction, confusion_fraction=0.0, token_noise=0.2)
    draw = jax.jit(lambda key: draw_data(key, setting, dim=8, samples=8000, tokens=12))
    mu, data = draw(jax.random.key(0))
    score = np.asarray(data.tokens.mean(axis=1) @ (mu[0] - mu[1]))
    found = np.mean((score < 0) != (np.asarray(data.labels) == 1))
    expected = mean_token_error(fraction, 12, 0.2)
    assert abs(found - expected) < 4 * np.sqrt(expected / 8000)


def test_the_boundary_of_a_planted_map_is_found():
    rng = np.random.default_rng(0)
    samples, fractions = np.log(np.geomspace(8, 512, 10)), np.log(np.geomspace(0.1, 0.3, 10))
    cells = np.stack([x.ravel() for x in np.broadcast_arrays(1.0, samples, fractions[:, None])], axis=-1)
    planted = np.array([4.0, 3.0, 7.5])
    chance = 1 / (1 + np.exp(-cells @ planted))
    runs = rng.uniform(size=(40, 200, 100)) < chance
    fitted = STUDY.logistic(cells, runs.mean(axis=1))
    ratios = fitted[:, 2] / fitted[:, 1]
    assert abs(ratios.mean() - 2.5) < 4 * ratios.std() / np.sqrt(40)
    assert ratios.std() < 0.1


def test_a_map_with_a_sharp_edge_has_a_finite_fit():
    samples, fractions = np.arange(5.0), np.arange(4.0)
    cells = np.stack([x.ravel() for x in np.broadcast_arrays(1.0, samples, fractions[:, None])], axis=-1)
    fitted = STUDY.logistic(cells, (cells[:, 1] + cells[:, 2] > 3.5).astype(float))
    assert np.isfinite(fitted).all()
    assert fitted[2] / fitted[1] == pytest.approx(1, rel=0.05)
