r"""Predictions for the task-vector transformer: pure functions from parameters to numbers.

Write kappa = alpha_* - alpha_# and M for the number of irrelevant patterns v_j. While attention is near uniform, every
query attends to the mean token of its sequence, whose expectation for the label y is `zbar_y = y kappa mu_T + c` with
`c = beta sum_j v_j` and `beta = (1 - alpha_* - alpha_#) / M`: the labels share `c`, of norm
`(1 - alpha_* - alpha_#) / sqrt(M)`.

>>> [round(float(value_residual(patterns, 0.4, 0.1)), 2) for patterns in (6, 102)]
[0.64, 0.16]
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]
EARLY_LOSS = 0.9
"""Down to this training loss the hinge is active on nearly all samples, and attention counts as near uniform."""


def value_residual(patterns: ArrayLike, relevant_fraction: ArrayLike, confusion_fraction: ArrayLike) -> Curve:
    """Return the share of the norm of dV outside rank one, while attention is near uniform (AT-C6).

    Derived: a row that is active on one label y gains `a_i y zbar_y`, and rows with `a_i > 0` end active on y = 1, the
    others on y = -1. So `dV = u_+ zbar_+^T + u_- zbar_-^T = (u_+ - u_-) kappa mu_T^T + (u_+ + u_-) c^T`, with u_+ and
    u_- on different rows and of one norm in expectation: two singular values, in proportion to kappa and |c|. The
    corollary has rank one; `c` vanishes with many patterns only.
    """
    common, gap = _shared(patterns, relevant_fraction, confusion_fraction)
    return np.minimum(common, gap) / np.hypot(common, gap)


def attention_residual(
    patterns: ArrayLike, relevant_fraction: ArrayLike, confusion_fraction: ArrayLike, tokens: int
) -> Curve:
    """Return the share of the norm of dW outside rank one, while attention is near uniform (AT-C6).

    Derived: the gradient of y f is `C b x^T`, with C the covariance of a sequence's tokens, x their mean and b the
    direction `sum_i a_i v_i` of the active rows, `y zbar_y` times a number. A sequence of L tokens has K = (1 -
    alpha_* - alpha_#) L irrelevant ones, n_j of them v_j. Then `zbar_y . x` is `rho = kappa^2 + |c|^2` for each of
    them, and `C zbar_y = y kappa (alpha_* + alpha_# - rho) mu_T + (beta - rho) sum_j (n_j / L) v_j`.
    With y averaged out and `E n n^T = K (K - 1) / M^2 11^T + K / M I`, dW is diagonal on `mu_T`, on the sum of the v_j
    and on what is orthogonal to it, with values in proportion to `kappa^2 (alpha_* + alpha_# - rho)`,
    `(beta - rho) K^2 / (M L^2)` and, M - 1 times, `(beta - rho) K / (M L^2)`. Only the first does not vanish with M;
    the last, from the counts of short sequences, go like 1/M each and like 1/sqrt(M) together, as the share does.
    """
    told = np.asarray(relevant_fraction, float) + np.asarray(confusion_fraction, float)
    common, gap = _shared(patterns, relevant_fraction, confusion_fraction)
    count = np.asarray(patterns, float) - 2
    rest = (1 - told) / count - gap**2 - common**2
    first = gap**2 * (told - gap**2 - common**2)
    others = np.abs(rest) * np.sqrt(common**4 + (count - 1) * ((1 - told) / (count * tokens)) ** 2)
    return others / np.hypot(others, first)


def residual_bound(patterns: ArrayLike, error: ArrayLike) -> Curve:
    """Return `M eps + 1/log M`, the bound on the norm of dW outside rank one with its constants read as 1 (AT-C-T3)."""
    count = np.asarray(patterns, float) - 2
    return count * np.asarray(error, float) + 1 / np.log(count)


def dead_fraction(patterns: ArrayLike, relevant_fraction: ArrayLike, confusion_fraction: ArrayLike) -> Curve:
    """Return the share of rows of V that gradient flow leaves inactive on all samples (AT-C4).

    Derived for long sequences and attention near uniform: a row sees `zbar_+` and `zbar_-`, that is, its coordinates
    along mu_T and c, which start Gaussian. Take `a_i > 0`. Inactive on both labels from the start are
    `atan(|c| / kappa) / pi` of the rows. Rows that are active on y = -1 alone move along `kappa mu_T - c`, which keeps
    their coordinate along `|c| mu_T + kappa c / |c|`: they leave y = -1 active on y = 1 if it is positive, dead if not,
    and the latter lie within a right angle, 1/4, or are all of them, `atan(kappa / |c|) / pi`, where kappa < |c|.
    All others end active on y = 1. The fluctuations of short sequences can only wake a row, so that this bounds the
    share of small rows from above.
    """
    common, gap = _shared(patterns, relevant_fraction, confusion_fraction)
    return np.minimum(0.25 + np.arctan(common / gap) / np.pi, 0.5)


def _shared(
    patterns: ArrayLike, relevant_fraction: ArrayLike, confusion_fraction: ArrayLike
) -> tuple[Curve, Curve]:
    """Return |c| and kappa."""
    relevant, confusion = np.asarray(relevant_fraction, float), np.asarray(confusion_fraction, float)
    return (1 - relevant - confusion) / np.sqrt(np.asarray(patterns, float) - 2), relevant - confusion
