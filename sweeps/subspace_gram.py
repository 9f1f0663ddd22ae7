"""The Gram matrices of random projections, and low-rank adapters that train inside one of them.

Norms and overlaps of columns by projection (arXiv:1804.08838), and the exact isometry of Uni-LoRA with what it means
for training (arXiv:2506.00799).
"""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from theory_sim import (
    AtMost,
    Claim,
    Equals,
    Estimate,
    MatchesCurve,
    Sweep,
    bootstrap,
    by_seed,
    cellwise,
    last,
    last_mean,
)
from theory_sim.subspace import adapter_spread, gram_moments, shared_adapters

D = 1000  # 2 layers of rank 4, 25 x 100; with 103 columns D is 1024, a power of two
DIMS = [20, 50, 100]
Measure = Callable[[xr.Dataset], Estimate]


def wanted(projection, cols, dim, start, projected, problem_seed, **_):  # type: ignore[no-untyped-def]
    """One change at a time: D = 1024 for Fastfood; other starts and descents for a few one-hot projections.

    Those are for identities and controls, which few show as well.
    """
    changes = 1 * (cols != 100) + (start != 0.02) + (projected == 0)  # of truth values alone, + is "or"
    return (changes == 0) | (
        (changes == 1)
        & np.where(cols != 100, projection == "fastfood", (projection == "one_hot") & (problem_seed < 64))
    )


SWEEP = Sweep(
    simulation=shared_adapters,
    shape={
        "projection": ["dense", "sparse", "fastfood", "one_hot", "signed_one_hot", "vera"],
        "cols": [100, 103],
    },
    run={"dim": DIMS, "start": [0.0, 0.01, 0.02], "projected": [0, 1]},
    problem_seeds=256,
    steps=[0, 10],
    presets={
        "smoke": {"projection": ["dense", "one_hot"], "cols": [100], "problem_seeds": 16},
        "quick": {},
        "paper": {"problem_seeds": 2048, "steps": [0, 10, 100]},
    },
    where=wanted,
)


def mean_of(name: str) -> Measure:
    """Return the measure of a metric's mean at the end, in every dimension."""

    def measure(data: xr.Dataset) -> Estimate:
        return last_mean(data, name, "dim")

    return measure


def largest_of(*names: str) -> Measure:
    """Return the measure of the largest value of some metrics at the end, over seeds and dimensions."""

    def measure(data: xr.Dataset) -> Estimate:
        values = np.max([last(data, name, "dim").max(axis=1) for name in names], axis=0)
        return bootstrap(values, np.max)

    return measure


def root_of(name: str) -> Measure:
    """Return the measure of the root of a metric's mean, in every dimension."""

    def measure(data: xr.Dataset) -> Estimate:
        return bootstrap(last(data, name, "dim"), lambda v, axis: np.sqrt(v.mean(axis=axis)))

    return measure


def block_norms(data: xr.Dataset) -> Estimate:
    """Mean and standard deviation of squared column norms, of VeRA's first block and of its second."""
    names = ("first_mean", "first_square", "last_mean", "last_square")
    samples = np.stack([last(data, name) for name in names], axis=-1)

    def moments(values: np.ndarray, axis: int) -> np.ndarray:
        mean = values.mean(axis=axis)
        deviations = np.sqrt(np.maximum(mean[..., 1::2] - mean[..., ::2] ** 2, 0))
        return np.stack([mean[..., ::2], deviations], axis=-1).reshape(*mean.shape[:-1], 4)

    return bootstrap(samples, moments)


def relative_progress(data: xr.Dataset) -> Estimate:
    """Largest relative change of the loss in training, over seeds and dimensions."""
    first, final = (by_seed(data.isel(step=i), "loss", "dim") for i in (0, -1))
    return bootstrap(np.abs(final / first - 1).max(axis=1), np.max)


def start_spread(data: xr.Dataset) -> Sequence[float]:
    """Predicted spread of the entries of B A at the start, in every dimension."""
    return [adapter_spread(D, int(d), rank=4, start=0.02) for d in data["dim"].to_numpy()]


