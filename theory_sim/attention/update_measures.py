"""Measures of the updates of one-layer attention, in results datasets: gaps, angles, energies, responses."""

import numpy as np
import xarray as xr
from jaxtyping import Float

from theory_sim.attention.rates import update_rank
from theory_sim.estimate import Estimate, bootstrap
from theory_sim.samples import at_last, by_seed

ROUNDING = 1e-6
"""The share of the first singular value below which others are equal: an adapter leaves zeros beyond its rank."""


def spectral_gap(data: xr.Dataset) -> Estimate:
    """Measure how many singular values come before the largest ratio of one to the next, after the last step.

    One number for each number of classes and each matrix.
    """
    values = by_seed(data.isel(step=-1), "singular_values", "classes", "matrix", "singular_value")
    ratios = values[..., :-1] / np.maximum(values[..., 1:], ROUNDING * values[..., :1])
    return bootstrap(1.0 + np.argmax(ratios, axis=-1))


def class_ranks(data: xr.Dataset) -> Float[np.ndarray, "classes matrices"]:
    """Return the predicted rank for each number of classes and each matrix."""
    ranks = np.asarray([update_rank(int(k)) for k in data["classes"]], float)
    return ranks[:, None] * np.ones(data.sizes["matrix"])


def active_angle(data: xr.Dataset, *dims: str, direction: int = 1) -> Estimate:
    """Measure an angle to the discriminative patterns at the last record with a training loss of at least 1/2.

    `direction` 1 is the largest angle; `dims` are what else varies. NaN in a run whose loss is below from the start on.
    """
    then = at_last(data.angle.sel(direction=direction), data.train_loss >= 0.5)
    samples = by_seed(data.assign(then=then), "then", *dims)
    return bootstrap(samples, window="last record with training loss >= 1/2")


def energy_along_training(data: xr.Dataset) -> Estimate:
    """Energy outside the top two directions after the last step, in units of that at a training loss of 1/2.

    NaN in a run that does not get there.
    """
    reached = data.step.where(data.train_loss <= 0.5).min("step")
    then = data.outside_energy.sel(step=reached.fillna(0).astype(int)).where(reached.notnull())
    ratio = data.assign(ratio=data.outside_energy.isel(step=-1) / then)
    return bootstrap(by_seed(ratio, "ratio", "matrix"), window="from training loss 1/2 to the last step")


def irrelevant_response(data: xr.Dataset) -> Estimate:
    """Largest response of an update to an irrelevant pattern, in units of that to the discriminative ones."""
    largest = data.response.sel(pattern=slice(3, None)).max("pattern")
    return bootstrap(by_seed(data.assign(largest=largest), "largest", "matrix"))


def unequal_response(data: xr.Dataset) -> Estimate:
    """How far the responses to the two discriminative patterns are from their mean, relative to it."""
    larger = data.response.sel(pattern=slice(1, 2)).max("pattern") - 1
    return bootstrap(by_seed(data.assign(larger=larger), "larger", "matrix"))
