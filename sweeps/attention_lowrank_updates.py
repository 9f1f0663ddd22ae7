"""Low-rank updates and sparse neurons of a one-layer transformer trained on patterns (arXiv:2406.17167).

The statements about rank hold for small starts (AT-C-F1); those about neurons are proved for sibling models (AT-C-F2).
"""

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
    exponent,
)
from theory_sim.attention import (
    UNIMODAL_SEPARATION,
    key_angle,
    mean_token_angle,
    pattern_transformer,
    update_rank,
)

BASE = {"width": 64, "patterns": 16, "relevant_fraction": 0.4, "label_noise": 0.0, "output_scale": 0.01}
LARGE_START = 0.5  # rows of W_O start at 0.5 sqrt(dim) = 2, four times what training adds to them


def small_transformer(*, max_width: int, dim: int = 16, samples: int = 256) -> Simulation:
    """The transformer on sequences of 12 tokens, which two cores train in a hundredth of a second."""
    return pattern_transformer(max_width=max_width, dim=dim, tokens=12, samples=samples, test_samples=128)


def wanted(**axes):  # type: ignore[no-untyped-def]
    """One axis away from the base at a time; controls along the axes of their claims alone."""
    width, patterns, fraction, random, large = (axes[name] != value for name, value in BASE.items())
    one = width.astype(int) + patterns + fraction <= 1
    return one & ~(random & (large | width)) & ~(large & (patterns | fraction))


SWEEP = Sweep(
    simulation=small_transformer,
    shape={"max_width": [128]},
    problem={
        "patterns": [6, 10, 16],
        "relevant_fraction": [0.3, 0.4, 0.55, 0.7],
        "label_noise": [0.0, 1.0],
    },
    run={"width": [16, 32, 64, 128], "output_scale": [0.01, LARGE_START]},
    problem_seeds=8,
    run_seeds=2,
    steps=range(0, 401, 40),
    presets={
        "smoke": {
            "max_width": [64],
            "width": [64],
            "relevant_fraction": [0.4],
            "patterns": [16],
            "problem_seeds": 3,
        },
        "quick": {},
        "paper": {
            "max_width": [1024],
            "width": [16, 32, 64, 128, 256, 512, 1024],
            "problem_seeds": 128,
            "run_seeds": 4,
        },
    },
    where=wanted,
)


def final_rank(data: xr.Dataset) -> Estimate:
    """Directions that hold 95% of the energy of each update after the last step."""
    return bootstrap(by_seed(data.isel(step=-1), "effective_rank", "matrix"))


def active_angle(data: xr.Dataset) -> Estimate:
    """Largest angle at the last record with a training loss of at least 1/2, along the axis with several values."""
    axis = next(name for name in ("relevant_fraction", "patterns") if name in data.dims)
    last = data.step.where(data.train_loss >= 0.5).max("step").astype(int)
    then = data.assign(angle=data.angle.sel(step=last))
    return bootstrap(by_seed(then, "angle", axis), window="last record with training loss >= 1/2")


def log_separation(data: xr.Dataset) -> Estimate:
    """Share of the variance of the log row norms that lies between the two groups."""
    return bootstrap(by_seed(data, "separation"))


def width_exponent(data: xr.Dataset) -> Estimate:
    """Log-log slope of the norm of large rows against the width."""
    widths = data.width.to_numpy()
    return exponent(widths, by_seed(data, "large_norm", "width"), window=(widths[0], widths[-1]))


def pruning_rise(data: xr.Dataset) -> Estimate:
    """Rise of the test loss when as many neurons are pruned as the small group has."""
    rise = data.group_pruned_loss - data.test_loss.isel(step=-1)
    return bootstrap(by_seed(data.assign(rise=rise), "rise"))


def along(axis: str, **changes: object) -> dict[str, object]:
    """Cells of the base along one axis, with some values changed."""
    return {name: value for name, value in {**BASE, **changes}.items() if name != axis}