PLAIN = {"cols": 100, "start": 0.02, "projected": 1}
KIND = {kind: {**PLAIN, "projection": kind} for kind in ("dense", "sparse", "fastfood", "one_hot", "vera")}
LI, UNI_LORA = "arXiv:1804.08838", "arXiv:2506.00799"
DERIVED = "SU-A1-F7: squared entries of a column have mean 1/D; Fastfood's Gaussians, shared by all columns, add 1/L."

CLAIMS = [
    Claim(
        ids=("SU-A1-3", "SU-A1-F6"),
        statement="squared column norms are 1 on average for dense, sparse and Fastfood projections",
        source=LI,
        label="derived",
        derivation="Dense and sparse columns are divided by their norms; in Fastfood E G^2 / mean G^2 = 1 by exchange.",
        measure=cellwise(mean_of("norm"), keep=("dim",)),
        prediction=Equals(1.0, tolerance=0.002),
        tolerance_reason="five standard errors of Fastfood's norms (sd 0.007 for one column, 256 draws)",
        at={**PLAIN, "projection": ["dense", "sparse", "fastfood"]},
        control=KIND["vera"],
        control_reason="VeRA's columns have squared norms of mean 2",
    ),
    *[
        Claim(
            ids=("SU-A1-3", "SU-A1-F7"),
            statement=f"columns of a {kind} projection overlap with root mean square {formula}, in every dimension",
            source=LI,
            label="derived",
            derivation=DERIVED,
            measure=root_of("overlap"),
            prediction=Equals(float(np.sqrt(gram_moments(kind, D).inner_product_variance)), tolerance=0.0015),
            tolerance_reason="256 draws of at least 190 pairs: 2% of 0.04 if every second pair counted; corrections of "
            "order 1/D",
            at=KIND[kind],
            control=KIND[other],
            control_reason=f"{other} columns overlap more"
            if other == "fastfood"
            else f"{other} columns overlap less",
        )
        for kind, formula, other in (
            ("dense", "1/sqrt(D)", "fastfood"),
            ("sparse", "1/sqrt(D)", "fastfood"),
            ("fastfood", "sqrt(1/D + 1/L)", "dense"),
        )
    ],
    Claim(
        ids=("SU-A1-F7", "SU-A1-3"),
        statement="squared column norms of Fastfood have variance 2 (1/D - 1/L)",
        source=LI,
        label="derived",
        derivation="P e_j has squared norm g^T M g / (D sum g^2), M = H^T T^T T H of diagonal D and squares summing\n"
        "to D L^2: the pairs k != l give 2 (D L^2 - L D^2) / (D L)^2 = 2 (1/D - 1/L).",
        measure=mean_of("norm_square_error"),
        prediction=MatchesCurve(gram_moments("fastfood", D).norm_variance, 0.15),
        tolerance_reason="256 draws of 20 columns or more, corrections of order 1/D, and the error of one Gaussian "
        "vector that all columns of a draw share",
        at=KIND["fastfood"],
        control={**KIND["fastfood"], "cols": 103},
        control_reason="with D = L = 1024 all norms are exactly 1",
    ),
    Claim(
        ids=("SU-A1-3",),
        statement="Fastfood columns have exactly unit norm when D is a power of two",
        source=LI,
        label="derived",
        derivation="Then H G Pi H B e_j has squared norm L sum G^2, whatever the signs.",
        measure=mean_of("norm_square_error"),
        prediction=AtMost(1e-24),
        tolerance_reason="an identity, up to the square of a rounding error of 1e-13",
        at={**KIND["fastfood"], "cols": 103},
        control=KIND["fastfood"],
        control_reason="D = 1000 is none: the variance is 2 (1/D - 1/L)",
    ),
    Claim(
        ids=("SU-A3-1", "SU-A3-F2"),
        statement="one-hot projections, signed or not, are isometries in every dimension: P^T P = I",
        source=f"{UNI_LORA}, abstract (recalled as its Theorem 1)",
        label="derived",
        derivation="Rows are one-hot, so that columns do not overlap, and column j has n_j entries of square 1/n_j.\n"
        "Measured on all columns P e_j, with which the product by P^T must agree, not on the diagonal that this says.",
        measure=cellwise(largest_of("isometry_error", "transpose_error"), keep=("dim",)),
        prediction=AtMost(1e-12),
        tolerance_reason="an identity in float64, stated to 1e-12",
        at={**PLAIN, "projection": ["one_hot", "signed_one_hot"]},
        control={**PLAIN, "projection": ["dense", "sparse"]},
        control_reason="columns of dense and sparse projections overlap by 1/sqrt(D)",
    ),
    Claim(
        ids=("SU-A3-F4",),
        statement="VeRA's squared column norms have mean 2 and spread sqrt(3.2/r), sqrt(3.2/n): orthogonal, not unit",
        source=f"{UNI_LORA}, its framework of projections",
        label="derived",
        derivation="A sum of n squares of U(+-sqrt(6/n)): means 2/n and variances 36/(5 n^2) - 4/n^2 = 3.2/n^2 each.",
        measure=block_norms,
        prediction=MatchesCurve([2, np.sqrt(3.2 / 4), 2, np.sqrt(3.2 / 100)], 0.1),
        tolerance_reason="the spread of the second block has 1024 samples: 3 standard errors are 7%",
        at={**KIND["vera"], "dim": 100},
        control={**KIND["dense"], "dim": 100},
        control_reason="columns of a dense projection are normalised",
    ),
    Claim(
        ids=("SU-A3-F4",),
        statement="VeRA's columns do not overlap",
        source=f"{UNI_LORA}, its framework of projections",
        label="derived",
        derivation="Each trained number scales entries of its own.",
        measure=mean_of("overlap"),
        prediction=AtMost(1e-28),
        tolerance_reason="an identity, up to the square of a rounding error",
        at=KIND["vera"],
        control=KIND["sparse"],
        control_reason="sparse columns share rows",
    ),
    Claim(
        ids=("SU-A3-2",),
        statement="with a one-hot projection P P^T is an orthogonal projector",
        source=UNI_LORA,
        label="derived",
        derivation="(P P^T)^2 = P (P^T P) P^T = P P^T.",
        measure=largest_of("projector_error"),
        prediction=AtMost(1e-12),
        tolerance_reason="an identity in float64, stated to 1e-12",
        at=KIND["one_hot"],
        control=KIND["dense"],
        control_reason="nearly orthogonal columns make no projector",
    ),
    Claim(
        ids=("SU-A3-2",),
        statement="descent in theta_d is descent in theta_D with the gradient passed through P P^T",
        source=UNI_LORA,
        label="derived",
        derivation="P (theta_d - eta P^T g) = P theta_d - eta P P^T g, for any loss.",
        measure=largest_of("gap"),
        prediction=AtMost(1e-9),
        tolerance_reason="rounding errors of 1e-16, grown by at most 1.5 in each of 10 steps near the saddle at 0",
        at=KIND["one_hot"],
        control={**KIND["one_hot"], "projected": 0},
        control_reason="the whole gradient leaves the subspace",
    ),
    Claim(
        ids=("SU-A3-8", "SU-A3-I2"),
        statement="Uni-LoRA's adapters start with entries of deviation sqrt(r) (0.02^2/3) d/D, not at zero",
        source=f"{UNI_LORA}, its code",
        label="derived",
        derivation="Entries of theta_D have variance (0.02^2/3) d/D; an entry of B A is a sum of r products of two.\n"
        "Entries that read one coordinate add 0.8 p + 3 (r-1) p^2 to the variance, p = (D-d) / (d (D-1)).",
        measure=root_of("update_square"),
        prediction=MatchesCurve(start_spread, 0.05),
        tolerance_reason="three standard errors of 256 starts of 20 numbers, whose own spread is 4% each",
        at=KIND["one_hot"],
        control={**KIND["one_hot"], "start": 0.01},
        control_reason="half the width gives a quarter",
    ),
    Claim(
        ids=("SU-0-1", "SU-A3-P1"),
        statement="started at theta_d = 0, Uni-LoRA never moves: A = B = 0 is a saddle",
        source=UNI_LORA,
        label="derived",
        derivation="The gradient of B A is linear in A for B, and in B for A.",
        measure=relative_progress,
        prediction=AtMost(1e-15),
        tolerance_reason="an identity: nothing is added to the loss",
        at={**KIND["one_hot"], "start": 0.0},
        control=KIND["one_hot"],
        control_reason="started in U(-0.02, 0.02) it leaves the saddle",
    ),
]
