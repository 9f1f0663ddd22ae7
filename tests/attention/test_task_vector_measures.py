"""Measures of what updates leave outside rank one, and of rows by their start, on planted records."""

import numpy as np
import pytest
import xarray as xr

from theory_sim.attention import (
    early_residual,
    late_against_early,
    norm_at_largest_start,
    norm_by_start,
    residual_against_loss,
    residual_times_log,
)

LOSS = np.array([1.0, 0.95, 0.9, 0.4, 0.1, 0.01, 0.0001])
RUNS = 5


def planted(**metrics):
    """Return a dataset of five equal runs, with the training loss `LOSS` along the steps."""
    steps = 8 * np.arange(len(LOSS))
    columns = {name: np.tile(np.asarray(values, float), (RUNS, 1)) for name, values in metrics.items()}
    return xr.Dataset(
        {name: (("problem_seed", "step"), values) for name, values in columns.items()}
        | {"complete": ("problem_seed", np.ones(RUNS, bool))},
        {"step": steps},
    )


def test_shares_are_those_of_the_last_record_with_a_loss_of_nine_tenths():
    data = planted(train_loss=LOSS, relative_residual=[7.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert late_against_early(data).value == pytest.approx(3)
    found = early_residual(data.expand_dims(patterns=[6, 16]))
    np.testing.assert_allclose(found.value, [0.2, 0.2])
    assert found.window == "last record with training loss >= 0.9"


@pytest.mark.parametrize("power", [-0.5, 0.0, 1.0])
def test_a_planted_power_of_the_loss_is_found_inside_its_window_alone(power):
    residual = np.where((LOSS > 0.5) | (LOSS < 1e-3), 9.0, LOSS**power)
    found = residual_against_loss(planted(train_loss=LOSS, residual=residual))
    assert found.value == pytest.approx(power)
    assert found.doubts == ()


def test_a_run_with_fewer_than_two_records_in_the_window_has_no_slope():
    loss = np.where(LOSS == 0.4, 0.4, 1.0)
    found = residual_against_loss(planted(train_loss=loss, residual=LOSS))
    assert np.isnan(found.value)
    assert found.doubts == ("5 of 5 runs are not finite",)


def test_a_norm_like_one_over_log_m_is_one_in_units_of_the_fewest_patterns():
    patterns = np.array([6, 10, 16])
    norms = np.ones((RUNS, 1, 1)) * np.stack([np.full(3, 9.0), 2 / np.log(patterns - 2)], axis=-1)
    data = xr.Dataset(
        {
            "residual": (("problem_seed", "patterns", "step"), norms),
            "complete": ("problem_seed", np.ones(RUNS, bool)),
        },
        {"patterns": patterns, "step": [0, 200]},
    )
    np.testing.assert_allclose(residual_times_log(data).value, [1, 1])


@pytest.mark.parametrize("power", [0, 1])
def test_norms_are_measured_in_units_of_their_start(power):
    scales = np.array([0.01, 0.04, 0.08])
    norms = xr.Dataset(
        {
            "group_norm": (("problem_seed", "value_scale"), np.tile(2 * scales**power, (RUNS, 1))),
            "complete": ("problem_seed", np.ones(RUNS, bool)),
        },
        {"value_scale": scales},
    )
    np.testing.assert_allclose(norm_by_start(norms).value, 2 * scales ** (power - 1))
    assert norm_at_largest_start(norms) == pytest.approx(2 * 0.08 ** (power - 1))
