r"""Predictions for token selection with noisy labels: which labels are fitted, and whether it harms new inputs.

The mean field (derived): noise vectors are taken as orthogonal with squared norm d, and their scores as zero. An
input of either class is then clean or noisy, its tokens are of four kinds, and the state is a coefficient `c` for each,
so that `q = sum c x`. With `A = q . mu` of the own class (the same for both classes), n_c clean and n_n noisy inputs in
a class, and `c'` the gradient's `(1/n) sigma(-m) s_t (gamma_t - sum s gamma)`:

    logits: A + d c_1, rho A + d c_2, rho A + d c_3, d c_4        A' = mu^2 sum_i (c_1 + rho c_2 + rho c_3)'

A noisy input pushes its own relevant token down, by d, while its class pushes it up, by mu^2 for each clean input. At
the start all attend alike, and the noisy input wins where about `mu^2 (n_c - n_n) < d T / (T - 1)` (`first_boundary`).
Everything depends on mu^2 / d and on the step size times d alone, so that this boundary has exponent 1/2 in d. Later
clean inputs saturate, and the pull `F = sigma(-m) s (1 - s)` of a noisy one, which is larger by r = F_n / F_c, wins
once `r > mu^2 n_c / (d' + mu^2 n_n)`, d' = d T / (T - 1). As gaps part by `(ln r)' = d' (F_c + F_n)`, the noisy gap
peaks at a height of the order mu^2 / d, and to come back takes the exponential of that: the boundary after t steps is
at mu^2 ~ d ln t. When all attend to the relevant token r is `sigma(a) / sigma(-a) = e^a`, `a = 1 / sqrt(2)` being its
score. With n_c / n_n below that, noisy inputs win however strong the signal is (`least_label_noise`).

New inputs see A against the noise `|q| z` of each token. Early, and where mu^2 n << d, all `c_1` are equal, up to the
sign, and the others are `-c_1 / (T - 1)`: `A / |q| = (1 - 2 eta) mu^2 sqrt(n) / (2 sqrt(d T / (T - 1)))`
(`signal_ratio`). The relevant token is the most attended one with a chance that depends on this ratio alone, and is one
half at a fixed ratio: exponent 1/4 in d, until the part of q along the signals counts (`selected_chance`).

>>> round(float(first_boundary(2000, inputs=20, tokens=8, label_noise=0.2)), 2)
20.72
>>> found = mean_field([5.0, 40.0, 160.0], 2000.0, inputs=20, tokens=8, label_noise=0.1)
>>> found.noisy_attention.round(2).tolist(), found.test_selected.round(2).tolist()
([0.0, 0.0, 1.0], [0.36, 1.0, 1.0])
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

Curve = NDArray[np.float64]


SCORE = 1 / np.sqrt(2)
"""The relevant token's score under the head `(mu_+ - mu_-) / (sqrt(2) |mu|^2)`."""


class MeanField(NamedTuple):
    """What the mean field says after the last step.

    Attention on the relevant token of clean and of noisy inputs, the margin of the noisy labels (positive: fitted), the
    signal `A` over the norm of `q`, the chance that the relevant token of a new input is the most attended, and the
    test error.
    """

    clean_attention: Curve
    noisy_attention: Curve
    noisy_margin: Curve
    signal_ratio: Curve
    test_selected: Curve
    test_error: Curve


