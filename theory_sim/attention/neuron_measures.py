"""Measures of two groups of neurons, in results datasets: how they scale with the width, and what pruning one does."""

import xarray as xr

from theory_sim.estimate import Estimate, bootstrap, exponent
from theory_sim.samples import by_seed


def width_exponent(data: xr.Dataset, name: str) -> Estimate:
    """Fit the log-log slope of a metric against the width, over all widths."""
    widths = data.width.to_numpy()
    return exponent(widths, by_seed(data, name, "width"), window=(widths[0], widths[-1]))


def at_largest(data: xr.Dataset, name: str, axis: str = "width") -> float:
    """Return the mean of a metric at the largest value of an axis: what it is at each if it does not depend on it."""
    return float(by_seed(data, name, axis)[:, -1].mean())


def small_against_large(data: xr.Dataset) -> Estimate:
    """Norm of a row of the small group in units of that of one of the large group."""
    ratio = data.group_norm.sel(group="small") / data.group_norm.sel(group="large")
    return bootstrap(by_seed(data.assign(ratio=ratio), "ratio"))


def pruning_rise(data: xr.Dataset) -> Estimate:
    """Rise of the test loss when as many neurons are pruned as the small group has."""
    rise = data.group_pruned_loss - data.test_loss.isel(step=-1)
    return bootstrap(by_seed(data.assign(rise=rise), "rise"))
