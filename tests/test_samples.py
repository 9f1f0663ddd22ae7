"""From datasets to samples: what was computed, and a metric by independent seeds."""

import numpy as np
import pytest
import xarray as xr

from tests.examples import seeded
from theory_sim import (
    at_last,
    by_seed,
    computed,
)


def test_computed_leaves_out_what_was_computed_nowhere():
    assert computed(seeded()).sizes == {"problem_seed": 3, "run_seed": 2, "dim": 2}


def test_at_last_leaves_out_step_0_and_what_never_held():
    steps = {"step": [0, 8, 16, 24]}
    values = xr.DataArray([[5.0, 1, 2, 3], [5, 6, 7, 8], [5, 0, 0, 9]], dims=("run", "step"), coords=steps)
    loss = values.copy(data=[[1.0, 0.95, 0.9, 0.1], [1, 0.5, 0.3, 0.2], [1, 0.5, 0.3, 0.9]])
    np.testing.assert_array_equal(at_last(values, loss >= 0.9), [2, np.nan, 9])


def test_by_seed_averages_the_runs_of_a_problem_that_were_computed():
    data = seeded()
    x = data["x"].to_numpy()
    expected = [x[0].mean(axis=0)[:2], x[1].mean(axis=0)[:2], x[2, 0, :2]]
    np.testing.assert_array_equal(by_seed(data, "x", "dim"), expected)


def test_by_seed_takes_the_runs_of_the_only_problem_as_samples():
    one = seeded().isel(problem_seed=[1])
    np.testing.assert_array_equal(by_seed(one, "x", "dim"), one["x"].to_numpy()[0, :, :2])
    both = by_seed(seeded().isel(run_seed=[0]), "x", "dim")
    assert both.shape == (3, 2)
    finished = seeded()
    finished["complete"][[0, 2]] = False  # of many problems one alone is computed: its runs stay one sample
    assert by_seed(finished, "x", "dim").shape == (1, 2)


def test_by_seed_names_the_axis_that_is_forgotten_or_is_none():
    data = seeded()
    with pytest.raises(ValueError, match=r"axis 'dim' has 2 values here: choose one in `at`, .*, 'dim'\)$"):
        by_seed(data, "x")
    for axis in ("width", "run_seed", "problem_seed"):
        with pytest.raises(ValueError, match=f"x has no axis '{axis}' here to name in by_seed; axes: dim$"):
            by_seed(data, "x", "dim", axis)


def test_by_seed_keeps_a_run_that_was_not_finite():
    data = seeded()
    data["x"][1, 0, 0] = np.nan
    rows = by_seed(data, "x", "dim")
    assert len(rows) == 3
    assert np.isnan(rows[1, 0])
    assert np.isfinite(np.delete(rows.ravel(), 2)).all()
