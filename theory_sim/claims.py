"""Executable claims: a statement with its source, an estimate, a prediction, and a control that must fail.

The verdict follows from the interval alone: a claim agrees when the whole interval lies inside the predicted
band, disagrees when all of it lies outside, and is inconclusive otherwise. A claim about many cells agrees when each
does, and disagrees when one does; for that the intervals are widened to hold all at once, because of twenty that
hold by themselves one fails. The control is the same measurement on cells where the theory says that the statement
does not hold; a claim whose control is not rejected proves nothing, and is reported as broken.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from theory_sim.errors import RequestError
from theory_sim.estimate import LEVEL, Estimate
from theory_sim.predictions import Equals, MatchesCurve, Number, Ordering, Prediction
from theory_sim.samples import sample_axis

LABELS = ("paper", "derived", "unconfirmed")


@dataclass(frozen=True)
class Claim:
    """A theorem's statement, ready to be tested on a results dataset.

    `measure` takes the dataset at the cells `at` (as `Dataset.sel` takes them) and returns an `Estimate`; the
    control is `measure` at the cells `control`. `label` says where the predicted number comes from: `paper`,
    `derived` (then `derivation` gives it in two lines) or `unconfirmed`. `tolerance_reason` says why the
    prediction is as wide as it is; it is written before measuring. `remark` says, after measuring, what is known of
    why a claim does not agree.

    Raises RequestError when a part is missing.
    """

    ids: Sequence[str]
    statement: str
    source: str
    label: str
    measure: Callable[[xr.Dataset], Estimate]
    prediction: Prediction
    control: Mapping[str, Any] = field(default_factory=dict)
    control_reason: str = ""
    at: Mapping[str, Any] = field(default_factory=dict)
    derivation: str = ""
    tolerance_reason: str = ""
    remark: str = ""

    def __post_init__(self) -> None:
        ids = [self.ids] if isinstance(self.ids, str) else list(self.ids)
        object.__setattr__(self, "ids", tuple(ids))
        if not ids or not all(ids):
            raise RequestError(f"a claim needs at least one id: {self.statement!r}")
        name = ids[0]
        for kind in ("at", "control"):
            cells = getattr(self, kind)
            if not isinstance(cells, Mapping):
                raise RequestError(f"claim {name}: {kind} must be a dict from axes to values, got {cells!r}")
        if self.label not in LABELS:
            raise RequestError(f"claim {name}: label must be one of {', '.join(LABELS)}, got {self.label!r}")
        if self.label == "derived" and not self.derivation:
            raise RequestError(f"claim {name}: a derived prediction needs its derivation")
        if not self.control or not self.control_reason:
            lacking = "control, cells on which it must be rejected" if not self.control else "control_reason"
            raise RequestError(f"claim {name}: a claim needs a {lacking}")
        self._check_prediction(name)

    def _check_prediction(self, name: str) -> None:
        if not hasattr(self.prediction, "band"):
            raise RequestError(
                f"claim {name}: prediction must be Equals, AtMost, AtLeast, MatchesCurve or Ordering, "
                f"got {self.prediction!r}"
            )
        if isinstance(self.prediction, Ordering) and self.prediction.direction not in (
            "increasing",
            "decreasing",
        ):
            raise RequestError(f"claim {name}: Ordering is 'increasing' or 'decreasing'")
        if isinstance(self.prediction, Equals | MatchesCurve):
            width = self.prediction[1]
            if not callable(width) and not (np.asarray(width) >= 0).all():
                raise RequestError(f"claim {name}: a tolerance must be at least 0, got {width}")
            if not self.tolerance_reason:
                raise RequestError(f"claim {name}: a tolerance needs its tolerance_reason")


class Finding(NamedTuple):
    """One line of the ledger: a claim, what was measured, and what follows.

    `control_cells` says in how many of the control's cells, of how many, the prediction is refuted; a curve counts
    as one. A control is rejected when one of them is.
    """

    study: str
    claim: str
    ids: tuple[str, ...]
    source: str
    label: str
    predicted: str
    measured: float
    low: float
    high: float
    verdict: str
    control: str
    control_measured: float
    control_cells: tuple[int, int]
    window: str
    doubts: tuple[str, ...]
    remark: str

    @property
    def good(self) -> bool:
        """Whether the claim was not refuted and its control was rejected."""
        return self.verdict != "disagrees" and self.control == "rejected"

    def record(self) -> dict[str, Any]:
        """Return the finding for programs: JSON types only, numbers that are not finite as None."""
        plain = self._asdict() | {"ids": list(self.ids), "doubts": list(self.doubts)}
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in plain.items()}


def judge(prediction: Prediction, estimate: Estimate, data: xr.Dataset, seeds: float | None = None) -> str:
    """Return `agrees`, `disagrees` or `inconclusive`, from the interval alone.

    A doubted estimate never agrees, nor does one without numbers to compare. The prediction is that for `data`, of
    whose `seeds` the estimate is unless told.
    """
    value, low, high = _compared(prediction, estimate)
    below, above = prediction.band(data, estimate)
    if np.isnan(np.asarray(value)).any() or _lacking(prediction, estimate, data):
        return "inconclusive"
    if _refuted(prediction, estimate, data, seeds)[0]:
        return "disagrees"
    inside = np.all((np.asarray(low) >= below) & (np.asarray(high) <= above))
    return "agrees" if inside and not estimate.doubts else "inconclusive"


def _lacking(prediction: Prediction, estimate: Estimate, data: xr.Dataset) -> str:
    """Return why there is nothing to compare, or an empty string: of no numbers at all, anything would hold."""
    value, _, _ = _compared(prediction, estimate)
    if np.broadcast(value, *prediction.band(data, estimate)).size:
        return ""
    alone = isinstance(prediction, Ordering) and np.size(estimate.value)
    return "an ordering needs at least two values" if alone else "nothing was measured"


def _refuted(
    prediction: Prediction,
    estimate: Estimate,
    data: xr.Dataset,
    seeds: float | None,
    *,
    together: bool = True,
) -> tuple[int, int]:
    """Return how many of the compared numbers lie outside of the band, whole intervals; a curve is one number.

    Intervals that hold `together` are wider than each by itself.
    """
    value, low, high = _compared(prediction, estimate)
    below, above = prediction.band(data, estimate)
    if together:
        stretch = _together(max(np.size(value), 1), _seeds(data) if seeds is None else seeds)
        low, high = (_stretched(value, end, stretch) for end in (low, high))
    outside = np.asarray((np.asarray(low) > above) | (np.asarray(high) < below))
    if isinstance(prediction, MatchesCurve):
        outside = np.asarray(outside.any())
    return int(outside.sum()), outside.size


def _together(count: int, seeds: float) -> float:
    """Return how much wider `count` intervals must be to hold at once than each to hold by itself.

    Bonferroni: Student's quantile at a `count`-th of the level, with the freedom of the samples.
    """
    one, each = (stdtrit(seeds - 1, 1 - (1 - LEVEL) / (2 * number)) for number in (1, count))
    return float(each / one)


def _seeds(data: xr.Dataset) -> float:
    """Return the number of samples that estimates on these cells have, the smallest; infinity where none is told."""
    if "complete" not in data or "problem_seed" not in data["complete"].dims:
        return np.inf
    complete, sample = data["complete"], sample_axis(data)
    other = "problem_seed" if sample == "run_seed" else "run_seed"
    any_of = complete.any(other) if other in complete.dims else complete
    counts = any_of.sum(sample).to_numpy().astype(float)
    return max(float(counts[counts > 0].min(initial=np.inf)), 2.0)


def _stretched(value: Number, end: Number, stretch: float) -> np.ndarray:
    value, end = np.asarray(value), np.asarray(end)
    with np.errstate(invalid="ignore"):  # a level that is never reached lies at infinity, and so do its ends
        moved = value + stretch * (end - value)
    return np.where(np.isfinite(moved), moved, end)


def verify(claim: Claim, data: xr.Dataset, study: str = "") -> Finding:
    """Measure a claim and its control on a dataset.

    Cells that are not in the dataset, or a measurement that fails, make the claim inconclusive and say why.
    """
    chosen, nothing = _select(data, claim.at), _unmeasured()
    if isinstance(chosen, str):
        return _finding(claim, study, "", _unmeasured(chosen), nothing)
    try:
        predicted = claim.prediction.words(chosen)
    except Exception as error:  # a prediction is a user's code: one broken claim must not hide the others
        why = f"no prediction: {type(error).__name__}: {error}"
        return _finding(claim, study, "", _unmeasured(why), nothing)
    return _finding(
        claim, study, predicted, *(_judged(claim, data, c, chosen) for c in (claim.at, claim.control))
    )


class _Judged(NamedTuple):
    verdict: str
    worst: tuple[float, float, float]
    window: str
    doubts: tuple[str, ...]
    refuted: tuple[int, int] = (0, 0)


def _unmeasured(*doubts: str) -> _Judged:
    return _Judged("inconclusive", (np.nan,) * 3, "", doubts)


def _finding(claim: Claim, study: str, predicted: str, claimed: _Judged, control: _Judged) -> Finding:
    rejected = control.verdict == "disagrees"
    doubts = claimed.doubts + (() if rejected else tuple(f"control: {doubt}" for doubt in control.doubts))
    return Finding(
        study=study,
        claim=claim.statement,
        ids=tuple(claim.ids),
        source=claim.source,
        label=claim.label,
        predicted=predicted,
        measured=claimed.worst[0],
        low=claimed.worst[1],
        high=claimed.worst[2],
        verdict=claimed.verdict,
        control="rejected" if rejected else "passed",
        control_measured=control.worst[0],
        control_cells=control.refuted,
        window=claimed.window,
        doubts=doubts,
        remark=claim.remark,
    )


def _judged(claim: Claim, data: xr.Dataset, cells: Mapping[str, Any], chosen: xr.Dataset) -> _Judged:
    """Measure on some cells, and judge by the prediction for the claim's own cells."""
    estimate = _measure(claim, data, cells)
    if isinstance(estimate, str):
        return _unmeasured(estimate)
    try:
        worst = _worst(claim.prediction, estimate, chosen)
        measured = _select(data, cells)
        seeds = _seeds(chosen if isinstance(measured, str) else measured)
        verdict = judge(claim.prediction, estimate, chosen, seeds)
        refuted = _refuted(claim.prediction, estimate, chosen, seeds)
        alone = _refuted(claim.prediction, estimate, chosen, seeds, together=False)
        doubts = estimate.doubts
        if lacking := _lacking(claim.prediction, estimate, chosen):
            doubts = (*doubts, lacking)
        if alone[0] and not refuted[0] and np.size(estimate.value) > 1:
            doubts = (*doubts, "outside by its own interval, not by one that holds together with all others")
        return _Judged(verdict, worst, estimate.window, doubts, refuted)
    except ValueError as error:  # shapes that do not fit: the control has other axes than the claim
        return _unmeasured(f"cannot compare with the prediction: {error}")


