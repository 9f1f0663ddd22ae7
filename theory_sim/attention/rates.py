r"""Predictions for the one-layer transformer on pattern data: pure functions from parameters to numbers.

Derived ones hold while attention is still near uniform and the hinge active on every sample; then every query
attends to the mean token of its sequence, whose expectation for label 1 is
`zbar = alpha_* mu_1 + alpha_# mu_2 + beta sum_{j > 2} mu_j`, with `beta = (1 - alpha_* - alpha_#) / (M - 2)`.

>>> [round(float(mean_token_angle(16, fraction, 0.1)), 1) for fraction in (0.4, 0.9)]
[20.7, 0.0]
"""

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]


def update_rank(discriminative_patterns: int = 2) -> int:
    """Return the rank of the updates: one direction for each discriminative pattern (AT-C1, AT-C-T2).

    That it depends on the number of label-relevant patterns is in the abstract of arXiv:2406.17167; that it equals
    it is unconfirmed as the paper's value. Derived: a label contributes one outer product, `p_y zbar_y^T`.
    """
    return discriminative_patterns


def mean_token_angle(
    patterns: ArrayLike,
    relevant_fraction: ArrayLike,
    confusion_fraction: ArrayLike,
    classes: ArrayLike = 2,
    *,
    correlation: ArrayLike = 0.0,
) -> Curve:
    """Return the largest angle, in degrees, of span(zbar_c) to span(mu_1 .. mu_K): dW_Q, dW_V, dW_O (AT-C2, AT-C3).

    Derived: the right factors of the gradients by W_Q, W_V and W_O are mean tokens. Differences of the classes' mean
    tokens lie in span(mu_1 .. mu_K), their sum is `(alpha_* + alpha_#) sum_c mu_c + K beta sum_j mu_j`, with
    `beta = (1 - alpha_* - alpha_#) / (M - K)`; of orthonormal patterns
    tan = `(1 - alpha_* - alpha_#) / (alpha_* + alpha_#) sqrt(K / (M - K))`.
    It vanishes with many patterns or without irrelevant tokens, not with the noise.
    """
    told = np.asarray(relevant_fraction, float) + np.asarray(confusion_fraction, float)
    rest = np.asarray(classes, float) * np.maximum(1 - told, 0) / (np.asarray(patterns, float) - classes)
    return _angle_of_sum(told, rest, patterns, classes, correlation)


def key_angle(
    patterns: ArrayLike,
    relevant_fraction: ArrayLike,
    confusion_fraction: ArrayLike,
    classes: ArrayLike = 2,
    *,
    correlation: ArrayLike = 0.0,
) -> Curve:
    """Return the largest angle, in degrees, of the leading directions of dW_K to span(mu_1 .. mu_K) (AT-C2, AT-C3).

    Derived: the right factor is the covariance of a sequence's tokens times the direction v_y that the output rewards.
    Neurons learn differences of mean tokens first, so that v_y is in proportion to `mu_y - sum_c mu_c / K`, and
    `sum_y v_y = 0`. Then noise, which adds `tau^2 v_y`, adds nothing to the sum over classes, and this sum is in
    proportion to `(1 - alpha_* - alpha_#) sum_c mu_c - K beta sum_j mu_j`: the same angle for all fractions and
    all noise, of orthonormal patterns tan = `sqrt(K / (M - K))`. Without irrelevant tokens all lies in the span.
    """
    told = np.asarray(relevant_fraction, float) + np.asarray(confusion_fraction, float)
    rest = np.asarray(classes, float) / (np.asarray(patterns, float) - classes)
    return np.where(told < 1, _angle_of_sum(1.0, -rest, patterns, classes, correlation), 0.0)


