r"""Predictions for descent from a small start: the directions of the target are learnt one after another.

The share of direction s of the target that is learnt, `p_s`, starts near zero, grows by `(1 + eta sigma_s)^2` a step
and saturates at 1. Unless said otherwise the predictions are for the population operator, `A*A = I`, and `sigma_s`
are the singular values of the target, not of its factor (SE-0-M7).

>>> share = initial_share(0.5, entry_variance=1e-8 / 20, rank=20)
>>> float(np.round(arrival_step(0.5, 0.1, share)))
182.0
"""

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]


def initial_share(
    singular_value: ArrayLike, *, entry_variance: ArrayLike, rank: ArrayLike, direction: ArrayLike = 0
) -> Curve:
    """Return the typical share of a direction at a Gaussian start: `exp(E log p_s(0))` (SE-3-P1).

    `entry_variance` is that of the start, `alpha^2 / n` for `X X^T`; see `balanced_entry_variance` for `F G^T`.
    `direction` counts from 0, and `rank` must exceed it. Derived: `u_s^T X_0` has k Gaussian entries, of which the
    component along each direction learnt before is lost, because it is damped once that one is there. What counts
    is `entry_variance chi^2 / sigma_s` with `k - s` degrees of freedom, counted so; its mean logarithm is digamma's.
    """
    freedom = np.asarray(rank, float) - np.asarray(direction, float)
    typical = 2 * np.exp(scipy.special.digamma(freedom / 2))
    return np.asarray(np.asarray(entry_variance, float) * typical / np.asarray(singular_value, float))


def balanced_entry_variance(left_variance: ArrayLike, right_variance: ArrayLike) -> Curve:
    """Return the entry variance of a symmetric start that is worth starts of two factors with these variances.

    Derived: `u_s^T F + v_s^T G` grows by `1 + eta sigma_s` a step and their difference decays. The sum over two,
    which both tend to, then obeys the step of the symmetric factor; its entries have variance `(l + r) / 4`.
    """
    return np.asarray((np.asarray(left_variance, float) + np.asarray(right_variance, float)) / 4)


def arrival_step(singular_value: ArrayLike, step_size: ArrayLike, share: ArrayLike) -> Curve:
    """Return the step at which the learnt share of a direction reaches a half, from a small initial `share`.

    Derived (the sharp form of SE-3-P1): a step is `p -> p (1 + x (1 - p))^2`, `x = eta sigma_s`. The log odds
    `log(p / (1 - p))` grow by `2 log(1 + x) + 3 p x^2 + O(x^3)`; the second term sums to `(3/2) x log 2` before the
    half is reached, which is `(3/4) log 2` steps, whatever x.
    """
    odds = np.asarray(share, float) / (1 - np.asarray(share, float))
    return np.asarray(-np.log(odds) / (2 * direction_growth(step_size, singular_value)) - 0.75 * np.log(2))


def learned_curve(
    step: ArrayLike, arrival: ArrayLike, step_size: ArrayLike, singular_value: ArrayLike
) -> Curve:
    """Return the learnt share against the step, logistic about its `arrival`; derived as `arrival_step`."""
    elapsed = np.asarray(step, float) - np.asarray(arrival, float)
    return np.asarray(scipy.special.expit(2 * direction_growth(step_size, singular_value) * elapsed))


def direction_growth(step_size: ArrayLike, singular_value: ArrayLike) -> Curve:
    """Return `log(1 + eta sigma_s)`: a direction arrives one over this later when alpha is e times smaller."""
    return np.asarray(np.log1p(np.asarray(step_size, float) * np.asarray(singular_value, float)))


def steps_per_decade(step_size: ArrayLike, singular_value: ArrayLike) -> Curve:
    """Return `log(10) / log(1 + eta sigma_s)`, the delay of a direction for ten times less alpha (SE-3-P1)."""
    return np.asarray(np.log(10) / direction_growth(step_size, singular_value))


def best_rank_residual(singular_values: ArrayLike) -> Curve:
    """Return the Frobenius distance of the target to its best approximation of rank 0, 1, ..., r.

    `singular_values` has them on the last axis, decreasing. Eckart, Young: the root sum of squares of the others.
    """
    squares = np.asarray(singular_values, float)[..., ::-1] ** 2
    tails = np.sqrt(np.cumsum(squares, axis=-1))[..., ::-1]
    return np.concatenate([tails, np.zeros_like(tails[..., :1])], axis=-1)


def stopping_step(arrivals: ArrayLike, step_size: ArrayLike, singular_values: ArrayLike) -> Curve:
    """Return when each stage but the last is nearest to the best approximation of its rank (SE-3d).

    `arrivals` and `singular_values` have the directions on the last axis. Derived: what direction s still lacks
    equals what direction s + 1 has already, when their log odds are opposite.
    """
    times, speed = np.asarray(arrivals, float), direction_growth(step_size, singular_values)
    return np.asarray((times * speed)[..., :-1] + (times * speed)[..., 1:]) / (
        speed[..., :-1] + speed[..., 1:]
    )


def stage_exponent(singular_value: ArrayLike, following: ArrayLike) -> Curve:
    """Return the power of alpha with which a stage's least distance to the best rank-s approximation falls.

    It is `2 (sigma_s - sigma_{s+1}) / (sigma_s + sigma_{s+1})`. Derived, with `L = log(1 / alpha)`: direction s lacks
    `exp(2 L - 2 eta sigma_s t)`, direction s + 1 has `exp(2 eta sigma_{s+1} t - 2 L)`, and their inner product,
    whose part along direction s is damped, is the geometric mean of both. All are equal at `stopping_step`,
    `t = 2 L / (eta (sigma_s + sigma_{s+1}))`. The bound of arXiv:2301.11500 is `alpha^(1/(M kappa_*^2))`.
    """
    here, there = np.asarray(singular_value, float), np.asarray(following, float)
    return np.asarray(2 * (here - there) / (here + there))
