"""Measures of the last decade of a record, and of its last step, in one cell of a results dataset.

>>> steps = np.array([1, 10, 100, 200, 500, 1000])
>>> loss = xr.DataArray([3.0 / steps, 5.0 / steps], dims=("problem_seed", "step"), coords={"step": steps})
>>> data = xr.Dataset({"loss": loss, "complete": ("problem_seed", [True, True])})
>>> decade(data)["step"].to_numpy().tolist(), last(data, "loss").tolist()
([100, 200, 500, 1000], [0.003, 0.005])
>>> round(float(late_exponent(data, "loss").value), 6), last_share(data, "loss", 0.004).window
(-1.0, 'step 1000')
"""

import numpy as np
import xarray as xr
from jaxtyping import Float

from theory_sim.estimate import Estimate, bootstrap, exponent
from theory_sim.samples import by_seed


def decade(data: xr.Dataset) -> xr.Dataset:
    """Return the last decade of the record."""
    return data.sel(step=slice(int(data["step"][-1]) / 10, None))


def last(data: xr.Dataset, name: str, *dims: str) -> Float[np.ndarray, "seeds ..."]:
    """Return a metric of each seed at the last step, or one known only then; `dims` are what else varies."""
    return by_seed(data.isel(step=-1), name, *dims)


def last_mean(data: xr.Dataset, name: str, *dims: str) -> Estimate:
    """Measure the mean of a metric at the last step, or of one known only then; `dims` are what else varies."""
    return bootstrap(last(data, name, *dims))


def last_share(data: xr.Dataset, name: str, curve: float | np.ndarray | xr.DataArray = 1.0) -> Estimate:
    """Measure a metric at the last step, in units of a prediction: one number, or one for each seed."""
    return bootstrap(last(data, name) / np.asarray(curve), window=f"step {int(data['step'][-1])}")


def late_exponent(data: xr.Dataset, name: str) -> Estimate:
    """Fit the exponent of a metric in the step over the last decade."""
    steps = data["step"].to_numpy()
    return exponent(steps, by_seed(data, name, "step"), window=(steps[-1] / 10, steps[-1]))


def late_slope(
    data: xr.Dataset, name: str, curve: float | np.ndarray | xr.DataArray = 1.0, *, logarithmic: bool
) -> Estimate:
    """Measure a metric's mean slope over the last decade, in the step or in its logarithm, in units of a prediction."""
    later = decade(data)
    x = later["step"].to_numpy().astype(float)
    x = np.log(x) if logarithmic else x
    values = by_seed(later, name, "step")
    slopes = (values[:, -1] - values[:, 0]) / (x[-1] - x[0])
    return bootstrap(
        slopes / np.asarray(curve), window=f"steps {later['step'].item(0)} to {later['step'].item(-1)}"
    )


def mean_exponent(data: xr.Dataset, name: str) -> Estimate:
    """Measure the mean slope of a metric's logarithm in that of the step over the last decade, a power law or not."""
    logs = data.assign(logarithm=np.log(data[name].where(data[name] > 0)))
    return late_slope(logs, "logarithm", logarithmic=True)
