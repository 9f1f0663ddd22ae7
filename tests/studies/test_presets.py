"""The claims of a study speak of cells that its presets hold, but for the smoke preset."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from theory_sim.study import find_studies, load_study

STUDIES = find_studies(Path(__file__).parents[2] / "sweeps")


def coordinates(sweep):
    """Return the axes of a sweep as the results label them: numbers, or words where not all are numbers."""
    labels = {}
    for name, values in sweep.axes.items():
        numbers = all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values)
        labels[name] = list(values) if numbers else [str(v) for v in values]
    return xr.Dataset(coords={name: (name, values) for name, values in labels.items()})


def runs_along(claim, data):
    """Whether a claim compares values of an axis of which the preset has one."""
    return any(
        axis in data.coords and data.sizes[axis] == 1 and np.size(values) > 1
        for axis, values in claim.at.items()
    )


@pytest.mark.parametrize("name", STUDIES)
def test_the_cells_of_every_claim_are_in_the_presets(name):
    study = load_study(str(STUDIES[name]))
    for preset in sorted(set(study.sweep.presets) - {"smoke"}):
        data = coordinates(study.sweep.with_preset(preset))
        # Presets of another name may hold one value of an axis, and leave out the claims along it.
        whole = preset in ("quick", "paper")
        claims = [claim for claim in study.claims if whole or not runs_along(claim, data)]
        assert claims, preset
        for claim in claims:
            for cells in (claim.at, claim.control):
                chosen = data.sel({axis: label for axis, label in cells.items() if axis in data.coords})
                empty = [axis for axis, size in chosen.sizes.items() if size == 0]
                assert not empty, f"{claim.ids}, {preset}: no values of {empty} at {cells}"
