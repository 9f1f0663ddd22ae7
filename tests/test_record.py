"""Measures of the last decade and the last step, on planted records."""

import numpy as np
import pytest
import xarray as xr

from theory_sim import decade, last, last_mean, last_share, late_exponent, late_slope, mean_exponent

STEPS = np.array([1, 10, 100, 200, 500, 1000])


def record(*curves, complete=None):
    """Return a dataset of one cell: a curve for each problem seed."""
    curves = np.array(curves, dtype=float)
    done = np.ones(len(curves), dtype=bool) if complete is None else np.asarray(complete)
    return xr.Dataset(
        {"y": (("problem_seed", "step"), curves), "complete": ("problem_seed", done)}, coords={"step": STEPS}
    )


def test_the_last_decade_holds_both_of_its_ends():
    assert decade(record(STEPS))["step"].to_numpy().tolist() == [100, 200, 500, 1000]


def test_the_last_step_is_that_of_each_seed_computed():
    data = record(STEPS, 2 * STEPS, 3 * STEPS, complete=[True, False, True])
    assert last(data, "y").tolist() == [1000, 3000]


def test_what_is_known_only_at_the_end_is_that_of_the_last_step_along_each_axis():
    data = record(STEPS, 3 * STEPS)
    data["end"] = (("problem_seed", "dim"), [[1.0, 2.0], [5.0, 8.0]])
    np.testing.assert_array_equal(last(data, "end", "dim"), [[1, 2], [5, 8]])
    np.testing.assert_array_equal(last_mean(data, "end", "dim").value, [3, 5])
    assert last_mean(data, "y").value == 2000


def test_a_share_divides_each_seed_by_its_own_prediction():
    data = record(STEPS, 2 * STEPS)
    found = last_share(data, "y", np.array([1000.0, 1000.0]))
    assert (found.value, found.low, found.high) == (1.5, 1.0, 2.0)
    assert found.window == "step 1000"
    assert last_share(data, "y").value == 1500
    assert last_share(data, "y", np.array([1000.0, 2000.0])).value == pytest.approx(1)


def test_late_exponents_are_those_of_the_last_decade_alone():
    bent = np.where(STEPS < 100, 7.0, 1e4 / STEPS**2.0)
    data = record(bent, 3 * bent, bent, bent, bent)
    assert late_exponent(data, "y").value == pytest.approx(-2)
    assert late_exponent(data, "y").doubts == ()
    assert mean_exponent(data, "y").value == pytest.approx(-2)


def test_a_mean_exponent_is_told_where_there_is_no_power_law():
    curve = np.exp(-STEPS / 300)
    assert late_exponent(record(curve, curve), "y").doubts
    found = mean_exponent(record(*[curve] * 5), "y")
    assert found.doubts == ()
    assert found.value == pytest.approx(-3 / np.log(10))


def test_a_curve_that_is_not_positive_has_no_mean_exponent():
    assert mean_exponent(record(STEPS, -STEPS), "y").doubts == ("1 of 2 runs are not finite",)


@pytest.mark.parametrize(("logarithmic", "x"), [(False, STEPS), (True, np.log(STEPS))])
def test_late_slopes_are_in_the_step_or_in_its_logarithm(logarithmic, x):
    data = record(5 + 2 * x, 1 + 4 * x)
    found = late_slope(data, "y", np.array([2.0, 4.0]), logarithmic=logarithmic)
    assert found.value == pytest.approx(1)
    assert found.window == "steps 100 to 1000"
    assert late_slope(data, "y", logarithmic=logarithmic).value == pytest.approx(3)
