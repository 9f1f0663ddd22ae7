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

import numpy as np
from jaxtyping import Float

from theory_sim.estimate import Estimate, few_seeds, first_reach, resampled


def intrinsic_dimension(
    dims: Sequence[int] | np.ndarray,
    scores: Float[np.ndarray, "seeds dims"],
    *,
    baseline: float | Float[np.ndarray, " seeds"] = 1.0,
    share: float = 0.9,
) -> Estimate:
    """Estimate the smallest dimension at which the mean score over seeds is `share` of the mean baseline.

    Linear interpolation between the first of the increasing `dims` whose mean is that high and the one before it;
    infinity where none is. `share` 0.9 gives d_int90 and 1 gives d_int100; `baseline` is a number (global) or the
    scores of direct training with the same seeds (individual). The interval is a bootstrap over seeds (`resampled`),
    scores and baseline of a seed being drawn together. Raises ValueError for sizes that do not fit.
    """
    dims, scores, direct = _checked(dims, scores, baseline)

    def of(seeds: np.ndarray) -> np.ndarray:
        return first_reach(dims, scores[seeds].mean(axis=-2), share * direct[seeds].mean(axis=-1))

    window = (
        f"{share:.4g} of the baseline, linear between {len(dims)} dimensions, {dims[0]:g} to {dims[-1]:g}"
    )
    estimate = _bootstrap(
        of, len(scores), window, bool(np.isfinite(scores).all() and np.isfinite(direct).all())
    )
    if estimate.value == dims[0]:
        return estimate._replace(doubts=(*estimate.doubts, "reached at the first dimension: it lies below"))
    return estimate


def log_dimension_ratio(
    dims: Sequence[int] | np.ndarray,
    first: Float[np.ndarray, "seeds dims"],
    second: Float[np.ndarray, "seeds dims"],
    *,
    baselines: Sequence[float | Float[np.ndarray, " seeds"]] = (1.0, 1.0),
    share: float = 0.9,
) -> Estimate:
    """Estimate the natural logarithm of the second intrinsic dimension over the first.

    Seeds are resampled for both together: what they share (projection, weights, minibatches) cancels. Infinity where
    only the second is never reached, minus infinity where only the first is not, NaN where neither is.
    """
    x, first, direct_first = _checked(dims, first, baselines[0])
    _, second, direct_second = _checked(dims, second, baselines[1])
    if len(first) != len(second):
        raise ValueError(f"both curves need the same seeds, got {len(first)} and {len(second)}")

    def of(seeds: np.ndarray) -> np.ndarray:
        pairs = ((first, direct_first), (second, direct_second))
        with np.errstate(invalid="ignore"):
            a, b = (
                np.log(first_reach(x, scores[seeds].mean(axis=-2), share * direct[seeds].mean(axis=-1)))
                for scores, direct in pairs
            )
            return b - a

    finite = all(np.isfinite(array).all() for array in (first, second, direct_first, direct_second))
    window = f"{share:.4g} of the baseline, linear between {len(x)} dimensions, {x[0]:g} to {x[-1]:g}"
    estimate = _bootstrap(of, len(first), window, bool(finite))
    curves = ((first, direct_first), (second, direct_second))
    if any(scores[:, 0].mean() >= share * direct.mean() for scores, direct in curves):
        return estimate._replace(doubts=(*estimate.doubts, "reached at the first dimension: it lies below"))
    return estimate


def description_length(dim: int, *, levels: float = 2.0**32, seeds: int = 2) -> float:
    """Return the bits that describe a network found in a subspace: d numbers of `levels` values, and the seeds.

    The seeds, of theta_0 and of P, are 32 bits each. Source: arXiv:1804.08838, abstract (an upper bound on the minimum
    description length); SU-A1-F5, derived. Raises ValueError unless dim and seeds are at least 0 and levels at least 2.
    """
    if dim < 0 or seeds < 0 or levels < 2:
        raise ValueError(f"needs dim >= 0, seeds >= 0 and levels >= 2, got {dim}, {seeds} and {levels}")
    return dim * float(np.log2(levels)) + 32.0 * seeds


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
