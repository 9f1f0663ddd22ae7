"""The mean field against training in orthogonal noise, its boundaries, and chances by Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.attention import (
    benign_selection,
    first_boundary,
    least_label_noise,
    mean_field,
    selected_chance,
    signal_ratio,
)
from theory_sim.attention.benign import Problem
from theory_sim.attention.benign_rates import output_error
from theory_sim.simulation import rollout


def test_the_mean_field_is_training_in_orthogonal_noise_without_scores():
    simulation = benign_selection(inputs=10, tokens=5, test_inputs=2)
    plane, gram = jnp.zeros((51, 2)), 2000.0 * jnp.eye(51)
    problem = Problem(plane, gram, test=jnp.zeros((2, 5, 3)), dim=jnp.asarray(2000.0))
    run = jax.jit(rollout(simulation, [50]))
    for norm in (5.0, 80.0):
        found = run(jax.random.key(1), problem, simulation.hyper._replace(signal_norm=norm)).records
        expected = mean_field(norm, 2000.0, inputs=10, tokens=5, label_noise=0.2, steps=50)
        for name in ("clean_attention", "noisy_attention", "signal_ratio"):
            assert float(found[name][-1]) == pytest.approx(float(getattr(expected, name)), rel=1e-9)


def test_the_first_step_moves_noisy_inputs_away_below_the_first_boundary():
    edge = float(first_boundary(1000, inputs=20, tokens=8, label_noise=0.2))
    assert first_boundary(1000, inputs=20, tokens=8, label_noise=0.49) == np.inf
    found = mean_field(
        edge * np.array([0.99, 1.01]),
        1000,
        inputs=20,
        tokens=8,
        label_noise=0.2,
        rho=0.0,
        steps=1,
        step_size=0.01,
    )
    start = 1 / 8
    assert found.noisy_attention[0] < start < found.noisy_attention[1]


def test_early_signals_have_the_ratio_of_the_formula():
    sizes = {"inputs": 20, "tokens": 64, "label_noise": 0.2}
    found = mean_field(3.0, 1e5, **sizes, rho=0.0, steps=1, step_size=0.01)
    assert float(found.signal_ratio) == pytest.approx(float(signal_ratio(3.0, 1e5, **sizes)), rel=0.01)


def test_with_much_label_noise_noisy_inputs_win_however_strong_the_signal_is():
    few, many = least_label_noise() - 0.1, least_label_noise() + 0.03
    for noise, stays in ((few, True), (many, False)):
        found = mean_field(
            300.0, 1000.0, inputs=20, tokens=8, label_noise=noise, rho=0.0, steps=4000, step_size=0.25
        )
        assert (found.noisy_attention > 0.5) == stays


def test_chances_of_new_inputs_are_those_of_draws():
    rng = np.random.default_rng(1)
    z, scores = rng.normal(size=(2, 200_000, 6))
    part = np.array([1, 0.2, 0.2, 0, 0, 0])
    selected = np.mean((1.5 * part + z).argmax(axis=1) == 0)
    assert float(selected_chance(1.5, tokens=6, rho=0.2)) == pytest.approx(selected, abs=0.005)
    assert float(selected_chance(0.0, tokens=6)) == pytest.approx(1 / 6)
    weights = np.exp(0.6 * part + 0.8 * z)
    tokens = np.array([1, 0.2, -0.2, 0, 0, 0]) / np.sqrt(2) + scores / 2.5
    error = np.mean(np.sum(weights * tokens, axis=1) < 0)
    assert float(output_error(0.6, 0.8, 2.5, tokens=6, rho=0.2)) == pytest.approx(error, abs=0.01)
