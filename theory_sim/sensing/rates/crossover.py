r"""When the asymmetric factorisation overtakes the symmetric one, from small starts of one scale.

Both learn the signal, the symmetric one first: what counts at the start is `(F + G) / 2`, whose entries are smaller.
Then the symmetric error is held up by its tail of size `alpha^2`, and the asymmetric one, whose tail is smaller, falls
below.

>>> small, smaller = (symmetry_crossover(a, 1 / 3, 20, 4, [1.0, 0.5], 0.01) for a in (1e-3, 1e-4))
>>> round(float(smaller - small) * 0.01 * 0.5 / float(np.log(10)), 2)
2.0
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from theory_sim.sensing.rates.floors import asymmetric_small_start_error, symmetric_small_start_error
from theory_sim.sensing.rates.incremental import arrival_step, balanced_entry_variance, initial_share

Curve = NDArray[np.float64]


def symmetry_crossover(
    init_scale: float,
    right_scale: float,
    dim: int,
    rank: int,
    singular_values: Sequence[float],
    step_size: float,
) -> float:
    """Return the step from which on the asymmetric error is the lower one, from starts of one small scale (SE-1.4).

    For the population, square factors, an over-specified `rank` and a `right_scale` of at most 1. Typical starts stand
    for all: it is the median of crossovers, of which those where the asymmetric signal happens to be learnt first are
    much sooner.
    Derived: the squared error has the part of each direction not learnt yet, `sigma_s^2 (1 - p_s)^2` with the recursion
    of `arrival_step`; the tail, of `symmetric_small_start_error`; and what couples them, `sigma_s p_s ||E v_s||^2`
    from either side, where `E v_s -> (1 - eta sigma_s p_s) E v_s` is Gaussian at the start. Steps t after
    the arrival all of them are powers of `exp(-eta sigma_r t) / alpha`, times `alpha^2`, but for the tail: the curves
    cross at a fixed value of that. For e times less alpha the arrival is later by `1 / (eta sigma_r)`, and t is larger
    by as much.

    Raises ValueError for another rank or scale, and when the curves do not cross.
    """
    if rank <= len(singular_values) or not 0 < right_scale <= 1:
        told = f"needs rank > {len(singular_values)}, that of the target, and 0 < right_scale <= 1"
        raise ValueError(f"{told}, got {rank} and {right_scale}")
    values = np.asarray(singular_values, float)
    signal, variance = len(values), init_scale**2 / dim
    mean_variance = balanced_entry_variance(variance, variance * right_scale**2)
    directions = np.arange(signal)
    first, second = (
        initial_share(values, entry_variance=each, rank=rank, direction=directions)
        for each in (variance, mean_variance)
    )
    steps = 4 * int(arrival_step(values[-1], step_size, second[-1])) + 1
    rows = (dim - signal) * variance
    symmetric = _curve(steps, first, values, step_size, 2 * rows)
    asymmetric = _curve(steps, second, values, step_size, (1 + right_scale**2) * rows)
    lower = np.log(
        asymmetric + asymmetric_small_start_error(init_scale, right_scale, dim, dim, rank, signal) ** 2
    )
    lower = lower - np.log(symmetric + symmetric_small_start_error(init_scale, dim, rank, signal) ** 2)
    last = int(np.flatnonzero(np.append(True, lower > 0))[-1]) - 1
    if not 0 <= last < steps:
        raise ValueError(f"the errors do not cross within {steps} steps from starts of scale {init_scale}")
    return float(last + lower[last] / (lower[last] - lower[last + 1]))


def _curve(steps: int, share: Curve, values: Curve, step_size: float, coupling: float) -> Curve:
    """Return the squared error without the tail, of which `coupling` is `||E v||^2` of both sides at the start."""
    speed, left, squares = step_size * values, np.ones_like(values), []
    for _ in range(steps + 1):
        squares.append(np.sum((values * (1 - share)) ** 2 + coupling * values * share * left**2))
        left = left * (1 - speed * share)
        share = share * (1 + speed * (1 - share)) ** 2
    return np.array(squares)
