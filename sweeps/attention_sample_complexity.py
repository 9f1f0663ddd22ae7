"""Sample complexity of one-layer attention on patterns, with learnt and with uniform weights (arXiv:2302.06015).

With little noise a handful of sequences is enough (AT-B-F1): here each token's noise has a norm of 0.8 and the relevant
tokens are few, so that the mean token of a sequence alone cannot tell its label.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import xarray as xr

from theory_sim import (
    AtLeast,
    AtMost,
    Claim,
    Equals,
    Estimate,
    Simulation,
    Sweep,
    bootstrap,
    by_seed,
    first_reach,
    last,
)
from theory_sim.attention import mean_token_error, mean_token_samples, pattern_transformer

TOKENS, NOISE, DIM = 16, 0.2, 16
SUCCESS = 0.05
"""The largest test error of a run that counts as a success."""


def sequences(*, stored: int = 512) -> Simulation:
    """The transformer on sequences of 16 tokens, `stored` of them at most for training."""
    return pattern_transformer(
        dim=DIM, tokens=TOKENS, max_width=32, samples=stored, test_samples=256, geometry=False, pruning=False
    )


SWEEP = Sweep(
    simulation=sequences,
    problem={
        "relevant_fraction": np.geomspace(0.08, 0.3, 10).round(4),
        "confusion_fraction": [0.0],
        "token_noise": [NOISE],
    },
    run={
        "train_samples": np.unique(np.geomspace(8, 512, 10).round().astype(int)),
        "score_scale": [1.0, 0.0],
        "query_key_scale": [1.0],
        "value_scale": [1.0],
        "step_size": [0.3],
    },
    problem_seeds=20,
    # Judged at the last; the others tell whether more steps would change what is found.
    steps=[100, 300, 600],
    presets={
        "smoke": {
            "relevant_fraction": np.geomspace(0.08, 0.3, 4).round(4),
            "train_samples": [8, 32, 128, 512],
            "problem_seeds": 3,
        },
        "quick": {},
        "paper": {
            "relevant_fraction": np.geomspace(0.08, 0.3, 20).round(4),
            "train_samples": np.unique(np.geomspace(8, 512, 20).round().astype(int)),
            "problem_seeds": 100,
        },
    },
)


def success(data: xr.Dataset) -> np.ndarray:
    """Return which runs succeed, `[seeds, alpha_*, N]`."""
    return last(data, "test_error", "relevant_fraction", "train_samples") <= SUCCESS


def gained(data: xr.Dataset) -> Estimate:
    """Change of the share of successes, over all N, from the first to the last record, at each alpha_*."""
    axes = ("step", "relevant_fraction", "train_samples")
    share = (by_seed(data, "test_error", *axes) <= SUCCESS).mean(axis=-1)
    window = f"step {int(data['step'][0])} to {int(data['step'][-1])}"
    return bootstrap(share[:, -1] - share[:, 0], window=window)


def needed(fraction: np.ndarray) -> np.ndarray:
    """Return the samples that the mean tokens of the classes need for a success, at each alpha_*."""
    return mean_token_samples(fraction, TOKENS, NOISE, patterns=DIM, dim=DIM, error=SUCCESS)


def boundary(data: xr.Dataset, scale: Callable[[np.ndarray], np.ndarray] = np.reciprocal) -> Estimate:
    """Fit `P(success) = sigmoid(b_0 + b_1 ln N - b_2 ln x)`: the boundary is `N ~ x^(b_2 / b_1)`, x = `scale(alpha_*)`.

    Rows of the map that no boundary crosses (no success at the largest N, or success at the smallest) are left out,
    and so are those where x is infinite.
    """
    found = success(data)
    share = found.mean(axis=0)
    size = scale(data.relevant_fraction.to_numpy())
    rows = (share[:, 0] < 0.5) & (share[:, -1] >= 0.5) & np.isfinite(size)
    size, samples = size[rows], data.train_samples.to_numpy()
    window = f"{rows.sum()} of {rows.size} rows of the map"
    if rows.sum() < 3:
        return Estimate(np.nan, -np.inf, np.inf, window, ("fewer than three rows have a boundary",))
    design = np.stack(
        [part.ravel() for part in np.broadcast_arrays(1.0, np.log(samples), -np.log(size)[:, None])],
        axis=-1,
    )

    def exponent(runs: np.ndarray, axis: int) -> np.ndarray:
        fitted = logistic(design, runs.mean(axis=axis))
        return fitted[..., 2] / fitted[..., 1]

    return bootstrap(found[:, rows].reshape(len(found), -1), exponent, window=window)


def logistic(design: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the most likely coefficients of a logistic model, `shares[..., cells]` being shares of successes.

    Newton's method, with a prior worth 1e-3 of a cell that keeps the coefficients of separable cells finite.
    """
    count = design.shape[1]
    fitted = np.zeros((*shares.shape[:-1], count))
    for _ in range(40):
        p = 1 / (1 + np.exp(-np.clip(fitted @ design.T, -30, 30)))
        slope = (shares - p) @ design - 1e-3 * fitted
        curvature = np.einsum("...c,ci,cj->...ij", p * (1 - p), design, design) + 1e-3 * np.eye(count)
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        fitted = fitted + step * np.minimum(1, 4 / np.maximum(np.abs(step).max(-1, keepdims=True), 1e-12))
    return fitted


