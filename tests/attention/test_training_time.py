"""Measures of the training time on planted times: one clock, runs that never arrive, columns that were not computed."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from theory_sim import MatchesCurve, judge
from theory_sim.study import load_module

STUDY = load_module(Path(__file__).parents[2] / "sweeps" / "attention_training_time.py")
FRACTIONS, SIZES = np.array([0.2, 0.4, 0.8]), np.array([0.1, 0.4])
PREDICTION = MatchesCurve(1, relative_tolerance=0.15)


def planted(clock, last=1000):
    """Return losses that pass 0.1 at step `clock / (eta alpha_*)`, with 2% between seeds."""
    steps = np.arange(0, last + 1, 5)
    times = clock / (FRACTIONS[:, None] * SIZES) * np.linspace(0.99, 1.01, 5)[:, None, None]
    loss = 0.1 ** (steps / times[..., None])
    dims = ("problem_seed", "relevant_fraction", "step_size")
    values = {"test_loss": ((*dims, "step"), loss), "complete": (dims, np.ones(times.shape, bool))}
    return xr.Dataset(values, {"relevant_fraction": FRACTIONS, "step_size": SIZES, "step": steps})


def test_times_on_one_clock_agree():
    data = planted(9.0)
    found = STUDY.constancy(data, 0.1)
    np.testing.assert_allclose(found.value, 1, atol=0.01)
    assert judge(PREDICTION, found, data) == "agrees"


@pytest.mark.parametrize(
    ("last", "verdict"), [(300, "inconclusive"), (40, "inconclusive"), (20, "inconclusive")]
)
def test_runs_that_do_not_arrive_on_that_clock_refute_nothing(last, verdict):
    data = planted(9.0, last)
    found = STUDY.constancy(data, 0.1)
    assert judge(PREDICTION, found, data) == verdict
    assert any("a lower bound" in doubt for doubt in found.doubts)
    assert np.isnan(found.value).all() == (last == 20)


def test_a_bound_that_is_too_slow_refutes():
    data = planted(9.0)
    slow = data.assign(test_loss=data.test_loss.where(data.relevant_fraction > 0.2, 1.0))
    found = STUDY.constancy(slow, 0.1)
    assert judge(PREDICTION, found, slow) == "disagrees"
    np.testing.assert_allclose(found.value[1:], 1, atol=0.01)


def test_the_boundary_of_failure_skips_ratios_that_were_not_computed():
    ratios = np.array([0.0, 0.1, 0.2, 0.3])
    dims = ("problem_seed", "confusion_fraction")
    errors = np.broadcast_to([0.0, 0.0, 0.0, 0.5], (3, 4))[..., None]
    there = np.broadcast_to([True, False, True, True], (3, 4))
    data = xr.Dataset(
        {"test_error": ((*dims, "step"), errors), "complete": (dims, there)},
        {"confusion_fraction": ratios, "relevant_fraction": 0.5, "step": [10]},
    )
    # With a half and less than three tenths, counts of 12 tokens never tie: the least error is 0.
    assert STUDY.failure_boundary(data).value == pytest.approx(0.5)


@pytest.mark.parametrize(("axis", "power"), [("relevant_fraction", -1.0), ("step_size", -1.0)])
def test_the_exponent_of_a_planted_clock_is_found_along_each_axis(axis, power):
    found = STUDY.clock_exponent(planted(9.0), axis)
    np.testing.assert_allclose(found.value, power, atol=0.02)


@pytest.mark.parametrize(
    ("relevant", "confusion", "least"),
    # 6 of 12 own tokens against 3; always 6 against 6; 6 against 5 or 6; counts (5, 6), (6, 5): see the study.
    [(0.5, 0.25, 0.0), (0.5, 0.5, 0.5), (0.5, 5.5 / 12, 0.25), (0.45, 0.43, 0.38)],
)
def test_the_least_error_of_counts_is_that_of_ties_and_of_votes_lost(relevant, confusion, least):
    assert STUDY.count_error(relevant, confusion) == pytest.approx(least, abs=1e-3)