PAPER = "arXiv:2406.17167"
RANDOM = {"label_noise": 1.0}
LARGE = {"output_scale": LARGE_START}
MEAN_TOKEN = (
    "With attention near uniform the right factors of the gradients are the labels' mean tokens: their difference\n"
    "lies in span(mu_1, mu_2), their sum is off it by the irrelevant patterns: rates.mean_token_angle."
)
COVARIANCE = (
    "The right factor of the gradient by W_K is the tokens' covariance times the rewarded direction, mu_y - zbar_y:\n"
    "off span(mu_1, mu_2) by the irrelevant part of the mean token, rates.key_angle, whatever the fractions."
)
ANGLE_TOLERANCE = (
    "mean tokens of 256 samples are off by 0.2/sqrt(256) of irrelevant patterns and noise against 0.3 of signal, 2.4 "
    "degrees; derived before hinge and attention saturate, so measured while the training loss is at least 1/2"
)
START = (
    "rows of W_O that start large stay near their start, one Gaussian group whose norm does not depend on m"
)


def predicted_angle(data: xr.Dataset, matrix: str) -> np.ndarray:
    """Angle of one matrix at the cells of a claim; the confusion fraction is the default."""
    fraction, patterns = np.broadcast_arrays(data.relevant_fraction, data.patterns)
    return key_angle(patterns) if matrix == "key" else mean_token_angle(patterns, fraction, 0.1)


CLAIMS = [
    Claim(
        ids=("AT-C1",),
        statement="the updates of W_Q and W_K have effective rank 2 for two discriminative patterns",
        source=f"{PAPER}, abstract: low rank, set by the number of label-relevant patterns (2 is not in it)",
        label="unconfirmed",
        measure=final_rank,
        prediction=Equals(float(update_rank()), tolerance=0.5),
        tolerance_reason="a rank is a whole number; effective rank = directions that hold 95% of the energy.\n"
        "W_V and W_O have rank 2 as well, but are left out: random labels leave theirs low too (figure, panel a),\n"
        "because a small start amplifies few directions whatever the labels, so that they have no control",
        at={**BASE, "matrix": ["query", "key"]},
        control={**BASE, **RANDOM, "matrix": ["query", "key"]},
        control_reason="with random labels no pattern is relevant: the updates have the rank of the data",
    ),
    *[
        Claim(
            ids=("AT-C2",),
            statement=f"the leading plane of the update of W_{matrix[0].upper()} tends to that of the discriminative "
            f"patterns as predicted, along {axis}",
            source=f"{PAPER}, abstract (localised on label-relevant patterns); angle derived here",
            label="derived",
            derivation=COVARIANCE if matrix == "key" else MEAN_TOKEN,
            measure=active_angle,
            prediction=Equals(partial(predicted_angle, matrix=matrix), tolerance=3.0),
            tolerance_reason=ANGLE_TOLERANCE,
            at={**along(axis), "matrix": matrix},
            control={**along(axis, **RANDOM), "matrix": matrix},
            control_reason="random labels: the directions of the update are those of the data, of all M patterns",
        )
        for axis, matrix in (
            ("relevant_fraction", "query"),
            ("relevant_fraction", "key"),
            ("relevant_fraction", "value"),
            ("patterns", "value"),
        )
    ],
    Claim(
        ids=("AT-C4",),
        statement="the norms of the rows of W_O fall in two groups",
        source="arXiv:2504.10957, Corollary 2, and arXiv:2402.15607 (sibling models)",
        label="paper",
        measure=log_separation,
        prediction=AtLeast(UNIMODAL_SEPARATION),
        tolerance_reason="no symmetric unimodal distribution has a share above 3/4; a Gaussian has 2/pi",
        at=BASE,
        control={**BASE, **LARGE},
        control_reason=START,
    ),
    Claim(
        ids=("AT-C4",),
        statement="large rows of W_O scale as m^(-1/2)",
        source="arXiv:2504.10957, Corollary 2 (sibling model)",
        label="paper",
        measure=width_exponent,
        prediction=Equals(-0.5, tolerance=0.05),
        tolerance_reason="the start (0.04 in quadrature with 0.35 at m = 128) and the O(m^-1/2) fluctuation of the "
        "number of large rows shift the slope by a few hundredths",
        at=along("width"),
        control=along("width", **LARGE),
        control_reason=START,
    ),
    Claim(
        ids=("AT-C5",),
        statement="pruning all small neurons leaves the test loss as it is; pruning as many at random does not",
        source="arXiv:2402.15607 (sibling model): error unchanged to order eps",
        label="paper",
        measure=pruning_rise,
        prediction=AtMost(0.01),
        tolerance_reason="p0 m = 16 neurons of norm 0.04 and random sign change F by sqrt(16/2)/8 * 0.04 * |v| = 0.01",
        at={**BASE, "order": "small_first"},
        control={**BASE, "order": "random"},
        control_reason="random pruning removes large neurons too",
    ),
]