def mean_field(
    signal_norm: ArrayLike,
    dim: ArrayLike,
    *,
    inputs: int,
    tokens: int,
    label_noise: float,
    rho: float = 0.1,
    step_size: float = 10.0,
    steps: int = 1000,
) -> MeanField:
    """Run gradient descent in the mean field, from zero; arrays of signal norms and dimensions broadcast."""
    norm, dim = np.broadcast_arrays(np.asarray(signal_norm, float), np.asarray(dim, float))
    counts = np.array([1, 1, 1, tokens - 3])
    members = inputs / 2 * np.array([1 - label_noise, label_noise])
    scores = np.outer([1.0, -1.0], [1.0, rho, -rho, 0.0]) * SCORE
    part = np.array([1.0, rho, rho, 0.0])
    kept = np.zeros((*norm.shape, 2, 4))

    def attention() -> tuple[Curve, Curve]:
        signal = norm**2 * np.einsum("...ik,i,k->...", kept, members, part)
        logits = signal[..., None, None] * part + dim[..., None, None] * kept
        raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return raised / np.sum(counts * raised, axis=-1, keepdims=True), signal

    # Coefficients carry labels: those of a noisy input count along its own tokens as its pulls do.
    for _ in range(steps):
        attended, _ = attention()
        margins = np.sum(counts * attended * scores, axis=-1, keepdims=True)
        pulls = attended * (scores - margins) / (1 + np.exp(margins)) / inputs
        kept = kept + step_size / dim[..., None, None] * pulls
    attended, signal = attention()
    across = dim * 2 * np.einsum("...ik,i,k->...", kept**2, members, counts)
    length = np.sqrt(across + 2 * (signal / norm) ** 2)
    ratio = signal / np.where(length > 0, length, 1.0)
    return MeanField(
        clean_attention=attended[..., 0, 0],
        noisy_attention=attended[..., 1, 0],
        noisy_margin=np.sum(counts * attended * scores, axis=-1)[..., 1],
        signal_ratio=ratio,
        test_selected=selected_chance(ratio, tokens=tokens, rho=rho),
        test_error=output_error(signal, length, norm, tokens=tokens, rho=rho),
    )


def selected_chance(ratio: ArrayLike, *, tokens: int, rho: float = 0.0) -> Curve:
    """Return the chance that the relevant token is the most attended, for logits `(r, rho r, rho r, 0, ...) + normal`.

    By the rule of trapezoids, which is exact to rounding for so smooth a function.
    """
    ratio = np.asarray(ratio, float)[..., None]
    z = np.linspace(-9, 9, 400)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    below = ndtr(z + (1 - rho) * ratio) ** 2 * ndtr(z + ratio) ** (tokens - 3)
    return np.asarray(np.sum(density * below, axis=-1))


def output_error(
    signal: ArrayLike, length: ArrayLike, signal_norm: ArrayLike, *, tokens: int, rho: float
) -> Curve:
    """Return the test error for logits `(A, rho A, rho A, 0, ...) + |q| z` of new inputs.

    Scores have independent noise of deviation `1 / |mu|`, as `q . nu = 0` by symmetry: with weights w the error is the
    mean of `Phi(-(w_1 + rho (w_2 - w_3)) |mu| / (sqrt(2) |w|))`, over 4096 fixed draws of z, to about 1%.
    """
    signal, length, norm = (
        np.asarray(part, float)[..., None, None] for part in (signal, length, signal_norm)
    )
    part = np.array([1.0, rho, rho, *[0.0] * (tokens - 3)])
    seen = signal * part + length * np.random.default_rng(0).normal(size=(4096, tokens))
    weights = np.exp(seen - seen.max(axis=-1, keepdims=True))
    output = weights @ np.array([1.0, rho, -rho, *[0.0] * (tokens - 3)])
    return np.asarray(ndtr(-output * SCORE * norm[..., 0] / np.linalg.norm(weights, axis=-1)).mean(axis=-1))


def first_boundary(dim: ArrayLike, *, inputs: int, tokens: int, label_noise: float) -> Curve:
    """Return the signal norm below which a noisy input's attention to its relevant token falls at first.

    Derived, for rho = 0: `mu^2 (n_c - r n_n) = r d T / (T - 1)`, `r = e^(a / T)` being the ratio of `sigma(-m)` at the
    margins `-a / T` and `a / T`. Infinite where `n_c < r n_n`.
    """
    pull = np.exp(SCORE / tokens)
    net = inputs / 2 * (1 - label_noise - pull * label_noise)
    each = np.asarray(dim, float) * pull * tokens / (tokens - 1)
    return np.sqrt(each / net) if net > 0 else np.full_like(each, np.inf)


def signal_ratio(
    signal_norm: ArrayLike, dim: ArrayLike, *, inputs: int, tokens: int, label_noise: float
) -> Curve:
    """Return `A / |q|` early in training with a weak signal: rho = 0, many tokens, q mostly across the signals."""
    spread = np.sqrt(np.asarray(dim, float) * tokens / (tokens - 1))
    return np.asarray(
        (1 - 2 * label_noise) * np.asarray(signal_norm, float) ** 2 * np.sqrt(inputs) / (2 * spread)
    )


def least_label_noise() -> float:
    """Return `1 / (1 + e^(1 / sqrt(2)))`: with more label noise, in time all noisy labels are fitted."""
    return float(1 / (1 + np.exp(SCORE)))