def _angle_of_sum(
    own: ArrayLike, others: ArrayLike, patterns: ArrayLike, classes: ArrayLike, correlation: ArrayLike
) -> Curve:
    """Return the angle of `own sum_c mu_c + others sum_j mu_j` to span(mu_1 .. mu_K), in degrees.

    Of patterns with inner products rho: `sum_j mu_j`, j > K, is `(M - K) rho / (1 + (K - 1) rho) sum_c mu_c` in the
    span, its square is `(M - K) (1 + (M - K - 1) rho)`, and that of `sum_c mu_c` is `K (1 + (K - 1) rho)`.
    """
    most, few, rho = (np.asarray(part, float) for part in (patterns, classes, correlation))
    rest, common = most - few, 1 + (few - 1) * rho
    inside = own + others * rest * rho / common
    off = rest * (1 + (rest - 1) * rho) - few * (rest * rho) ** 2 / common
    return np.degrees(np.arctan(np.abs(others) * np.sqrt(off) / (np.abs(inside) * np.sqrt(few * common))))


def mean_token_spread(
    patterns: ArrayLike,
    relevant_fraction: ArrayLike,
    confusion_fraction: ArrayLike,
    token_noise: ArrayLike,
    *,
    tokens: ArrayLike,
    dim: int,
    classes: ArrayLike = 2,
) -> Curve:
    """Return how far the mean of some of a sequence's tokens is from zbar, off span(mu_1 .. mu_K), root mean square.

    Derived: each irrelevant token is a random one of `M - K` unit vectors, `1 - 1 / (M - K)` from their mean in square,
    and noise has `dim - K` directions off the span; independent tokens add in square.
    """
    irrelevant = 1 - np.asarray(relevant_fraction, float) - np.asarray(confusion_fraction, float)
    square = irrelevant * (1 - 1 / (np.asarray(patterns, float) - classes))
    square = square + np.square(token_noise) * (dim - np.asarray(classes, float))
    return np.sqrt(square / np.asarray(tokens, float))


def sampling_angle(
    spread: ArrayLike, samples: ArrayLike, relevant_fraction: ArrayLike, confusion_fraction: ArrayLike
) -> Curve:
    """Return the angle off span(mu_1, mu_2), in degrees, of the difference of two mean tokens of N/2 samples each.

    Derived: the difference is `(alpha_* - alpha_#)(mu_1 - mu_2)` in the span, and off it `2 spread / sqrt(N)`.
    """
    told = np.sqrt(2) * (np.asarray(relevant_fraction, float) - np.asarray(confusion_fraction, float))
    return np.degrees(np.arctan(2 * np.asarray(spread, float) / np.sqrt(samples) / told))


def mean_token_error(relevant_fraction: ArrayLike, tokens: int, token_noise: float) -> Curve:
    """Return the least test error of any classifier of the mean token, without confusion tokens (AT-B-T2).

    Derived: on `(mu_1 - mu_2) / sqrt(2)` the mean of L tokens is `+-k / (L sqrt(2))` with k relevant tokens, plus noise
    of standard deviation `tau / sqrt(L)`; all other coordinates have the same law under both labels. The sign is the
    best guess for every k, so that the error is `E Phi(-k / (tau sqrt(2 L)))`, k being `alpha_* L` rounded at random.
    """
    mean = np.asarray(relevant_fraction, float) * tokens
    low = np.floor(mean)
    errors = [scipy.special.ndtr(-k / (token_noise * np.sqrt(2 * tokens))) for k in (low, low + 1)]
    return (1 - (mean - low)) * errors[0] + (mean - low) * errors[1]


