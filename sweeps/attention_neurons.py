"""Neurons of one-layer attention on patterns: two groups, their pruning; pruning of tokens.

The statements about neurons are proved for sibling models (AT-C-F2): one W and one V, or in-context prompts.
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
    MatchesCurve,
    Simulation,
    Sweep,
    bootstrap,
    by_seed,
)
from theory_sim.attention import (
    UNIMODAL_SEPARATION,
    at_largest,
    pattern_transformer,
    pruning_rise,
    width_exponent,
)

BASE = {
    "token_noise": 0.1,
    "relevant_fraction": 0.4,
    "output_scale": 0.01,
}
START_OF_PRUNING = "the first twentieth of the neurons"
LARGE_START = 0.5  # rows of W_O start at 0.5 sqrt(dim) = 2, four times what training adds to them
LARGE_ENOUGH = 16
"""The least width at which groups of neurons are told apart."""


def neurons(*, max_width: int = 128) -> Simulation:
    """The transformer on sequences of 12 tokens, its spectra left out of what is compared."""
    return pattern_transformer(
        dim=16,
        tokens=12,
        max_width=max_width,
        samples=256,
        test_samples=128,
        geometry=False,
        token_pruning=True,
    )


def wanted(*, token_noise, relevant_fraction, width, output_scale, **_):
    """Select all widths with little noise, from small and large starts, and much noise to prune tokens."""
    clean = (token_noise == 0.1) & (relevant_fraction == 0.4)
    noisy = (token_noise == 0.3) & (relevant_fraction == 0.3) & (width >= 32) & (output_scale < LARGE_START)
    return clean | noisy


SWEEP = Sweep(
    simulation=neurons,
    problem={
        "token_noise": [0.1, 0.3],
        "relevant_fraction": [0.3, 0.4],
    },
    run={"width": [LARGE_ENOUGH, 32, 64, 128], "output_scale": [0.01, LARGE_START]},
    problem_seeds=12,  # with eight, a control was neither rejected nor passed: raised when that had been seen
    steps=[400],
    presets={
        "smoke": {"max_width": [32], "width": [LARGE_ENOUGH, 32], "problem_seeds": 2},
        "quick": {},
        "paper": {
            "max_width": [2048],
            "width": [LARGE_ENOUGH, 32, 64, 128, 256, 512, 1024, 2048],
            "problem_seeds": 64,
        },
    },
    where=wanted,
)


def log_separation(data: xr.Dataset) -> Estimate:
    """Share of the variance of the log row norms that lies between the two groups, at each width."""
    return bootstrap(by_seed(data, "separation", "width"))


def small_fraction(data: xr.Dataset) -> Estimate:
    """Fraction of small rows at each width but the largest."""
    return bootstrap(by_seed(data, "small_fraction", "width")[:, :-1])


def dead_share(data: xr.Dataset) -> Estimate:
    """Share of the small rows that are inactive on every test sequence, at each width."""
    return bootstrap(by_seed(data, "small_inactive", "width"))


def first_rise(data: xr.Dataset) -> Estimate:
    """Rise of the test loss when a twentieth of the neurons are pruned."""
    return bootstrap(by_seed(rise_along(data), "rise", "fraction")[:, 1], window=START_OF_PRUNING)


def first_rise_against_random(data: xr.Dataset) -> Estimate:
    """The same in units of what pruning as many at random does, for the other order given."""
    rises = by_seed(rise_along(data), "rise", "order", "fraction")[:, :, 1]
    random = list(data.order.to_numpy()).index("random")
    return bootstrap(rises, lambda runs, axis: _ratio(runs.mean(axis), random), window=START_OF_PRUNING)


def rise_along(data: xr.Dataset) -> xr.Dataset:
    """Return a dataset with the rise of the test loss along the fraction pruned."""
    return data.assign(rise=data.pruned_loss - data.test_loss.isel(step=-1))


def _ratio(means: np.ndarray, unit: int) -> np.ndarray:
    return means[..., 1 - unit] / means[..., unit]


def token_gain(data: xr.Dataset) -> Estimate:
    """Change of the test loss when half of the tokens of each test sequence are removed."""
    loss = data.token_pruned_loss
    change = loss.sel(removed=6) - loss.sel(removed=0)
    return bootstrap(by_seed(data.assign(change=change), "change"))


PAPER, SIBLING = "arXiv:2302.06015", "arXiv:2504.10957, Corollary 2 (sibling model)"
SMALL = {**BASE, "width": 64}
TOKENS = {"token_noise": 0.3, "relevant_fraction": 0.3, "width": 64, "output_scale": 0.01}
START = (
    "rows of W_O that start large stay near their start, one Gaussian group whose norm does not depend on m"
)

CLAIMS = [
    Claim(
        ids=("AT-C4", "AT-C-P3"),
        statement="the norms of the rows of W_O fall in two groups at every width from 16 on",
        source="arXiv:2504.10957, Corollary 2, and arXiv:2402.15607 (sibling models)",
        label="paper",
        measure=log_separation,
        prediction=AtLeast(UNIMODAL_SEPARATION),
        tolerance_reason="no symmetric unimodal distribution has a share above 3/4; a Gaussian has 2/pi",
        at=BASE,
        control={**BASE, "output_scale": LARGE_START},
        control_reason=START,
    ),
    Claim(
        ids=("AT-C4",),
        statement="large rows of W_O scale as m^(-1/2)",
        source=SIBLING,
        label="paper",
        measure=partial(width_exponent, name="large_norm"),
        prediction=Equals(-0.5, tolerance=0.05),
        tolerance_reason="the start (0.04 in quadrature with 0.35 at m = 128) and the O(m^-1/2) fluctuation of the "
        "number of large rows shift the slope by a few hundredths",
        at=BASE,
        control={**BASE, "output_scale": LARGE_START},
        control_reason=START,
    ),
    Claim(
        ids=("AT-C4",),
        statement="the fraction of small rows does not depend on m: it is that at the largest",
        source=SIBLING,
        label="paper",
        measure=small_fraction,
        prediction=MatchesCurve(partial(at_largest, name="small_fraction"), relative_tolerance=0.4),
        tolerance_reason="a quarter of 16 neurons of 12 runs is known to 0.03, 12% of it; the interval is twice that",
        at=BASE,
        control={**BASE, "output_scale": LARGE_START},
        control_reason="one Gaussian group is cut in its middle",
        remark="it is 0.22 at m = 16 and 0.26 at 128, which these runs do not tell apart",
    ),
    Claim(
        ids=("AT-C5", "AT-C-T1", "AT-C-P3", "AT-C-S1"),
        statement="pruning all small neurons leaves the test loss as it is; pruning as many at random does not",
        source="arXiv:2402.15607 (sibling model): error unchanged to order eps",
        label="paper",
        measure=pruning_rise,
        prediction=AtMost(0.01),
        tolerance_reason="p0 m = 16 neurons of norm 0.04 and random sign would change F by sqrt(16/2)/8 * 0.04 * |v| ="
        " 0.01 if they were active",
        at={**SMALL, "order": "small_first"},
        control={**SMALL, "order": "random"},
        control_reason="random pruning removes large neurons too",
        remark="a cheap agreement: nine of ten small neurons are inactive on every test sequence (next claim), and the"
        " hinge is 0 where the others are not, so that their removal changes the loss by rounding alone",
    ),
    Claim(
        ids=("AT-C5", "AT-C4"),
        statement="the small neurons are dead: nine of ten at least are inactive on every test sequence, at each width",
        source="expected of a hinge whose gradient reaches a neuron only from sequences on which it is active; the"
        " share is ours",
        label="unconfirmed",
        measure=dead_share,
        prediction=AtLeast(0.9),
        tolerance_reason="what 'nearly all' means here",
        at=BASE,
        control={**BASE, "output_scale": LARGE_START},
        control_reason="one Gaussian group cut in its middle: its smaller half is as active as the other",
        remark="written when it had been seen by another count at m = 64",
    ),
    Claim(
        ids=("AT-C5", "AT-C-P3", "AT-C-S1"),
        statement="random pruning raises the test loss from the first twentieth of the neurons on",
        source="arXiv:2402.15607 (sibling model): random pruning rises at once; the number is ours",
        label="unconfirmed",
        measure=first_rise,
        prediction=AtLeast(0.002),
        tolerance_reason="what counts as flat for the small group, 0.01 for a quarter of the neurons, in proportion",
        at={**SMALL, "order": "random"},
        control={**SMALL, "order": "small_first"},
        control_reason="a twentieth of the neurons is less than the small group",
    ),
    Claim(
        ids=("AT-C-P3",),
        statement="pruning the largest neurons first raises it by more than pruning as many at random",
        source="expected of two groups; arXiv:2402.15607 (sibling model) does not say it",
        label="unconfirmed",
        measure=first_rise_against_random,
        prediction=AtLeast(1),
        tolerance_reason="more than once; of as many at random a quarter are small and do nothing",
        at={**SMALL, "order": ["large_first", "random"]},
        control={**SMALL, "order": ["small_first", "random"]},
        control_reason="small neurons do nothing",
        remark="the value agrees; what three random ones of 64 neurons do differs much between 12 runs",
    ),
    *[
        Claim(
            ids=("AT-B5", "AT-B-T3"),
            statement=f"removing half of the test tokens, {words} first, does not raise the test loss",
            source=f"{PAPER}, Proposition 2 and its figure (removing irrelevant or noisy tokens helps)",
            label="paper",
            measure=token_gain,
            prediction=AtMost(0),
            tolerance_reason="the paper's curve falls",
            at={**TOKENS, "token_order": order},
            control={**TOKENS, "token_order": "at_random"},
            control_reason="random removal takes relevant tokens in proportion",
            remark=remark,
        )
        for words, order, remark in (
            ("irrelevant ones", "irrelevant_first", ""),
            (
                "noisy ones",
                "noisy_first",
                "Gaussian noise has nearly the same norm on every token, so that its order is nearly random",
            ),
        )
    ],
]
