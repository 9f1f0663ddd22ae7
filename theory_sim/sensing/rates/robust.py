r"""Predictions for robust recovery with the l1 loss: the sign field, the step budget, floors and thresholds.

`<A_i, X>` has variance `||X||_F^2`; outliers and noise are those of such a measurement. Steps are `eta_0 rho^t`
along `2 Q U / ||Q||_2`, which at population is `2 (Delta / ||Delta||_2) U` with `Delta = U U^T - M*` (SE-2-U3).

>>> [round(float(learning_budget(values)), 3) for values in ([1, 0.75, 0.5], [1, 0.6, 0.2], [1, 1, 1])]
[1.583, 2.067, 1.0]
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]


def sign_field_strength(
    norm: ArrayLike,
    outlier_fraction: ArrayLike = 0.0,
    outlier_std: ArrayLike = 0.0,
    noise_std: ArrayLike = 0.0,
) -> Curve:
    """Return `phi` of `E Q(X) = phi X / ||X||_F`, where `norm = ||X||_F` (SE-2-M4).

    Derived: `E[sign(a g - s) g] = sqrt(2/pi) exp(-s^2 / 2a^2)` by Stein's lemma, and its mean over `s ~ N(0, v)` is
    `sqrt(2/pi) a / sqrt(a^2 + v)`; `v` is `noise_std^2`, plus `outlier_std^2` with probability `outlier_fraction`.
    """
    a, p = np.asarray(norm, float), np.asarray(outlier_fraction, float)
    noise = np.asarray(noise_std, float) ** 2
    outliers = noise + np.asarray(outlier_std, float) ** 2
    return np.asarray(
        np.sqrt(2 / np.pi) * a * ((1 - p) / np.sqrt(a**2 + noise) + p / np.sqrt(a**2 + outliers))
    )


def learning_budget(singular_values: ArrayLike) -> Curve:
    """Return `Lambda`: all directions are learnt if the steps sum to `Lambda log(1/alpha)` (SE-2-P1).

    `singular_values` decrease along the last axis. `1 <= Lambda <= min(r, kappa)`. Derived: a step `x = 2 eta_0 rho^t`
    adds `x sigma_i / sigma_s` to the log of direction `i`, `s` being the first that is not learnt; direction `s`
    uses what it still lacks, and the later ones grow meanwhile.
    """
    values = np.asarray(singular_values, float)
    growth, total = np.zeros_like(values), np.zeros(values.shape[:-1])
    for s in range(values.shape[-1]):
        lacking = 1 - growth[..., s]
        growth = growth + values / values[..., s : s + 1] * lacking[..., None]
        total = total + lacking
    return np.asarray(total)


def step_budget(step_size: ArrayLike, decay: ArrayLike) -> Curve:
    """Return `S = 2 eta_0 / (1 - rho)`, the sum of all steps (SE-2-P1)."""
    return np.asarray(2 * np.asarray(step_size, float) / (1 - np.asarray(decay, float)))


def growth_budget(step_size: ArrayLike, decay: ArrayLike) -> Curve:
    """Return `sum_t log(1 + 2 eta_0 rho^t)`, by which a leading direction grows in all: below `S`, by `1 - eta_0/2`.

    Derived: to second order in `eta_0`; the sum is an integral up to `1 - rho`, and expanding the logarithm gives
    `x/(1-rho) - x^2 / (2 (1-rho^2))` with `x = 2 eta_0`, summed here term by term until `rho^t < 1e-12`.
    """
    first, rho = np.broadcast_arrays(2 * np.asarray(step_size, float), np.asarray(decay, float))
    terms = int(np.ceil(np.log(1e-12) / np.log(rho.max()))) + 1
    total = np.zeros(first.shape)
    step = np.array(first)
    for _ in range(terms):
        total, step = total + np.log1p(step), step * rho
    return np.asarray(total)


def sufficient_decay(step_size: ArrayLike, condition_number: ArrayLike, init_scale: ArrayLike) -> Curve:
    """Return the fastest `rho` that suffices for all spectra, `1 - 2 eta_0 / (kappa log(1/alpha))` (SE-2-P1, SE-2-T5).

    Derived: `step_budget >= kappa log(1/alpha)`, and `Lambda <= kappa`.
    """
    growth = np.asarray(condition_number, float) * np.log(1 / np.asarray(init_scale, float))
    return np.asarray(1 - 2 * np.asarray(step_size, float) / growth)


def schedule_floor(step: ArrayLike, step_size: ArrayLike, decay: ArrayLike) -> Curve:
    """Return `eta_0 rho^t`: steps keep a fixed length relative to the iterate, and so does the error (SE-2-P2)."""
    return np.asarray(np.asarray(step_size, float) * np.asarray(decay, float) ** np.asarray(step, float))


def residual_floor(init_scale: ArrayLike, rank: ArrayLike, true_rank: ArrayLike) -> Curve:
    """Return `alpha^2 sqrt(k - r)`, the error that an over-specified factor keeps at population (SE-2-P3).

    Derived, for a start of orthonormal columns times `alpha`: the signal takes r directions of the row space, and on
    the `k - r` others the start has no part in the range of the target. They keep their size, but for a fraction of
    order `(4 / c) alpha^2 log(1 / alpha^2) / (1 - rho)`: a step shrinks `alpha^2` by `4 eta_t alpha^2 / ||Delta||`, and
    `||Delta||` is `c eta_t`, with c below one half, until it is `alpha^2`. Zero at exact rank.
    """
    excess = np.sqrt(np.asarray(rank, float) - np.asarray(true_rank, float))
    return np.asarray(np.asarray(init_scale, float) ** 2 * excess)


def minimax_floor(
    noise_std: ArrayLike, dim: ArrayLike, true_rank: ArrayLike, measurements: ArrayLike
) -> Curve:
    """Return `sqrt(nu^2 d r / m)`, the order of the error that Gaussian noise leaves to any method (SE-2-P4)."""
    freedom = np.asarray(dim, float) * np.asarray(true_rank, float) / np.asarray(measurements, float)
    return np.asarray(np.asarray(noise_std, float) * np.sqrt(freedom))


def absolute_loss_floor(
    noise_std: ArrayLike, dim: ArrayLike, true_rank: ArrayLike, measurements: ArrayLike
) -> Curve:
    """Return `sqrt((pi/2) nu^2 q / m)`, the error of the l1 minimiser of rank `r` under Gaussian noise.

    Derived: near `M*` the measurements are a regression on the `q = d r - r (r - 1) / 2` tangent directions, on
    which `A` is isotropic, and least absolute deviations have pi/2 times the variance of least squares.
    """
    rank = np.asarray(true_rank, float)
    tangent = np.asarray(dim, float) * rank - rank * (rank - 1) / 2
    variance = np.pi / 2 * np.asarray(noise_std, float) ** 2 * tangent / np.asarray(measurements, float)
    return np.asarray(np.sqrt(variance))


def corrupted_measurements(clean: ArrayLike, outlier_fraction: ArrayLike) -> Curve:
    """Return `clean / (1 - p)^2`, the measurements needed when a fraction `p` are large outliers (SE-2-P5).

    Derived: the mean of the sign field falls to `sqrt(2/pi) (1 - p)`, its noise stays of order `sqrt(d / m)`, and
    recovery needs a fixed ratio of the two. Symmetric outliers of any fraction below 1 are overcome.
    """
    return np.asarray(np.asarray(clean, float) / (1 - np.asarray(outlier_fraction, float)) ** 2)


def scaled_polyak_rate() -> float:
    """Return `-log 3`: at population the scaled Polyak step divides a small error by 3 a step or more, whatever kappa.

    Derived: the error has a part `a` inside the range of the target and a part `b` across it (squared norms, so that
    `||Delta||^2 = a + 2 b`). With `R = a / b` a step multiplies their norms by `1 / (1 + R)` and `R / (2 (1 + R))`:
    then `R` becomes `4 / R`, and two steps multiply both by `R / ((1 + R) (4 + R)) <= 1/9`.
    """
    return float(-np.log(3.0))


def polyak_steps_exponent(scaled: bool) -> float:
    """Return the exponent of `kappa_M` in the steps to an accuracy: 0 scaled, 1 plain (arXiv:2010.13364; SE-3f)."""
    return 0.0 if scaled else 1.0
