"""From a results dataset to samples: which cells were computed, and a metric's values by independent seeds."""

import numpy as np
import xarray as xr
from jaxtyping import Float


def computed(data: xr.Dataset) -> xr.Dataset:
    """Return a results dataset without the values of its axes at which no cell was computed."""
    complete = data["complete"]
    kept = {name: complete.any([d for d in complete.dims if d != name]) for name in complete.dims}
    return data.isel({name: np.flatnonzero(mask) for name, mask in kept.items()})


def by_seed(data: xr.Dataset, name: str, *dims: str) -> Float[np.ndarray, "seeds ..."]:
    """Return a metric of one cell as samples: `[problem seeds, *dims]`, where `dims` are what else varies.

    Runs of one problem share it, so that they are no independent samples: they are averaged. Where one problem alone
    was asked for, its runs are the samples, `[run seeds, *dims]`, and what they tell is told of it. Seeds that were
    not computed at all `dims` are left out; runs that were not finite stay. Axes of length one are dropped.

    Raises ValueError for an axis of several values that is not among `dims`, and for one of `dims` that is none.
    """
    chosen = data
    if sample_axis(data) == "run_seed":
        chosen = chosen.isel(problem_seed=0, drop=True).rename(run_seed="problem_seed")
    chosen = computed(chosen)
    complete, values = chosen["complete"], chosen[name]
    if "run_seed" in complete.dims:
        total = values.where(complete, 0).sum("run_seed", skipna=False)
        count = complete.sum("run_seed")
        values, complete = total / count.where(count > 0), count > 0
    axes = [str(axis) for axis in values.dims if axis != "problem_seed"]
    extra = [axis for axis in axes if axis not in dims]
    for axis in extra:
        if (size := values.sizes[axis]) > 1:
            named = ", ".join(repr(each) for each in (*dims, axis))
            told = f"choose one in `at`, or name it in by_seed(..., {named})"
            raise ValueError(f"axis {axis!r} has {size} values here: {told}")
    for axis in dims:
        if axis not in axes:
            raise ValueError(f"{name} has no axis {axis!r} here to name in by_seed; axes: {', '.join(axes)}")
    whole = complete.all([d for d in complete.dims if d != "problem_seed"]).to_numpy()
    if not whole.any():
        return np.empty((0, *(values.sizes[axis] for axis in dims)))
    values = values.isel(problem_seed=np.flatnonzero(whole))
    return values.squeeze(extra, drop=True).transpose("problem_seed", *dims).to_numpy()


def sample_axis(data: xr.Dataset) -> str:
    """Return the axis whose seeds are independent samples: problems, or runs where one problem was asked for."""
    return "run_seed" if data.sizes["problem_seed"] == 1 and "run_seed" in data.sizes else "problem_seed"


def at_last(values: xr.DataArray, when: xr.DataArray) -> xr.DataArray:
    """Return a metric at the last record at which a condition holds, NaN where it holds at none.

    Step 0, at which nothing has moved, does not count.
    """
    last = values["step"].where(when & (when["step"] > 0)).max("step")
    return values.sel(step=last.fillna(values["step"][0]).astype(int)).where(last.notnull())
