"""What a claim predicts: a band for the estimate, and the words for the ledger."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr

from theory_sim.estimate import Estimate

Number = float | np.ndarray
Given = Number | Callable[[xr.Dataset], Any]


class Prediction(Protocol):
    """What a claim predicts: a band for the estimate, and the words for the ledger."""

    def band(self, data: xr.Dataset, estimate: Estimate) -> tuple[Number, Number]:
        """Return the lowest and the highest value that agree, elementwise."""

    def words(self, data: xr.Dataset) -> str:
        """Return the prediction in a few characters."""


class Equals(NamedTuple):
    """The estimate equals `value` within `tolerance`: numbers, arrays or functions of the claim's data."""

    value: Given
    tolerance: Given

    def band(self, data: xr.Dataset, estimate: Estimate) -> tuple[Number, Number]:
        """Return value - tolerance and value + tolerance."""
        value, tolerance = _given(self.value, data), _given(self.tolerance, data)
        return value - tolerance, value + tolerance

    def words(self, data: xr.Dataset) -> str:
        """Return for instance `-1 ± 0.02`."""
        return f"{_range(_given(self.value, data))} ± {_range(_given(self.tolerance, data), digits=3)}"


class AtMost(NamedTuple):
    """The estimate is at most `bound`."""

    bound: Given

    def band(self, data: xr.Dataset, estimate: Estimate) -> tuple[Number, Number]:
        """Return minus infinity and the bound."""
        return -np.inf, _given(self.bound, data)

    def words(self, data: xr.Dataset) -> str:
        """Return for instance `≤ 0.1`."""
        return f"≤ {_range(_given(self.bound, data))}"


class AtLeast(NamedTuple):
    """The estimate is at least `bound`."""

    bound: Given

    def band(self, data: xr.Dataset, estimate: Estimate) -> tuple[Number, Number]:
        """Return the bound and infinity."""
        return _given(self.bound, data), np.inf

    def words(self, data: xr.Dataset) -> str:
        """Return for instance `≥ 2`."""
        return f"≥ {_range(_given(self.bound, data))}"


class MatchesCurve(NamedTuple):
    """Every point of the estimate lies within `relative_tolerance` of the predicted `curve`."""

    curve: Given
    relative_tolerance: float

    def band(self, data: xr.Dataset, estimate: Estimate) -> tuple[Number, Number]:
        """Return the curve less and plus the tolerance."""
        curve = _given(self.curve, data)
        margin = self.relative_tolerance * np.abs(curve)
        return curve - margin, curve + margin

    def words(self, data: xr.Dataset) -> str:
        """Return for instance `curve ± 2%`."""
        return f"{_range(_given(self.curve, data))} ± {100 * self.relative_tolerance:.3g}%"


class Ordering(NamedTuple):
    """The estimates are strictly ordered along their axis: `increasing` or `decreasing`."""

    direction: str

    def band(self, data: xr.Dataset, estimate: Estimate) -> tuple[Number, Number]:
        """Return the band of the steps from each value to the next, in the direction predicted."""
        return 0.0, np.inf

    def words(self, data: xr.Dataset) -> str:
        """Return the direction."""
        return self.direction


def _given(value: Given, data: xr.Dataset) -> Any:
    return np.asarray(value(data), dtype=float) if callable(value) else np.asarray(value, dtype=float)


def _range(values: np.ndarray, digits: int = 4) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:.{digits}g}" if low == high else f"{low:.3g} .. {high:.3g}"