def _select(data: xr.Dataset, cells: Mapping[str, Any]) -> xr.Dataset | str:
    """Return the dataset at some cells, or one line that says that it has none."""
    try:
        return data.sel(cells)
    except Exception:  # as above: what a dataset cannot select by raises almost anything
        for name, value in cells.items():
            if name not in data.dims:
                return f"the results have no axis {name!r}; axes: {', '.join(map(str, data.dims))}"
            values = data[name].to_numpy()
            if not np.isin(np.ravel(np.asarray(value)), values).all():
                return f"the results hold no {name}={value}; values: {', '.join(map(str, values.tolist()))}"
        return f"the results hold no cell {', '.join(f'{name}={value}' for name, value in cells.items())}"


def _measure(claim: Claim, data: xr.Dataset, cells: Mapping[str, Any]) -> Estimate | str:
    """Return the measurement at some cells, or one line that says why there is none."""
    chosen = _select(data, cells)
    if isinstance(chosen, str):
        return chosen
    try:
        measured = claim.measure(chosen)
    except Exception as error:  # as above
        return f"measuring failed: {type(error).__name__}: {error}"
    if not isinstance(measured, Estimate):
        got = type(measured).__name__
        return f"measure must return a theory_sim.Estimate (of bootstrap, exponent, rate, ...), got {got}"
    return measured


