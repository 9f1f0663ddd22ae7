r"""Predictions for preconditioned and Riemannian descent: learning curves, iterations, and what noise is amplified to.

From a small start the directions of the target are learnt one by one. In the population, with `p` the squared size of
a direction's row of `U^T X` after the part that earlier directions take of it, one step is

    p -> p (1 + eta (sigma - p) / (p + lambda))^2          (without the denominator for gradient descent).

Derived: in the basis where `U^T X` is lower triangular its diagonal grows by this factor, and the entries that a learnt
direction takes from later rows die. Neglected are the part of `X` off the range, of size alpha, and while direction s
is learnt the square of what its successor has grown to by then, `alpha^(2 - 2 g_{s+1}/g_s)` with log growths g.

>>> curve = scaled_learning_curve(200, [1e-9, 1e-9], [1.0, 0.01], step_size=0.3, damping=0.01)
>>> int((curve > 1e-6).sum())
57
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory_sim.sensing.rates.floors import noise_edge

Curve = NDArray[np.float64]


def gradient_learning_curve(
    steps: int, start: ArrayLike, singular_values: ArrayLike, step_size: float
) -> Curve:
    """Return `||X_t X_t^T - M*||_F` of gradient descent at steps 0 to `steps` (SE-3-P1, SE-3-P3).

    `start` and `singular_values` have the directions on their last axis, which the step takes the place of.
    """
    return _learning_curve(steps, start, singular_values, lambda p, gap: step_size * gap)


def scaled_learning_curve(
    steps: int, start: ArrayLike, singular_values: ArrayLike, step_size: float, damping: float
) -> Curve:
    """Return `||X_t X_t^T - M*||_F` of ScaledGD(lambda), as `gradient_learning_curve` (SE-3b1)."""
    return _learning_curve(steps, start, singular_values, lambda p, gap: step_size * gap / (p + damping))


def prec_learning_curve(steps: int, start: ArrayLike, singular_values: ArrayLike, step_size: float) -> Curve:
    """Return `||X_t X_t^T - M*||_F` of PrecGD, whose damping is half of it, as `gradient_learning_curve` (SE-3b2)."""

    def growth(p: Curve, gap: Curve) -> Curve:
        damping = np.linalg.norm(gap, axis=-1, keepdims=True) / 2
        return step_size * gap / (p + damping)

    return _learning_curve(steps, start, singular_values, growth)


def _learning_curve(
    steps: int, start: ArrayLike, singular_values: ArrayLike, growth: Callable[[Curve, Curve], Curve]
) -> Curve:
    values = np.asarray(singular_values, float)
    p = np.asarray(start, float) + np.zeros_like(values)
    errors = [np.linalg.norm(values - p, axis=-1)]
    for _ in range(steps):
        p = p * (1 + growth(p, values - p)) ** 2
        errors.append(np.linalg.norm(values - p, axis=-1))
    return np.stack(errors, axis=-1)


def iterations_per_log_scale(
    singular_value: ArrayLike, step_size: ArrayLike, damping: ArrayLike | None = None
) -> Curve:
    """Return the iterations that learning a direction takes for each factor e of `1 / alpha` (SE-3-P1, SE-3.3).

    Derived: a small signal grows by `1 + eta sigma / lambda` a step, by `1 + eta sigma` without preconditioner.
    """
    scale = 1.0 if damping is None else np.asarray(damping, float)
    return np.asarray(1 / np.log1p(np.asarray(step_size, float) * np.asarray(singular_value, float) / scale))


def noise_amplification(
    step: ArrayLike, step_size: ArrayLike, deviation: ArrayLike, damping: ArrayLike
) -> Curve:
    """Return `(1 + eta delta / lambda)^t`, by which ScaledGD(lambda) amplifies what is off the range (SE-3-P4).

    Derived: off the range a small factor is multiplied by `I - (eta / lambda) A*(A(X X^T) - y)`, and `delta` is the
    largest eigenvalue of what finite measurements add to the residual.
    """
    growth = np.asarray(step_size, float) * np.asarray(deviation, float) / np.asarray(damping, float)
    return np.asarray((1 + growth) ** np.asarray(step, float))


def least_scale_exponent(
    singular_values: ArrayLike, step_size: float, damping: float, dim: int, measurements: int
) -> float:
    """Return a lower bound for the exponent of alpha in the error at which ScaledGD(lambda) stops (SE-3-P4).

    Derived, for the logarithm of alpha alone. Direction s arrives after `log(1/alpha) / log(1 + eta sigma_s / lambda)`
    steps. While the residual holds the directions from s on, noise grows by `noise_amplification` with the deviation
    of that residual: never faster in total, since its leading directions change. With alpha^rho for the whole growth
    the factor off the range ends at `alpha^(1 - rho)`, and the error at its square: `2 (1 - rho)`. Zero: a stall.
    """
    values = np.sort(np.asarray(singular_values, float))[::-1]
    arrivals = iterations_per_log_scale(values, step_size, damping)
    left = np.sqrt(np.cumsum(values[::-1] ** 2))[::-1]
    growth = np.log(noise_amplification(1, step_size, noise_edge(measurements, dim) * left, damping))
    return float(max(0.0, 2 * (1 - np.sum(np.diff(arrivals, prepend=0.0) * growth))))


def prec_gd_rate(step_size: ArrayLike, rank: ArrayLike, true_rank: ArrayLike) -> Curve:
    """Return the slope of the log error per step of PrecGD once all is learnt, at ranks above the true one (SE-3b2).

    For the population. Derived: a squared singular value s of the tail is multiplied by `(1 - eta s / (s + lambda))^2`,
    the larger the sooner, so that all become equal; alone they are the error, `lambda = sqrt(k - r) s / 2`, and fall by
    `(1 - eta / (1 + sqrt(k - r) / 2))^2`. What the tail has in the rows of the signal falls by `1 - eta`, and holds
    lambda up where that is slower, for up to three columns at small eta, two at 0.3: s then follows it.
    """
    excess = np.sqrt(np.asarray(rank, float) - np.asarray(true_rank, float))
    eta = np.asarray(step_size, float)
    return np.asarray(np.maximum(2 * np.log1p(-eta / (1 + excess / 2)), np.log1p(-eta)))


def gauss_newton_rate(step_size: ArrayLike) -> Curve:
    """Return the slope of the log error per iteration of the alternating Gauss-Newton method, `log(1 - eta)` (SE-3b4).

    For the population. Derived: half steps multiply the error by `I - eta P_R` on the right and `I - eta P_L` on the
    left. Soon `P_L` is one on its columns, but its rows `M* - L R^T` are as far from R as R is from its limit. This is
    the bound of Jia et al. (NeurIPS 2024), `1 - l tau` for the squared error with `l = 2 eta - eta^2`, at `tau = 1`.
    """
    return np.asarray(np.log1p(-np.asarray(step_size, float)))


def weight_normalized_curve(
    steps: int, overlap: ArrayLike, singular_values: ArrayLike, step_size: float
) -> Curve:
    """Return `||X Theta X^T - M*||_F` of weight-normalised descent at steps 0 to `steps`, exactly (SE-3b5).

    For the population, `mu = 2` and `Theta_0 = 0`. `overlap` is `P = U^T X_0 X_0^T U`, `[..., r, r]`. Derived: once
    `Theta = X^T M* X`, the gradient is `-(I - X X^T) U W C^T` with `C^T = U^T X` and `W = Sigma P Sigma`, so that
    `P -> (I + eta S W) (P^{-1} + eta^2 W S W)^{-1} (I + eta W S)` with `S = I - P`; the squared error is
    `||M*||^2 - ||X^T M* X||^2 = tr Sigma^2 - tr (Sigma P Sigma P)`. All is written in S, to be accurate when S is tiny.
    """
    sigma, identity = np.asarray(singular_values, float), np.eye(np.shape(singular_values)[-1])
    p = np.asarray(overlap, float)
    gap = identity - p
    first = np.broadcast_to(np.linalg.norm(sigma), p.shape[:-2])
    errors = [first] if steps == 0 else [first, _projected_error(sigma, gap)]
    for _ in range(steps - 1):
        p = identity - gap
        w = sigma[:, None] * p * sigma
        stretch = step_size**2 * w @ gap @ w
        half = identity + step_size * gap @ w
        shrink = np.linalg.solve(identity + p @ stretch, p @ stretch @ p)
        grow = step_size * gap @ w @ p
        gap = gap - grow - _transposed(grow) - step_size**2 * gap @ w @ p @ w @ gap
        gap = gap + half @ shrink @ _transposed(half)
        gap = (gap + _transposed(gap)) / 2  # an antisymmetric part, of rounding alone, would grow
        errors.append(_projected_error(sigma, gap))
    return np.stack(errors, axis=-1)


def _transposed(matrices: Curve) -> Curve:
    return np.swapaxes(matrices, -1, -2)


def _projected_error(sigma: Curve, gap: Curve) -> Curve:
    """Return `||M* - P_X M* P_X||_F` from `S = I - U^T X X^T U`: `2 tr(Sigma^2 S) - tr(Sigma S Sigma S)` squared."""
    turned = sigma[:, None] * gap
    squared = 2 * np.einsum("i,...ii->...", sigma**2, gap) - np.einsum("...ij,...ji->...", turned, turned)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def weight_normalized_rate(step_size: ArrayLike, smallest_singular_value: ArrayLike) -> Curve:
    """Return the slope of the log error per step of weight-normalised descent, `log(1 - eta sigma_r^2)` (SE-3b5).

    Derived: to first order in S the recursion of `weight_normalized_curve` is
    `S -> (I - eta Sigma^2) S (I - eta Sigma^2)`, and the error is of the order of its root; it holds at every rank.
    """
    return np.asarray(
        np.log1p(-np.asarray(step_size, float) * np.asarray(smallest_singular_value, float) ** 2)
    )


def weight_normalized_factor(measurements: ArrayLike, rank: ArrayLike) -> Curve:
    """Return `1 - c/m` with `c = k (k + 1) / 2`, the mean curvature that Gaussian measurements leave (SE-3b5).

    Derived: the core adapts at once, with `mu = 2`, which projects its c directions `X S X^T` out of the measurements;
    the directions in which the factor moves see a Wishart matrix of `m - c` degrees of freedom, of mean `(m - c) / m`.
    """
    columns = np.asarray(rank, float)
    return np.asarray(1 - columns * (columns + 1) / (2 * np.asarray(measurements, float)))


def weight_normalized_edge(
    measurements: ArrayLike, dim: ArrayLike, true_rank: ArrayLike, rank: ArrayLike
) -> Curve:
    """Return `(1 - c/m) (1 - sqrt(D / (m - c)))^2`, the least curvature of the factor's directions (SE-3b5).

    Derived as `finite_rate_edge`: a change W of the factor across its range moves the product by `W Theta X^T` and its
    transpose, and `Theta` has rank r at the solution: there are `D = (n - k) r` such directions, of weights `sigma_s^2`
    and so of curvatures of at least `sigma_r^2` times the edge of the Marchenko-Pastur law. Zero where `D >= m - c`.
    """
    columns, count = np.asarray(rank, float), np.asarray(measurements, float)
    mean = weight_normalized_factor(count, columns)
    across = (np.asarray(dim, float) - columns) * np.asarray(true_rank, float)
    left = np.maximum(count * mean, across)
    return np.asarray(np.maximum(mean, 0) * (1 - np.sqrt(across / left)) ** 2)