def least_needed(data: xr.Dataset) -> Estimate:
    """Samples at half success in units of what the classes' mean tokens need, at each alpha_* where that can be tested.

    These are the rows of the map whose need lies among its N. The share of successes is interpolated in ln N; where
    half succeed with the fewest samples already, these count.
    """
    found, samples = success(data).astype(float), np.log(data.train_samples.to_numpy())
    unit = np.log(needed(data.relevant_fraction.to_numpy()))
    rows = (samples[0] < unit) & (unit <= samples[-1])

    def ratios(runs: np.ndarray, axis: int) -> np.ndarray:
        return np.exp(first_reach(samples, runs.mean(axis=axis), 0.5) - unit[rows])

    return bootstrap(found[:, rows], ratios, window=f"{rows.sum()} of {rows.size} rows of the map")


def last_error(data: xr.Dataset) -> Estimate:
    """Test error with the most samples, at each alpha_*."""
    last = data.isel(step=-1, train_samples=-1)
    return bootstrap(by_seed(last, "test_error", "relevant_fraction"))


def floor(data: xr.Dataset) -> np.ndarray:
    """Return the least error of a classifier of the mean token, at each alpha_*."""
    return mean_token_error(data.relevant_fraction, TOKENS, NOISE)


PAPER = "arXiv:2302.06015"
ATTENTION, UNIFORM = {"score_scale": 1.0}, {"score_scale": 0.0}
FEW = {"relevant_fraction": slice(None, 0.12)}
"""Where the least error of a classifier of the mean token is above the cut of a success."""
BETWEEN = "the two theorems' exponents differ by 2: a quarter of it on either side tells them apart"

NEED = (
    "The difference of N sequences' mean tokens is off by a noise of covariance C / N, which a new mean token meets\n"
    "as tr(C^2) / (N s^2) of further noise: N at which the error is the cut of 0.05, rates.mean_token_samples."
)

