r"""Predictions of what descent leaves: the tail of a small start, its growth by finite measurements, and noise.

Letters are those of `X = U S + U_perp T`, where `U` spans the range of the target, of rank r, and X has k columns.

>>> float(np.round(statistical_floor(0.1, measurements=401, dim=20, true_rank=1, rank=1), 4))
0.0229
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory_sim.sensing.rates.incremental import best_rank_residual

Curve = NDArray[np.float64]


def symmetric_small_start_error(
    init_scale: ArrayLike, dim: ArrayLike, rank: ArrayLike, true_rank: ArrayLike
) -> Curve:
    """Return the error of a small start once the signal is learnt: the tail, root mean square over starts (SE-3-P2).

    Derived: the tail `E` keeps its start on the `q = k - r` directions that the signal leaves, a Gaussian
    `p x q` matrix with `p = n - r`; `E tr (W^2) = p q (p + q + 1)` for a Wishart matrix. It falls like 1/t only
    after `plateau_length`.
    """
    size, signal = np.asarray(dim, float), np.asarray(true_rank, float)
    p, q = size - signal, np.asarray(rank, float) - signal
    return np.asarray(np.asarray(init_scale, float) ** 2 * np.sqrt(p * q * (p + q + 1)) / size)


def asymmetric_small_start_error(
    init_scale: ArrayLike,
    right_scale: ArrayLike,
    rows: ArrayLike,
    cols: ArrayLike,
    rank: ArrayLike,
    true_rank: ArrayLike,
) -> Curve:
    """Return the same for `F G^T`, whose tail is a product of independent Gaussian matrices; derived likewise.

    The scales are alpha of the left factor and the ratio of the right one's to it. The mean of `||E_F E_G^T||_F^2`
    is the product of both entry variances with `(n_1 - r)(n_2 - r)(k - r)`.
    """
    tall, wide, signal = (np.asarray(value, float) for value in (rows, cols, true_rank))
    count = (tall - signal) * (wide - signal) * (np.asarray(rank, float) - signal)
    scale = np.asarray(init_scale, float) ** 2 * np.asarray(right_scale, float)
    return np.asarray(scale * np.sqrt(count / (tall * wide)))


def noise_edge(measurements: ArrayLike, rows: ArrayLike, cols: ArrayLike | None = None) -> Curve:
    """Return the largest singular value of `A*A(M) - M` over `||M||_F`, for large matrices that M does not know.

    Derived: the entries are nearly independent, of variance `||M||_F^2 / m`, half of it off the diagonal of a
    symmetric matrix (`cols=None`): the edges are `sqrt(2 n / m)` and `(sqrt(n_1) + sqrt(n_2)) / sqrt(m)`.
    """
    count = np.asarray(measurements, float)
    if cols is None:
        return np.asarray(np.sqrt(2 * np.asarray(rows, float) / count))
    return np.asarray((np.sqrt(np.asarray(rows, float)) + np.sqrt(np.asarray(cols, float))) / np.sqrt(count))


def small_start_exponent_bound(edge: ArrayLike, singular_values: ArrayLike) -> Curve:
    """Return a lower bound, to first order in the noise edge, of the exponent of the least error in alpha (SE-3-P2).

    Derived: until direction s arrives at `log(1/alpha) / (eta sigma_s)`, the tail grows at most at `eta edge
    ||R_s||_F`, where `R_s` is the part of the target not yet learnt. So its square gains at most the power
    `2 edge sum_s ||R_s||_F (1/sigma_s - 1/sigma_{s-1})` of 1/alpha on the population's `alpha^2`; `1/sigma_0 = 0`.
    """
    values = np.asarray(singular_values, float)
    delays = np.diff(1 / values, prepend=np.zeros_like(values[..., :1]), axis=-1)
    gained = np.sum(best_rank_residual(values)[..., :-1] * delays, axis=-1)
    return np.asarray(2 - 2 * np.asarray(edge, float) * gained)


def first_eigenvalue(measurements: ArrayLike, dim: ArrayLike, singular_values: ArrayLike) -> Curve:
    """Return the largest eigenvalue of `A*A(M*)`, in the mean: what drives the first direction (SE-3-P1).

    Derived: a spike `sigma_1` over a semicircle of entry variance `v = ||M*||_F^2 / (2 m)` comes out at
    `sigma_1 + n v / sigma_1`, if it is above the edge.
    """
    values = np.asarray(singular_values, float)
    variance = np.sum(values**2, axis=-1) / (2 * np.asarray(measurements, float))
    return np.asarray(values[..., 0] + np.asarray(dim, float) * variance / values[..., 0])


def fgd_noise_level(
    noise_std: ArrayLike, measurements: ArrayLike, dim: ArrayLike, condition_number: ArrayLike
) -> Curve:
    """Return `e = kappa_M sqrt(d log d / m) sigma` of arXiv:2102.02756, where m is written n (SE-3a).

    Its measurements have matrices of unit variance and a mean over samples, which is `noise_std` as it is here; off
    the diagonal its variances are twice ours (SE-0-M4), so that its bound is the looser.
    """
    size = np.asarray(dim, float)
    root = np.sqrt(size * np.log(size) / np.asarray(measurements, float))
    return np.asarray(np.asarray(condition_number, float) * root * np.asarray(noise_std, float))


def fgd_bound(step: ArrayLike, start: ArrayLike, step_size: ArrayLike, noise_level: ArrayLike = 0.0) -> Curve:
    """Return `50 e + (4/eta) / (t + 4/(eta D_0))`, t steps after `D_0`: arXiv:2102.02756 (SE-3a).

    It bounds `D_t = max(||S S^T - D_S||, ||T T^T||, ||S T^T||)`, spectral norms, where `X = U S + U_perp T`. The
    actual decay is `1 / (2 eta t + 1/D_0)`, eight times faster (SE-3a-P).
    """
    scaled = np.asarray(step_size, float) * np.asarray(step, float) / 4
    return np.asarray(50 * np.asarray(noise_level, float) + 1 / (scaled + 1 / np.asarray(start, float)))


def statistical_floor(
    noise_std: ArrayLike, measurements: ArrayLike, dim: ArrayLike, true_rank: ArrayLike, rank: ArrayLike
) -> Curve:
    """Return the error that noise leaves, root mean square, to first order in the noise.

    `sigma sqrt((q + 2 (k - r) (n - r)) / (m - q - 1))` with `q = n r - r (r - 1) / 2`. Derived: at exact rank it is
    least squares on the q tangent directions, exactly. Each column more fits the largest eigenvalue of a
    semicircle of edge `sigma sqrt(2 (n - r) / m)`, to leading order in n and in q/m.
    """
    size, signal = np.asarray(dim, float), np.asarray(true_rank, float)
    tangent = size * signal - signal * (signal - 1) / 2
    tail = 2 * (np.asarray(rank, float) - signal) * (size - signal)
    free = np.asarray(measurements, float) - tangent - 1
    return np.asarray(np.asarray(noise_std, float) * np.sqrt((tangent + tail) / free))
