"""The intrinsic dimension read off curves of performance against d, with its interval, and what it describes.

d_int90 is the smallest dimension whose performance is 90% of a baseline: a fixed number for all networks (global;
1 for accuracies), or the direct training of the same network (individual). One value without its baseline says
little (SU-A1-P4). Source: arXiv:1804.08838 (SU-A1-F4, SU-A1-F5).

>>> dims = [100, 200, 400]
>>> scores = np.array([[0.5, 0.8, 1.0], [0.6, 0.9, 1.0]])
>>> round(intrinsic_dimension(dims, scores).value, 1)
266.7
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from theory_sim.estimate import Estimate, bootstrap, few_seeds, first_reach, resampled


def intrinsic_dimension(
    dims: Sequence[int] | np.ndarray,
    scores: Float[np.ndarray, "seeds dims"],
    *,
    baseline: float | Float[np.ndarray, " seeds"] = 1.0,
    share: float = 0.9,
    logarithmic: bool = False,
) -> Estimate:
    """Estimate the smallest dimension at which the mean score over seeds is `share` of the mean baseline.

    Linear interpolation, in d or in log d (`logarithmic`), between the first of the increasing `dims` whose mean is
    that high and the one before it; infinity where none is. `share` 0.9 gives d_int90 and 1 gives d_int100; `baseline`
    is a number (global) or the scores of direct training with the same seeds (individual). The interval is a bootstrap
    over seeds (`resampled`), scores and baseline of a seed being drawn together. Raises ValueError for sizes that do
    not fit.
    """
    curve = _Curve(*_checked(dims, scores, baseline), share, logarithmic)
    estimate = _bootstrap(curve.reach, len(curve.scores), curve.window, curve.finite)
    return estimate._replace(doubts=(*estimate.doubts, *curve.doubts))


def log_dimension_ratio(
    dims: Sequence[int] | np.ndarray,
    first: Float[np.ndarray, "seeds dims"],
    second: Float[np.ndarray, "seeds others"],
    *,
    others: Sequence[int] | np.ndarray | None = None,
    baselines: Sequence[float | Float[np.ndarray, " seeds"]] = (1.0, 1.0),
    share: float = 0.9,
    logarithmic: bool = False,
) -> Estimate:
    """Estimate the natural logarithm of the second intrinsic dimension over the first.

    The second curve has the same `dims`, or `others`. Seeds are resampled for both together: what they share
    (projection, weights, minibatches) cancels. Infinity where only the second is never reached, minus infinity where
    only the first is not, NaN where neither is. Interpolation and errors are those of `intrinsic_dimension`; ValueError
    also where the curves differ in their number of seeds.
    """
    a, b = (
        _Curve(*_checked(x, scores, baseline), share, logarithmic)
        for x, scores, baseline in zip(
            (dims, dims if others is None else others), (first, second), baselines, strict=True
        )
    )
    if len(a.scores) != len(b.scores):
        raise ValueError(f"both curves need the same seeds, got {len(a.scores)} and {len(b.scores)}")

    def of(seeds: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.log(b.reach(seeds)) - np.log(a.reach(seeds))

    window = a.window if others is None else f"{a.window}; {len(b.dims)}, {b.dims[0]:g} to {b.dims[-1]:g}"
    estimate = _bootstrap(of, len(a.scores), window, a.finite and b.finite)
    return estimate._replace(doubts=(*estimate.doubts, *(a.doubts or b.doubts)))


def solved_dimension(
    dims: Sequence[int] | np.ndarray, scores: Float[np.ndarray, "seeds dims"], *, level: float = 0.9
) -> Estimate:
    """Estimate the smallest of `dims` at which the median score over seeds reaches `level`; infinity where none does.

    No interpolation: for curves that jump from one whole dimension to the next.
    """
    x = np.asarray(dims)

    def first(runs: np.ndarray, axis: int) -> np.ndarray:
        solved = np.median(runs, axis=axis) >= level
        return np.where(solved.any(axis=-1), x[np.argmax(solved, axis=-1)], np.inf)

    return bootstrap(scores, first)


def solution_dimensions(
    dims: Sequence[int] | np.ndarray, missed: Float[np.ndarray, "seeds kinds dims"]
) -> Estimate:
    """Estimate the last of `dims` in which no subspace holds a solution, and the first in which every one does.

    `missed` is what the best point of a subspace leaves of the loss, for each draw and each kind of subspace; above
    1e-14 it is no solution, below 1e-20 it is one: least squares leave rounding errors of 1e-32, and no law of what is
    left has mass below 1e-14. Zero where every dimension holds some, infinity where none holds all.
    """
    x = np.asarray(dims)

    def ends(runs: np.ndarray, axis: int) -> np.ndarray:
        none, every = (outcome.all(axis=(axis, -2)) for outcome in (runs > 1e-14, runs < 1e-20))
        return np.stack([np.where(none, x, 0).max(axis=-1), np.where(every, x, np.inf).min(axis=-1)], axis=-1)

    return bootstrap(missed, ends)


def description_length(dim: int, *, levels: float = 2.0**32, seeds: int = 2) -> float:
    """Return the bits that describe a network found in a subspace: d numbers of `levels` values, and the seeds.

    The seeds, of theta_0 and of P, are 32 bits each. Source: arXiv:1804.08838, abstract (an upper bound on the minimum
    description length); SU-A1-F5, derived. Raises ValueError unless dim and seeds are at least 0 and levels at least 2.
    """
    if dim < 0 or seeds < 0 or levels < 2:
        raise ValueError(f"needs dim >= 0, seeds >= 0 and levels >= 2, got {dim}, {seeds} and {levels}")
    return dim * float(np.log2(levels)) + 32.0 * seeds


class _Curve(NamedTuple):
    """Scores of all seeds at increasing dimensions, with the baseline of each and the share of it that is asked for."""

    dims: np.ndarray
    scores: np.ndarray
    direct: np.ndarray
    share: float
    logarithmic: bool

    def reach(self, seeds: np.ndarray) -> np.ndarray:
        """Return the dimension at which the mean of the chosen seeds gets there."""
        x = np.log(self.dims) if self.logarithmic else self.dims
        level = self.share * self.direct[seeds].mean(axis=-1)
        reached = first_reach(x, self.scores[seeds].mean(axis=-2), level)
        return np.exp(reached) if self.logarithmic else reached

    @property
    def window(self) -> str:
        """What the estimate is made of."""
        form = "log-linear" if self.logarithmic else "linear"
        places = f"{len(self.dims)} dimensions, {self.dims[0]:g} to {self.dims[-1]:g}"
        return f"{self.share:.4g} of the baseline, {form} between {places}"

    @property
    def finite(self) -> bool:
        """Whether all runs are."""
        return bool(np.isfinite(self.scores).all() and np.isfinite(self.direct).all())

    @property
    def doubts(self) -> tuple[str, ...]:
        """That the dimension lies below all that were tried."""
        early = self.scores[:, 0].mean() >= self.share * self.direct.mean()
        return ("reached at the first dimension: it lies below",) if early else ()


def _checked(
    dims: Sequence[int] | np.ndarray, scores: np.ndarray, baseline: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, values = np.asarray(dims, dtype=float), np.asarray(scores, dtype=float)
    if x.ndim != 1 or not x.size or np.any(np.diff(x) <= 0):
        raise ValueError(f"dims must increase, got {x.tolist()}")
    if values.ndim != 2 or values.shape[1] != len(x) or not len(values):
        raise ValueError(f"scores must be [seeds, {len(x)} dims], got shape {values.shape}")
    direct = np.asarray(baseline, dtype=float)
    if direct.ndim > 1 or (direct.ndim == 1 and len(direct) != len(values)):
        raise ValueError(
            f"baseline must be a number or one for each of {len(values)} seeds, got {direct.shape}"
        )
    return x, values, np.broadcast_to(direct, len(values))


def _bootstrap(of: Callable[[np.ndarray], np.ndarray], count: int, window: str, finite: bool) -> Estimate:
    value = float(of(np.arange(count)))
    if not finite or count < 2:
        doubt = "one seed: no interval" if finite else "some runs are not finite"
        return Estimate(value, -np.inf, np.inf, window, (doubt,))
    low, high = resampled(count, of)
    return Estimate(value, float(low), float(high), window, few_seeds(count))
