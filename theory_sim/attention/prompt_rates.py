r"""Predictions for attention to a prompt: which token a start ends at, what a loss prefers, how joint training goes.

>>> round(float(local_share()), 4), round(float(score_lead(1.0, 1.0)), 9)
(0.3833, 0.0)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]


def local_share() -> float:
    """Return the share of far starts of `choice`, with a third score of 0, that end at the second best token.

    Derived. With logits `a, b, 0` of keys (1, 0), (-0.1, 1), (0, 0), where `a = x` and `b = y - x / 10`, and attention
    almost all on one token, the prompt moves by the larger of the others' pulls. From the second best token (`a` the
    largest): to the best one if `b > 0` up to O(1), away from the third if `b < 0`. From the third (both negative): to
    the best one if `b > a`, else to the second best. So the starts that end at the second best token are those with
    `b < 0` and `b < a`, a cone between the directions -(180 - 47.7) and 5.7 degrees.
    """
    return float((np.pi - np.arctan(1.1) + np.arctan(0.1)) / (2 * np.pi))


def score_lead(scale: ArrayLike, sharpness: ArrayLike) -> Curve:
    """Return the limit of `a_2 . p - a_1 . p` in `pair`, `ln C + ln s(-b C) - ln s(-b)`, with the logistic `s`.

    Derived (as AT-A-P1): late in training input i pulls with `w_i exp(-a_i . p)`, where `w_i` is minus the loss's
    derivative at the best score times the gap of the scores, and the pulls are as the multipliers of the max margin
    problem, equal for differences of equal length. `w = C s(-b C)` for the scores C and 0 and the loss
    `log(1 + exp(-b u)) / b`. For a linear loss, b = 0, that is `ln C` without bound; for b = 1, `C s(-C)` is at most
    0.2785, and the lead at most 0.035.
    """
    scale, sharpness = np.asarray(scale, float), np.asarray(sharpness, float)
    return np.asarray(np.log(scale) - np.logaddexp(0, sharpness * scale) + np.logaddexp(0, sharpness))


def elapsed(step: ArrayLike, decay: float) -> Curve:
    """Return `sum_{s <= t} s^-decay`, the length of t steps of the size `(t + 1)^-decay`, from `t = 0` on."""
    steps = np.asarray(step)
    sums = np.concatenate([[0.0], np.cumsum(np.arange(1.0, steps.max() + 1) ** -decay)])
    return np.asarray(sums[steps.astype(int)])


def joint_log_loss(step: ArrayLike, step_size: ArrayLike, margin: ArrayLike, decay: float = 0.0) -> Curve:
    """Return `log L = -m eta_v sum_{s <= t} s^-decay` of normalised joint steps, `m` being the margin of the unit head.

    Derived: the head moves by the steps' whole length along its max margin direction, and the support vectors attend to
    their selected token alone, so that `L` is of the order of `exp(-m ||v||)`. A decay of 2/3 gives
    `-3 m eta_v t^(1/3)` (the law of AT-D-T3).
    """
    return np.asarray(-np.asarray(margin, float) * np.asarray(step_size, float) * elapsed(step, decay))


def path_norm_slope(relaxed_norm: ArrayLike) -> Curve:
    """Return the slope of `||p||` in `ln ||v||` along the gradient path, twice the norm of the relaxed prompt.

    Derived: where prompt and head go along one gradient, `||v||` is the length of the path. Along it the weights of the
    inputs are the multipliers of (v-SVM), zero but for its support vectors, so that `p = c p_relaxed` up to bounded
    terms with `dc / d||v|| ~ ||v|| e^-c`, the factor `||v||` from the scores. Hence `e^c ~ ||v||^2`. Under gradient
    descent `||v||` is of order `ln t`, and `||p||` of order `2 ln ln t`.
    """
    return np.asarray(2 * np.asarray(relaxed_norm, float))
