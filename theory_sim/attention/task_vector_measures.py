"""Measures of the task-vector transformer, in results datasets: updates outside rank one, and rows by their start."""

import numpy as np
import xarray as xr

from theory_sim.attention.neuron_measures import at_largest
from theory_sim.attention.task_vector_rates import EARLY_LOSS
from theory_sim.estimate import Estimate, bootstrap
from theory_sim.samples import at_last, by_seed


def early_residual(data: xr.Dataset) -> Estimate:
    """Share of the norm outside rank one at each number of patterns, while attention counts as near uniform."""
    then = data.assign(share=_early(data))
    return bootstrap(
        by_seed(then, "share", "patterns"), window=f"last record with training loss >= {EARLY_LOSS}"
    )


def late_against_early(data: xr.Dataset) -> Estimate:
    """Share of the norm outside rank one after the last step, in units of that early in training."""
    ratio = data.relative_residual.isel(step=-1) / _early(data)
    return bootstrap(
        by_seed(data.assign(ratio=ratio), "ratio"), window=f"from loss {EARLY_LOSS} to the last step"
    )


def _early(data: xr.Dataset) -> xr.DataArray:
    return at_last(data.relative_residual, data.train_loss >= EARLY_LOSS)


def residual_against_loss(data: xr.Dataset) -> Estimate:
    """Log-log slope of the norm outside rank one against the training loss, along training.

    NaN in a run with fewer than two records of a training loss from 1/2 to 1/1000.
    """
    losses, residuals = by_seed(data, "train_loss", "step"), by_seed(data, "residual", "step")
    slopes = []
    for loss, residual in zip(losses, residuals, strict=True):
        inside = (loss <= 0.5) & (loss >= 1e-3)
        logs = np.log(loss[inside])
        centred = logs - logs.sum() / max(len(logs), 1)
        spread = centred @ centred
        slopes.append(centred @ np.log(residual[inside]) / spread if spread > 0 else np.nan)
    return bootstrap(np.array(slopes), window="training loss from 1/2 to 1/1000")


def residual_times_log(data: xr.Dataset) -> Estimate:
    """Norm outside rank one after the last step, times log M, in units of that of the fewest patterns."""
    norms = by_seed(data.isel(step=-1), "residual", "patterns") * np.log(data.patterns.to_numpy() - 2)
    return bootstrap(norms, _in_units_of_first)


def _in_units_of_first(norms: np.ndarray, axis: int) -> np.ndarray:
    means = norms.mean(axis)
    return means[..., 1:] / means[..., :1]


def norm_by_start(data: xr.Dataset) -> Estimate:
    """Norm of a group of rows of dV in units of the scale of V(0), at each scale."""
    return bootstrap(by_seed(data, "group_norm", "value_scale") / data.value_scale.to_numpy())


def norm_at_largest_start(data: xr.Dataset) -> float:
    """Return the same at the largest scale of V(0): what it is at each if rows move in proportion to it."""
    return at_largest(data, "group_norm", "value_scale") / float(data.value_scale[-1])
