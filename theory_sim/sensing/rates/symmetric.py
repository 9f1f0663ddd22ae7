r"""Predictions for matrix sensing: pure functions from parameters to curves, rates and lengths.

`X = U S + U_perp E`, where `U` spans the range of the target. Unless said otherwise they are for the population
operator, `A*A = I`.

>>> float(plateau_length(step_size=0.05, init_scale=1.0))
10.0
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]


def symmetric_error_curve(step: ArrayLike, tail_start: ArrayLike, step_size: ArrayLike) -> Curve:
    """Return `||X_t X_t^T - M*||_F` of an over-specified run, once its signal has converged (SE-1-P1).

    `tail_start` has its modes on the last axis: the squared singular values `s_i(0)` of `E_0 V_perp`; zeros
    stand for no mode. `step` and `step_size` broadcast against its other axes. Derived: on `V_perp`, the null space of
    the start's signal `U^T X_0`, which leaves it by a relative `alpha^2` only while the signal is learnt, a gradient
    step is `E - eta E E^T E`, so `s -> s (1 - eta s)^2`, solved by `s / (1 + 2 eta t s)` up to a fraction of
    order `log(t) / t`; the error is the norm of the `s_i`.
    """
    start = np.asarray(tail_start, float)
    elapsed = (2 * np.asarray(step_size, float) * np.asarray(step, float))[..., None]
    return np.asarray(np.linalg.norm(start / (1 + elapsed * start), axis=-1))


def symmetric_error_asymptote(
    step: ArrayLike, rank: ArrayLike, true_rank: ArrayLike, step_size: ArrayLike
) -> Curve:
    """Return `sqrt(k - r) / (2 eta t)`, which over-specified runs reach from any start (SE-1-P1).

    Derived: `symmetric_error_curve` of `k - r` modes when every `2 eta t s_i(0)` is large. Zero at exact rank.
    """
    excess = np.sqrt(np.asarray(rank, float) - np.asarray(true_rank, float))
    return np.asarray(excess / (2 * np.asarray(step_size, float) * np.asarray(step, float)))


def symmetric_asymptote_gap(
    step: ArrayLike, dim: ArrayLike, rank: ArrayLike, step_size: ArrayLike, init_scale: ArrayLike
) -> Curve:
    """Return the fraction by which the curve lies below its asymptote: first order, mean over starts.

    Derived: a mode lies below by `1 / (2 eta t s)`, and the mean of `alpha^2 / s` over the modes of a Gaussian
    `(n - r) x (k - r)` matrix of variance `alpha^2 / n` is that of an inverse Wishart, `n / (n - k - 1)`.
    Needs `rank < dim - 1`.
    """
    size = np.asarray(dim, float)
    mean_inverse = size / (size - np.asarray(rank, float) - 1)
    return np.asarray(mean_inverse * plateau_length(step_size, init_scale) / np.asarray(step, float))


def symmetric_linear_rate(step_size: ArrayLike, smallest_singular_value: ArrayLike) -> Curve:
    """Return the slope of the log error per step at exact rank, `log(1 - eta sigma_r)` (SE-1-P2).

    Derived: the slowest term is `U S E^T`; `E_{t+1} = E_t (I - eta S^T S)` with `S^T S` isospectral to `M*`.
    """
    return np.asarray(np.log1p(-np.asarray(step_size, float) * np.asarray(smallest_singular_value, float)))


def plateau_length(step_size: ArrayLike, init_scale: ArrayLike) -> Curve:
    """Return `1 / (2 eta alpha^2)`, the steps for which the tail stays near its start (SE-1-P1, SE-1-F1)."""
    return np.asarray(1 / (2 * np.asarray(step_size, float) * np.asarray(init_scale, float) ** 2))


def finite_measurement_factor(measurements: ArrayLike, dim: ArrayLike, true_rank: ArrayLike) -> Curve:
    """Return `1 / (1 - q/m)`, by which Gaussian measurements raise the `1/t` constant at least (SE-1-P6).

    Derived, to first order in `1/m` and in the mean over operators: the signal adapts at once, which projects
    the `q = n r - r (r - 1) / 2` tangent directions of the target out of the `m` measurements; the tail then
    sees a Wishart curvature of mean `1 - q/m`. Its fluctuations, and the signal's own error, only add to it.
    """
    rank = np.asarray(true_rank, float)
    tangent = np.asarray(dim, float) * rank - rank * (rank - 1) / 2
    return np.asarray(1 / (1 - tangent / np.asarray(measurements, float)))
