"""Measures of two groups of neurons, on planted norms and losses."""

import numpy as np
import pytest
import xarray as xr

from theory_sim.attention import (
    at_largest,
    pruning_rise,
    small_against_large,
    width_exponent,
)

FACTORS = np.array([0.9, 1.0, 1.0, 1.0, 1.1])
"""The runs differ by these factors, whose mean is 1."""


def planted(values, *dims, **coords):
    """Return a dataset of five runs of one metric, `values` times each factor."""
    runs = np.multiply.outer(FACTORS, np.asarray(values, float))
    return xr.Dataset(
        {"x": (("problem_seed", *dims), runs), "complete": ("problem_seed", np.ones(5, bool))}, coords
    )


def test_a_planted_exponent_in_the_width_is_found():
    widths = np.array([16, 32, 64, 128])
    data = planted(3 / np.sqrt(widths), "width", width=widths)
    found = width_exponent(data, "x")
    assert found.value == pytest.approx(-0.5)
    assert found.doubts == ()
    assert at_largest(data, "x") == pytest.approx(3 / np.sqrt(128))


def test_small_rows_are_measured_in_units_of_the_large_ones_of_their_run():
    norms = planted([0.05, 0.5], "group", group=["small", "large"]).rename(x="group_norm")
    assert small_against_large(norms)[:3] == pytest.approx((0.1, 0.1, 0.1))


def test_pruning_is_compared_with_the_loss_of_the_last_step():
    data = planted([5.0, 0.2], "step", step=[0, 100]).rename(x="test_loss")
    data["group_pruned_loss"] = ("problem_seed", 0.2 * FACTORS + [0.1, 0.2, 0.3, 0.4, 0.5])
    assert pruning_rise(data).value == pytest.approx(0.3)
