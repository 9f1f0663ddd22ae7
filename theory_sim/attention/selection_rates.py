r"""Predictions for token selection: how the norm, the loss and the direction of attention weights go with the step.

Late in training the loss is `L - L* = sum_k w_k exp(-a_k . W)`, as for linear classification of the differences
`a_k` (see `selection_direction`), and its gradient is `-sum_k w_k exp(-a_k . W) a_k`, which turns towards `W^mm`.
There `a_k . W^mm = 1` for all that counts, so that `||grad L|| ||W^mm|| = L - L*` (all derived, AT-A-P1).

>>> float(normalized_norm(1000, step_size=0.1)), float(polyak_loss_rate(step_size=0.1))
(100.0, -0.1)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]

PUBLISHED_ERRORS = {"finite_and_margin": (3e-2, 1.7e-2, 7.5e-3, 6e-3), "margin": (6e-2, 3.5e-2, 2e-2, 1.7e-2)}
"""`1 - corr` under ReLU neurons in dimensions 4, 6, 8, 10, by solution: Fig. 8 of arXiv:2308.16898 (AT-A-S7), read."""
PUBLISHED_COUNTS = {0.0: 1.0, 0.2: 2.7, 1.0: 7.0, 4.0: 10.0}
"""Selected tokens of ten under a quadratic head, by penalty: Fig. 9 of arXiv:2308.16898 (AT-A-S8), read."""


def normalized_norm(step: ArrayLike, step_size: ArrayLike) -> Curve:
    """Return `||W_t|| = eta t` of normalised steps: all have length eta, and late ones are parallel (AT-A-P2)."""
    return np.asarray(np.asarray(step_size, float) * np.asarray(step, float))


def normalized_loss_rate(step_size: ArrayLike, margin_norm: ArrayLike) -> Curve:
    """Return the slope of `log(L - L*)` per normalised step, `-eta / ||W^mm||` (AT-A-P2).

    Derived: a step of length eta along `W^mm` raises every `a_k . W` of a support token by `eta / ||W^mm||`.
    """
    return np.asarray(-np.asarray(step_size, float) / np.asarray(margin_norm, float))


def gradient_excess_loss(step: ArrayLike, step_size: ArrayLike, margin_norm: ArrayLike) -> Curve:
    """Return `L - L* = ||W^mm||^2 / (eta t)` of gradient descent (AT-A-P3).

    Derived: `dL/dt = -eta ||grad L||^2 = -eta (L - L*)^2 / ||W^mm||^2`. A gradient that has not yet turned to `W^mm` is
    longer than that, so that the loss comes from below.
    """
    elapsed = np.asarray(step_size, float) * np.asarray(step, float)
    return np.asarray(np.asarray(margin_norm, float) ** 2 / elapsed)


def gradient_norm_slope(margin_norm: ArrayLike) -> Curve:
    """Return the slope of `||W_t||` in `ln t` under gradient descent, `||W^mm||` (AT-A-P3).

    Derived: `eta ||grad L|| = eta (L - L*) / ||W^mm||`, with `L - L*` of `gradient_excess_loss`, is `||W^mm|| / t`.
    """
    return np.asarray(np.asarray(margin_norm, float))


def polyak_norm(step: ArrayLike, step_size: ArrayLike, margin_norm: ArrayLike) -> Curve:
    """Return `||W_t|| = theta t ||W^mm||` for `theta` times Polyak's step (AT-A-P4).

    Derived: the step `theta (L - L*) / ||grad L||` has length `theta ||W^mm||` once the gradient is along `W^mm`.
    """
    return np.asarray(polyak_loss_rate(step_size) * -np.asarray(step, float) * np.asarray(margin_norm, float))


def polyak_loss_rate(step_size: ArrayLike) -> Curve:
    """Return the slope of `log(L - L*)` per step, `-theta` on any data (AT-A-P4).

    Derived: a step of `theta ||W^mm||` along `W^mm` raises every `a_k . W` of a support token by `theta`.
    """
    return np.asarray(-np.asarray(step_size, float))


def direction_error_curve(norm: ArrayLike, residual: ArrayLike) -> Curve:
    """Return `| W/|W| - W^mm/|W^mm| | = |r| / ||W||`, `r` being the part of `W` across `W^mm` (AT-A-P1).

    To first order in the angle. `r` is bounded; `selection_direction` gives its limit where all tokens are support
    tokens, and elsewhere the limit of its part in their span, so that the curve is a lower bound.
    """
    return np.asarray(np.asarray(residual, float) / np.asarray(norm, float))


def stall_norm(margin_norm: ArrayLike, epsilon: float = 2.22e-16) -> Curve:
    """Return `||W^mm|| ln(1/epsilon)`, about where normalised steps with `||grad L|| + epsilon` stop (AT-A-F1).

    Derived, to leading order in the logarithm: `||grad L||` is `exp(-||W|| / ||W^mm||)` times a number of order one.
    """
    return np.asarray(np.asarray(margin_norm, float) * np.log(1 / epsilon))


def untouched_start(dim: ArrayLike, inputs: int, tokens: int) -> Curve:
    """Return `(d^2 - n (T - 1)) / 3 d`, the mean square of the part of a start that no gradient changes.

    Derived: gradients lie in the span of the `n (T - 1)` matrices `(x_it - x_i1) z_i^T`, and the entries of the start,
    uniform within `1 / sqrt(d)`, have variance `1 / 3 d`. So, on average over starts, `1 - corr` with a solution in
    that span is at least about this over `2 ||W||^2`.
    """
    size = np.asarray(dim, float)
    return np.asarray(np.maximum(size**2 - inputs * (tokens - 1), 0.0) / (3 * size))