CLAIMS = [
    Claim(
        ids=("AT-B2", "AT-B-T1", "AT-B-P2"),
        statement="with attention the number of samples at half success grows like alpha_*^-2",
        source=f"{PAPER}, Theorem 1 (N >= Omega(alpha_*^-2) is enough) and its success map (straight in alpha_*^-2)",
        label="paper",
        measure=boundary,
        prediction=Equals(2, tolerance=0.5),
        tolerance_reason=BETWEEN,
        at=ATTENTION,
        control=UNIFORM,
        control_reason="uniform weights need more: their boundary even ends at a finite alpha_* (third claim)",
        remark="the theorem bounds N from above: an exponent above 2 at these few alpha_* is not against it",
    ),
    Claim(
        ids=("AT-B2", "AT-B-T2", "AT-B-P2"),
        statement="with uniform weights it grows at least like alpha_*^-4",
        source=f"{PAPER}, Proposition 1 (N = Omega(alpha_*^-4) is needed)",
        label="paper",
        measure=boundary,
        prediction=AtLeast(4),
        at=UNIFORM,
        control=ATTENTION,
        control_reason="attention needs no more than alpha_*^-2 (Theorem 1)",
        remark="no test of the exponent itself: the least error of the mean token reaches the cut of 0.05"
        " at alpha_* = 0.12,"
        " where N diverges, which steepens the rows above it: the next two claims have the whole curve",
    ),
    Claim(
        ids=("AT-B2", "AT-B-T2"),
        statement="with uniform weights it follows the curve of the mean tokens, alpha_*^-4 far from where it ends",
        source="derived: the samples that the difference of the classes' mean tokens needs",
        label="derived",
        derivation=NEED,
        measure=partial(boundary, scale=needed),
        prediction=Equals(1, tolerance=0.25),
        tolerance_reason="here the curve is as steep as alpha_*^-8: alpha_*^-4 would come out as a half, alpha_*^-2"
        " as a quarter; the factor between a trained network and the curve is free",
        at=UNIFORM,
        control=ATTENTION,
        control_reason="attention reads single tokens: its boundary is far less steep",
        remark="written when this preset's map had been seen, not the fit",
    ),
    Claim(
        ids=("AT-B2", "AT-B-T2"),
        statement="with uniform weights half of the runs never succeed with fewer samples than that",
        source="the curve is derived; that training is no better than the difference of mean tokens is a guess",
        label="unconfirmed",
        derivation=NEED,
        measure=least_needed,
        prediction=AtLeast(1),
        at=UNIFORM,
        control=ATTENTION,
        control_reason="where relevant tokens are few attention needs a fraction of it",
        remark="written when this preset's map had been seen",
    ),
    Claim(
        ids=("AT-B2", "AT-B-T2"),
        statement="where relevant tokens are few, no number of samples makes up for uniform weights",
        source="derived: the Bayes error of the mean token",
        label="derived",
        derivation="Of the mean token, mu_1 - mu_2 sees +-k/(L sqrt 2), k relevant tokens, and noise tau/sqrt L;\n"
        "the rest has no part in the label: the least error is E Phi(-k / (tau sqrt(2 L))), rates.mean_token_error.",
        measure=last_error,
        prediction=AtLeast(floor),
        at={**UNIFORM, **FEW},
        control={**ATTENTION, **FEW},
        control_reason="attention reads single tokens: it goes below the error of the mean token",
    ),
    Claim(
        ids=("AT-B2", "AT-B-T1"),
        statement="there attention ends below half of that error",
        source=f"{PAPER}, Theorem 1 against Proposition 1 (the factor is ours)",
        label="unconfirmed",
        measure=last_error,
        prediction=AtMost(lambda data: floor(data) / 2),
        tolerance_reason="a half is what an advantage worth the name must be",
        at={**ATTENTION, **FEW},
        control={**UNIFORM, **FEW},
        control_reason="uniform weights cannot go below the error itself",
    ),
    *[
        Claim(
            ids=("AT-B2",),
            statement=f"with {words} twice the steps, 600 for 300, change successes at no alpha_*: half a place in N at"
            " most",
            source="a check of the setting: the theorems count samples, not steps",
            label="unconfirmed",
            measure=gained,
            prediction=Equals(0, tolerance=0.05),
            tolerance_reason="a row has ten N: half of one place is a twentieth of its share of successes",
            at={**cells, "step": slice(300, None)},
            control={**ATTENTION, "step": slice(None, 300)},
            control_reason="after 100 steps runs of learnt attention on few relevant tokens are not yet trained",
        )
        for words, cells in (("attention", ATTENTION), ("uniform weights", UNIFORM))
    ],
]
