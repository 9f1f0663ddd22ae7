r"""Predictions for the asymmetric factorisation `F G^T`: linear rates without a free constant.

Near the solution the residual obeys `R -> R - eta (F F^T R + R G G^T)`. What is not yet zero of it lies in the parts
of the factors off the target's ranges: `G_perp -> G_perp (I - eta F^T F)` and `F_perp -> F_perp (I - eta G^T G)`.

>>> round(float(asymmetric_linear_rate(0.1, 0.25)), 5)
-0.02532
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]


def slowest_curvature(
    tail_curvature: ArrayLike, left_curvature: ArrayLike, right_curvature: ArrayLike, right_scale: ArrayLike
) -> Curve:
    """Return the least curvature that the start excites (SE-1-P3, SE-1-P4).

    Derived: a direction off the signal ends in the factor that its imbalance at the start, which is conserved, says:
    in F, where it shrinks the rest of `G_perp` by its squared singular value, or in G, where it shrinks that of
    `F_perp`; the signal's directions are in both. From `G_0 = 0` every gradient of G lies in the row space of the
    target: `G_perp` is zero, and with it the slow part; what is left of `F_perp` shrinks by `sigma_r(G)^2`.
    """
    right = np.asarray(right_curvature, float)
    every = np.minimum(
        np.minimum(np.asarray(tail_curvature, float), np.asarray(left_curvature, float)), right
    )
    return np.where(np.asarray(right_scale, float) > 0, every, right)


def asymmetric_linear_rate(step_size: ArrayLike, curvature: ArrayLike) -> Curve:
    """Return the slope of the log error per step, `log(1 - eta curvature)`.

    The curvature is `slowest_curvature`, or `beta^2` after the change of factors: their left one is then `beta` times
    an orthonormal basis, so that `F^T F = beta^2 I` (SE-1-P5), as long as `beta^2` is below `sigma_r^2 / beta^2`.
    """
    return np.asarray(np.log1p(-np.asarray(step_size, float) * np.asarray(curvature, float)))


def finite_rate_factor(
    measurements: ArrayLike, rows: ArrayLike, cols: ArrayLike, true_rank: ArrayLike
) -> Curve:
    """Return `1 - q/m`, to which Gaussian measurements lower the rate at least (SE-1-P6).

    Derived, to first order in `1/m` and in the mean over operators: the signal adapts at once, which projects its
    `q = r (rows + cols - r)` tangent directions out of the `m` measurements; the slow directions then see a Wishart
    curvature of mean `1 - q/m`, and the last of them to converge the smallest eigenvalue, which is below the mean.
    """
    rank = np.asarray(true_rank, float)
    tangent = rank * (np.asarray(rows, float) + np.asarray(cols, float) - rank)
    return np.asarray(1 - tangent / np.asarray(measurements, float))


def finite_rate_edge(
    measurements: ArrayLike, rows: ArrayLike, cols: ArrayLike, true_rank: ArrayLike, rank: ArrayLike
) -> Curve:
    """Return `(1 - q/m) (1 - sqrt(D / (m - q)))^2`, the factor by which Gaussian measurements lower the rate (SE-1-P6).

    Derived, in the mean over operators and for many directions: of the `m - q` measurements that the signal leaves (see
    `finite_rate_factor`) the `D = (k - r) (cols - r)` slow directions see a Wishart matrix, and the last of them to
    converge its smallest eigenvalue, at the edge of the Marchenko-Pastur law. Zero where `D >= m - q`.
    """
    signal = np.asarray(true_rank, float)
    count = np.asarray(measurements, float)
    mean = finite_rate_factor(count, rows, cols, signal)
    slow = (np.asarray(rank, float) - signal) * (np.asarray(cols, float) - signal)
    left = np.maximum(count * mean, slow)
    return np.asarray(np.maximum(mean, 0) * (1 - np.sqrt(slow / left)) ** 2)