def mean_token_samples(
    relevant_fraction: ArrayLike, tokens: int, token_noise: float, *, patterns: int, dim: int, error: float
) -> Curve:
    """Return how many sequences the difference of the classes' mean tokens needs for a test error of `error`.

    Infinite where no number is enough (`mean_token_error`), and like `alpha_*^-4` far from there, as AT-B-T2 has it.

    Derived: from N sequences the direction is `s e + g`, `s = alpha_* / sqrt(2)` along `e = (mu_1 - mu_2) / sqrt(2)`
    and `g ~ N(0, C / N)`, C being the covariance of a mean token. A new one meets noise of variance
    `tau^2 / L + tr(C^2) / (N s^2)` on it, in units of s: as if tau were larger. With tau_e the noise at which
    `mean_token_error` is `error`, `N = 2 L tr(C^2) / (alpha_*^2 (tau_e^2 - tau^2))`; of the M - 2 irrelevant patterns
    `L^2 tr(C^2) = (M - 3) ((1 - alpha_*) / (M - 2) + tau^2)^2 + (d - M + 3) tau^4`. Where tau is
    far below `tau_e`, which is about proportional to alpha_*, that is the fourth power.
    """
    fraction = np.asarray(relevant_fraction, float)
    spread = (1 - fraction) / (patterns - 2) + token_noise**2
    squared = (patterns - 3) * spread**2 + (dim - patterns + 3) * token_noise**4

    def enough_noise(one: float) -> float:
        return scipy.optimize.brentq(lambda tau: mean_token_error(one, tokens, tau) - error, 1e-9, 1e9)

    allowed = np.vectorize(enough_noise, otypes=[float])(fraction) ** 2 - token_noise**2
    with np.errstate(divide="ignore"):
        return np.where(allowed > 0, 2 * squared / (tokens * fraction**2 * np.maximum(allowed, 0.0)), np.inf)


def confusion_constant() -> float:
    """Return `1 / (2 e)`, the upper end of the interval of the constant c in `alpha_* >= alpha_# / c` (AT-B4, AT-B-T1).

    arXiv:2302.06015, Theorem 1, as recalled: success for some c below it, sufficient and not necessary.
    """
    return float(1 / (2 * np.e))


def sufficient_width(patterns: ArrayLike, samples: int) -> Curve:
    """Return `M^2 log N`, the width that is enough up to a constant (AT-B6; arXiv:2302.06015, Theorem 1)."""
    return np.asarray(patterns, float) ** 2 * np.log(samples)


def dead_start(
    patterns: int,
    relevant_fraction: float,
    confusion_fraction: float,
    *,
    tokens: int,
    samples: int,
    dim: int,
    token_noise: float,
) -> float:
    """Return the chance that a neuron is inactive at the start on all sequences of the class it speaks for (AT-B6).

    Derived: while attention is near uniform a neuron sees the mean token of each sequence, so that on `N / 2`
    sequences it is inactive where `w . sum_l x_l <= 0` for all of them, `w` being its row, which starts Gaussian. The
    hinge's gradient reaches an inactive neuron from no sequence of its class. The share is counted over 20,000 rows,
    100 for each of 200 draws of the sequences: its standard error is below 0.005.
    Raises ValueError unless there are three patterns, one of no class among them.
    """
    if patterns < 3:
        raise ValueError(f"patterns must be at least 3, got {patterns}")
    rng = np.random.default_rng(0)
    draws, rows, count = 200, 100, max(samples // 2, 1)
    place = rng.uniform(size=(draws, count))
    relevant = np.floor(relevant_fraction * tokens + place)
    told = np.floor((relevant_fraction + confusion_fraction) * tokens + place)
    counts = rng.multinomial((tokens - told).astype(int), np.full(patterns - 2, 1 / (patterns - 2)))
    seen = np.concatenate([relevant[..., None], (told - relevant)[..., None], counts], axis=-1)
    row = rng.standard_normal((draws, rows, dim))
    noise = token_noise * np.sqrt(tokens) * rng.standard_normal((draws, count, dim))
    noise[..., :patterns] += seen
    return float((row @ noise.swapaxes(-1, -2) <= 0).all(axis=-1).mean())


def failing_share(width: ArrayLike, dead: ArrayLike, classes: int = 2) -> Curve:
    """Return the chance that some class starts with no active neuron, if each is dead with chance `dead` (AT-B6).

    Derived: class c has `m / K` neurons of its own, independent at the start: `1 - (1 - q^(m/K))^K`. Without one its
    sequences reach no neuron of its own, unless the values, which all neurons share, wake one: a first order. It falls
    with the width at a rate that knows of the number of patterns only through q: `K log(K / delta) / log(1 / q)`
    neurons fail with a chance of about delta.
    """
    alone = np.asarray(dead, float) ** (np.asarray(width, float) / classes)
    return 1 - (1 - alone) ** classes
