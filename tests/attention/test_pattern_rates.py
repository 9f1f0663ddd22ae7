"""Predictions for the transformer on patterns against drawn data, and the fit of a boundary against a planted one."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

from theory_sim.attention import (
    Setting,
    class_ranks,
    dead_start,
    draw_data,
    energy_along_training,
    failing_share,
    mean_token_error,
    mean_token_samples,
    mean_token_spread,
    pattern_transformer,
    sampling_angle,
    spectral_gap,
)
from theory_sim.attention.network import neurons
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


def test_samples_of_the_mean_token_are_those_that_its_classes_difference_needs():
    fraction, tokens, noise, patterns, dim, error = 0.15, 16, 0.2, 16, 20, 0.05
    setting = Setting(
        patterns=patterns, relevant_fraction=fraction, confusion_fraction=0.0, token_noise=noise
    )
    draw = jax.jit(lambda key: draw_data(key, setting, dim=dim, samples=24_000, tokens=tokens))
    _, data = jax.tree.map(np.asarray, draw(jax.random.key(2)))
    means, signs = data.tokens.mean(axis=1), 1 - 2 * data.labels
    exact = mean_token_samples(fraction, tokens, noise, patterns=patterns, dim=dim, error=error)
    few, enough = (int(2 * np.round(factor * exact / 2)) for factor in (0.5, 1.0))
    errors = []
    for count in (few, enough):
        of_learners = []
        for each in range(200):
            rows = [np.flatnonzero(signs == sign)[each * count // 2 :][: count // 2] for sign in (1, -1)]
            assert len(rows[0]) == len(rows[1]) == count // 2
            one, other = (means[row].mean(axis=0) for row in rows)
            score = (means - (one + other) / 2) @ (one - other)
            of_learners.append(np.mean(score * signs <= 0))
        errors.append(np.mean(of_learners))
    assert abs(errors[1] - error) < 0.005 < errors[0] - error


def test_samples_of_the_mean_token_go_like_the_fourth_power_far_from_where_they_diverge():
    need = partial(mean_token_samples, tokens=64, token_noise=1e-3, patterns=1000, dim=1000, error=0.05)
    fractions = np.array([0.25, 0.5])
    spread = (1 - fractions) ** 2  # fewer irrelevant tokens spread less
    assert np.log2(np.divide(*(need(fractions) / spread))) == pytest.approx(4, abs=0.05)
    assert np.isinf(mean_token_samples(0.1, 16, 0.2, patterns=16, dim=16, error=0.05))


def test_spread_of_mean_tokens_and_their_sampling_angle_are_those_of_drawn_sequences():
    setting = Setting(patterns=10, relevant_fraction=0.4, confusion_fraction=0.1, token_noise=0.2)
    draw = jax.jit(lambda key: draw_data(key, setting, dim=12, samples=6400, tokens=20))
    mu, data = jax.tree.map(np.asarray, draw(jax.random.key(1)))
    known = 10, 0.4, 0.1
    for count in (20, 4):
        means = data.tokens[:, :count].mean(axis=1) @ mu.T
        expected = mean_token_spread(*known, 0.2, tokens=count, dim=12)
        off = means[:, 2:] - means[:, 2:].mean(axis=0)
        assert np.sqrt((off**2).sum(axis=1).mean()) == pytest.approx(expected, rel=0.05)
        pairs = [means[data.labels == label][:3000].reshape(100, 30, 12).mean(axis=1) for label in (0, 1)]
        difference = pairs[0] - pairs[1]
        angles = np.arctan2(
            np.linalg.norm(difference[:, 2:], axis=1), np.linalg.norm(difference[:, :2], axis=1)
        )
        predicted = sampling_angle(expected, 60, 0.4, 0.1)
        assert np.degrees(angles).mean() == pytest.approx(predicted, rel=0.15)


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


def test_the_energy_left_is_in_units_of_that_at_half_the_loss_and_nan_where_it_is_not_reached():
    dims = ("problem_seed", "step")
    loss = np.array([[1.0, 0.6, 0.4, 0.1], [1.0, 0.9, 0.8, 0.7]])
    energy = np.array([[0.0, 0.3, 0.2, 0.1], [0.0, 0.3, 0.2, 0.1]])[..., None]
    data = xr.Dataset(
        {
            "train_loss": (dims, loss),
            "outside_energy": ((*dims, "matrix"), energy),
            "complete": ("problem_seed", [True, True]),
        },
        {"step": [0, 1, 2, 3], "matrix": ["query"]},
    )
    np.testing.assert_allclose(energy_along_training(data.isel(problem_seed=[0])).value, 0.5)
    assert np.isnan(energy_along_training(data).value).all()


def test_the_gap_of_a_spectrum_ends_before_zeros_of_an_adapter_and_before_rounding():
    values = np.array([[3.0, 2.0, 1.0, 0.0, 0.0], [3.0, 0.1, 1e-12, 1e-17, 1e-18]])[:, None, None, None]
    dims = ("problem_seed", "classes", "matrix", "step", "singular_value")
    data = xr.Dataset(
        {"singular_values": (dims, values), "complete": (dims[:2], np.ones((2, 1), bool))},
        {"classes": [2], "matrix": ["query"], "step": [5]},
    )
    np.testing.assert_array_equal(spectral_gap(data.isel(problem_seed=[0])).value, 3)
    np.testing.assert_array_equal(spectral_gap(data.isel(problem_seed=[1])).value, 2)
    np.testing.assert_array_equal(class_ranks(data), [[2]])


@pytest.mark.parametrize("patterns", [4, 12])
def test_neurons_dead_at_the_start_are_those_that_the_gradient_of_their_class_never_reaches(patterns):
    simulation = pattern_transformer(
        dim=12, tokens=10, max_width=64, samples=40, test_samples=2, geometry=False, pruning=False
    )
    setting = simulation.setting._replace(patterns=patterns, relevant_fraction=0.3, confusion_fraction=0.2)
    uniform = simulation.hyper._replace(query_key_scale=0.0)

    @jax.vmap
    def silent(key):
        problem = simulation.sample(key, setting)
        start = simulation.init(jax.random.fold_in(key, 1), problem, uniform).weights
        active = neurons(start, problem.train.tokens, 4) > 0
        own = problem.train.labels[:, None] == np.arange(64) % 2
        return ~(active & own).any(axis=0)

    found = np.asarray(jax.jit(silent)(jax.random.split(jax.random.key(3), 200))).mean()
    expected = dead_start(patterns, 0.3, 0.2, tokens=10, samples=40, dim=12, token_noise=setting.token_noise)
    assert abs(found - expected) < 0.012
    assert expected > 0.05


def test_the_share_of_failures_is_that_of_classes_without_a_live_neuron():
    live = np.random.default_rng(0).uniform(size=(100_000, 6)) >= 0.3
    for classes in (2, 3):
        some = [live[:, first::classes].any(axis=1) for first in range(classes)]
        found = 1 - np.all(some, axis=0).mean()
        assert abs(found - failing_share(6, 0.3, classes)) < 0.005


def test_dead_neurons_are_counted_among_three_patterns_at_least():
    with pytest.raises(ValueError, match="patterns must be at least 3, got 2"):
        dead_start(2, 0.4, 0.1, tokens=4, samples=8, dim=4, token_noise=0.1)