def _compared(prediction: Prediction, estimate: Estimate) -> tuple[Number, Number, Number]:
    """Return the numbers that the band is compared with: the estimate, or its steps for an ordering."""
    if not isinstance(prediction, Ordering):
        return estimate.value, estimate.low, estimate.high
    value, low, high = (np.atleast_1d(part) for part in estimate[:3])
    if prediction.direction == "decreasing":
        value, low, high = -value, -high, -low
    with np.errstate(invalid="ignore"):  # from infinity to infinity there is no telling
        return np.diff(value), low[1:] - high[:-1], high[1:] - low[:-1]


def _worst(prediction: Prediction, estimate: Estimate, data: xr.Dataset) -> tuple[float, float, float]:
    """Return value and interval at the point farthest out of, or nearest to the edge of, the band."""
    below, above = prediction.band(data, estimate)
    value, low, high, below, above = np.broadcast_arrays(*_compared(prediction, estimate), below, above)
    if value.size == 0:
        return np.nan, np.nan, np.nan
    with np.errstate(invalid="ignore"):  # an infinite interval against an infinite band
        outside = np.maximum(below - low, high - above)
    if isinstance(prediction, MatchesCurve):
        outside = outside / np.maximum(np.abs(above + below) / 2, 1e-300)
    at = int(np.argmax(np.where(np.isnan(outside), np.inf, outside)))
    return float(value.flat[at]), float(low.flat[at]), float(high.flat[at])
