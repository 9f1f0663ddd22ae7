"""Training time of one-layer attention on patterns, confusion tokens, and where attention goes (arXiv:2302.06015).

Every step sees new sequences: what is measured is the population's, without a training set to be exhausted.
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
    Ordering,
    Simulation,
    Sweep,
    bootstrap,
    by_seed,
    computed,
    crossing,
    last,
    log_spaced,
    time_to,
)
from theory_sim.attention import confusion_constant, pattern_transformer

BASE = {"relevant_fraction": 0.45, "confusion_fraction": 0.0, "token_noise": 0.1, "label_noise": 0.0}
OCTAVES = 2 ** np.arange(5, 11)
"""Steps between which attention's gain is measured."""
TOKENS = 12
SUCCESS = 1e-3
"""The test loss below which a run of the published experiments is a success (AT-B-S2, unconfirmed)."""


def patterns(*, max_width: int = 32) -> Simulation:
    """The transformer of 32 neurons on sequences of 12 tokens, new ones at every step."""
    return pattern_transformer(
        dim=16,
        tokens=TOKENS,
        max_width=max_width,
        samples=8,
        test_samples=256,
        geometry=False,
        pruning=False,
        fresh_batches=True,
    )


def wanted(
    *, relevant_fraction, confusion_fraction, token_noise, label_noise, query_key_scale, step_size, **_
):
    """Select alpha_* at both noises, and alpha_# at one alpha_*; what is only a control at one step size and start."""
    last, little, random = step_size == 0.4, token_noise == 0.1, label_noise > 0
    confused = (relevant_fraction == 0.45) & little & last
    few = np.isin(confusion_fraction, [0.0, 0.2, 0.43]) & (query_key_scale == 1)
    return (confused & (~random | few)) | ((confusion_fraction == 0) & ~random & (little | last))


def recorded(last: int, *, per_decade: int) -> np.ndarray:
    """Return step 0, steps from 8 on, before which nothing is learnt, and the ends of the octaves."""
    ends = [step for step in OCTAVES if step <= last]
    steps = np.union1d(log_spaced(last, per_decade=per_decade), ends)
    return steps[(steps == 0) | (steps >= 8)]


SWEEP = Sweep(
    simulation=patterns,
    problem={
        "relevant_fraction": [0.2, 0.3, 0.45, 0.65, 0.9],
        "confusion_fraction": [0.0, 0.04, 0.08, 0.2, 0.28, 0.32, 0.36, 0.43],
        "token_noise": [0.1, 0.3],
        "label_noise": [0.0, 1.0],
    },
    run={"query_key_scale": [0.3, 1.0], "step_size": [0.1, 0.4]},
    problem_seeds=12,  # with eight, a control was neither rejected nor passed: raised when that had been seen
    steps=recorded(int(OCTAVES[-1]), per_decade=12),
    presets={
        "smoke": {
            "relevant_fraction": [0.2, 0.45],
            "confusion_fraction": [0.0, 0.08, 0.43],
            "problem_seeds": 2,
            "steps": recorded(512, per_decade=6),
        },
        "quick": {},
        "paper": {
            "relevant_fraction": np.unique([*np.geomspace(0.1, 0.9, 11).round(3), 0.2, 0.3, 0.45, 0.65, 0.9]),
            "step_size": [0.025, 0.05, 0.1, 0.2, 0.4],
            "query_key_scale": [0.1, 0.3, 0.6, 1.0, 1.5],
            "problem_seeds": 64,
        },
    },
    where=wanted,
)


def constancy(data: xr.Dataset, level: float) -> Estimate:
    """Return `T eta alpha_*` in units of its geometric mean, T being the first step of a test loss.

    The mean is over the cells whose runs all get there. In the others a run that does not counts with its last step, a
    lower bound: they can be too slow, but not too fast.
    """
    data = computed(data)
    axes = [axis for axis in ("relevant_fraction", "confusion_fraction", "step_size") if axis in data.dims]
    times = time_to(data.step.to_numpy(), by_seed(data, "test_loss", *axes, "step"), level)
    reached = np.isfinite(times)
    whole = reached.all(axis=0)
    window = f"first step of test loss {level:g}"
    never = f"{(~reached).sum()} of {reached.size} runs end above a test loss of {level:g}: a lower bound"
    if not whole.any():
        return Estimate(np.nan, -np.inf, np.inf, window, (never,))
    product = (
        np.where(reached, times, data.step.item(-1)) * (data.relevant_fraction * data.step_size).to_numpy()
    )
    share = product / np.exp(np.log(product[:, whole]).mean())
    found = bootstrap(np.where(whole, share, np.maximum(share, 1)), window=window)
    return found if whole.all() else found._replace(doubts=(*found.doubts, never))


def clock_exponent(data: xr.Dataset, *candidates: str) -> Estimate:
    """Return the log-log slope of the time to a test loss of 0.1 along the first candidate with several values."""
    axes = [name for name in ("relevant_fraction", "query_key_scale", "step_size") if name in data.dims]
    axis = next(name for name in candidates if name in axes)
    axes = [name for name in axes if name != axis]
    times = time_to(data.step.to_numpy(), by_seed(data, "test_loss", *axes, axis, "step"), 0.1)
    x = np.log(data[axis].to_numpy())
    x = (x - x.mean()) / np.square(x - x.mean()).sum()
    return bootstrap(np.log(times) @ x, window="first step of test loss 0.1")


def count_error(relevant_fraction: float, confusion_fraction: float, tokens: int = TOKENS) -> float:
    """Return the least error of a learner that sees the counts of both discriminative patterns in a sequence.

    Counts `(a, b)` of a label and `(b, a)` of the other cannot be told apart: the rarer of the two is misread.
    """
    place = (np.arange(10_000) + 0.5) / 10_000
    own = np.floor(relevant_fraction * tokens + place).astype(int)
    other = np.floor((relevant_fraction + confusion_fraction) * tokens + place).astype(int) - own
    chance = np.zeros((tokens + 1, tokens + 1))
    np.add.at(chance, (own, other), 1 / place.size)
    return float(np.minimum(chance, chance.T).sum() / 2)


def excess_error(data: xr.Dataset) -> Estimate:
    """Test error after the last step less that of the best learner of counts, at each alpha_#."""
    return bootstrap(excess(computed(data)))


def excess(data: xr.Dataset) -> np.ndarray:
    """Return the test error after the last step less `count_error`, `[seeds, alpha_#]`."""
    errors = last(data, "test_error", "confusion_fraction")
    return errors - [
        count_error(float(data.relevant_fraction), float(one)) for one in data.confusion_fraction
    ]


def failure_boundary(data: xr.Dataset) -> Estimate:
    """Ratio alpha_# / alpha_* at which half of the runs end 5% above the error of the best learner of counts."""
    data = computed(data)
    ratios = data.confusion_fraction.to_numpy() / float(data.relevant_fraction)
    return crossing(ratios, (excess(data) > 0.05).astype(float), 0.5)


def gains(data: xr.Dataset) -> np.ndarray:
    """Return what attention's mass on label-relevant tokens gains in each octave of steps, `[seeds, octaves]`."""
    steps = [step for step in OCTAVES if step in data.step]
    return np.diff(by_seed(data.sel(step=steps), "attention_mass", "step"), axis=1)


def octave_gains(data: xr.Dataset) -> Estimate:
    """Gain of attention's mass in each octave of steps."""
    return bootstrap(gains(data), window=f"octaves from step {OCTAVES[0]}")


def gain_exponent(data: xr.Dataset) -> Estimate:
    """Log-log slope of the gain per octave: that of the residual to the plateau, whose level it does not need."""
    late = gains(data)[:, -3:]
    octave = np.arange(late.shape[1]) - (late.shape[1] - 1) / 2

    def slope(runs: np.ndarray, axis: int) -> np.ndarray:
        return np.log2(np.maximum(runs.mean(axis=axis), 1e-12)) @ octave / (octave @ octave)

    return bootstrap(late, slope, window="the last three octaves of steps")


def rise(data: xr.Dataset) -> Estimate:
    """Rise of attention's mass on label-relevant tokens over the whole run, for each scale of the start."""
    mass = by_seed(data, "attention_mass", "query_key_scale", "step")
    return bootstrap(mass[..., -1] - mass[..., 0])


PAPER = "arXiv:2302.06015"
CLEAN = {"confusion_fraction": 0.0, "label_noise": 0.0, "token_noise": 0.1}
NOISY = {"confusion_fraction": 0.0, "label_noise": 0.0, "token_noise": 0.3}
CONFUSED = {name: value for name, value in BASE.items() if name != "confusion_fraction"}
BEYOND = {**CONFUSED, "confusion_fraction": slice(0, 0.2), "step_size": [0.4]}
"""Relevant and confusion tokens that tie in no sequence, so that its loss can fall to any level."""
PAPER_START = {"query_key_scale": 1.0, "step_size": 0.4}
FEW = {"confusion_fraction": slice(0, confusion_constant() * 0.45)}
MOST = {**BASE, "confusion_fraction": 0.43}

CLAIMS = [
    *[
        Claim(
            ids=("AT-B1", "AT-B-P1"),
            statement=f"from W_Q = W_K = {scale:g} I, the time to a test loss of {level:g} is proportional to"
            " 1 / (eta alpha_*)",
            source=f"{PAPER}, Theorem 1 (T = Theta(1/(eta alpha_*))){source}",
            label=label,
            measure=partial(constancy, level=level),
            prediction=MatchesCurve(1, relative_tolerance=0.15),
            tolerance_reason="between alpha_* of 0.2 and 0.9 an exponent that is off by 0.1 makes 15%; the loss is\n"
            "interpolated between records that lie 20% apart",
            at={**CLEAN, "query_key_scale": scale},
            control={"query_key_scale": scale, **control},
            control_reason=reason,
            remark=remark,
        )
        for level, label, source, control, reason, remark in (
            (
                0.1,
                "paper",
                "",
                {**NOISY, "step_size": [0.4]},
                "noise of norm 1.2 > 1 is beyond the theorem: what is left of alpha_* above c (sigma + tau) counts"
                " (AT-B-T4), which makes small alpha_* slower than in proportion",
                "the values agree, within a tenth: most off at alpha_* = 0.9 and the largest step, the fewest steps",
            ),
            (
                SUCCESS,
                "unconfirmed",
                "; the loss of its experiments' success, AT-B-S2, is unconfirmed",
                BEYOND,
                "alpha_# up to 0.44 alpha_*, beyond c: the first drift of outputs is that of alpha_* - alpha_#, so that"
                " T grows at least by 0.45 / (0.45 - 0.2) = 1.8 at one alpha_*; 3 others face 5 relevant tokens",
                "few sequences are left on the hinge then, and the fewer tokens are relevant the longer they last;"
                " of the test error no clock can be told: it is 0 within 70 steps at alpha_* = 0.2, mostly before the"
                " first record elsewhere",
            ),
        )
        for scale in (0.3, 1.0)
    ],
    *[
        Claim(
            ids=("AT-B1", "AT-B-P1", "AT-B-T1"),
            statement=f"the time to a test loss of 0.1 falls like 1/{symbol}, {words}",
            source=f"{PAPER}, Theorem 1 (T = Theta(1/(eta alpha_*)))",
            label="paper",
            measure=lambda data, axes=axes: clock_exponent(data, *axes),
            prediction=Equals(-1, tolerance=0.1),
            tolerance_reason="the loss is interpolated between records that lie 20% apart: 2% of a time at the start of"
            " an axis over a factor of 4; the largest steps are few, 22, so that one more is 5% of them",
            at=at,
            control=control,
            control_reason=reason,
        )
        for symbol, words, axes, at, control, reason in (
            (
                "eta",
                "at each alpha_* and from both starts",
                ("step_size", "query_key_scale"),
                CLEAN,
                {**CLEAN, "step_size": 0.4},
                "along another axis: the scale of W_Q(0) and W_K(0) sets no clock, since W_V and W_O are learnt first",
            ),
            (
                "alpha_*",
                "at each eta and from both starts",
                ("relevant_fraction",),
                CLEAN,
                {**NOISY, "step_size": 0.4},
                "noise of norm 1.2 > 1: what is left of alpha_* above c (sigma + tau) counts (AT-B-T4)",
            ),
        )
    ],
    Claim(
        ids=("AT-B4", "AT-B-T1"),
        statement="at all alpha_# / alpha_* computed below 1/(2e) training succeeds",
        source=f"{PAPER}, Theorem 1 (alpha_* >= alpha_# / c for some c < 1/(2e); c as recalled)",
        label="unconfirmed",
        measure=excess_error,
        prediction=AtMost(0.01),
        tolerance_reason="two of the 256 test sequences of a run: 0.8%; above what no learner of counts can do",
        at={**CONFUSED, **FEW, **PAPER_START},
        control={**MOST, "confusion_fraction": [0.43], **PAPER_START},
        control_reason="nearly as many confusion tokens as relevant ones: attention falls on both alike",
    ),
    Claim(
        ids=("AT-B4",),
        statement="training succeeds beyond alpha_# / alpha_* = 1/(2e): there half of the runs are within 5% of the"
        " least error that the counts of tokens allow",
        source=f"{PAPER}, Theorem 1 (sufficient; the true boundary is open)",
        label="unconfirmed",
        measure=failure_boundary,
        prediction=AtLeast(confusion_constant()),
        at={**CONFUSED, **PAPER_START},
        control={**CONFUSED, "label_noise": 1.0, **PAPER_START},
        control_reason="random labels are never learnt, however few the confusion tokens",
    ),
    Claim(
        ids=("AT-B4",),
        statement="only ties of counts stop it: up to alpha_# = 0.96 alpha_* the test error is within 5% of the least",
        source="a conjecture: attention and neurons that add tokens up can vote",
        label="unconfirmed",
        measure=excess_error,
        prediction=AtMost(0.05),
        tolerance_reason="a success of the claim before",
        remark="at 0.96 it is a tenth above the least: counts of 6 and 5 are read worse than a vote reads them",
        at={**CONFUSED, **PAPER_START},
        control={**CONFUSED, "label_noise": 1.0, **PAPER_START},
        control_reason="random labels are never learnt, however few the confusion tokens",
    ),
    Claim(
        ids=("AT-B3", "AT-B-T3"),
        statement="attention on label-relevant tokens gains in every octave of steps",
        source=f"{PAPER}, Proposition 2",
        label="paper",
        measure=octave_gains,
        prediction=AtLeast(0),
        at={**CLEAN, "relevant_fraction": 0.2, **PAPER_START},
        control={**MOST, **PAPER_START},
        control_reason="where a majority of tokens no longer tells the label attention moves away from its tokens",
    ),
    Claim(
        ids=("AT-B3", "AT-B-T3", "AT-B-P3"),
        statement="the residual of attention's mass to its plateau falls like 1/t",
        source=f"{PAPER}, Proposition 2 (sublinear, O(1/t) for large t)",
        label="paper",
        measure=gain_exponent,
        prediction=Equals(-1, tolerance=0.25),
        tolerance_reason="a limit law, measured over three octaves: corrections are of relative order 1/t",
        at={**CLEAN, "relevant_fraction": 0.2, **PAPER_START},
        control={**CLEAN, "relevant_fraction": 0.2, "query_key_scale": 0.3, "step_size": 0.1},
        control_reason="from a small start attention is still rising at these steps: it has no plateau yet",
        remark="in these three octaves it falls like t^-0.65: slower, with an interval that reaches into the tolerance",
    ),
    Claim(
        ids=("AT-B-P3", "AT-B-F2"),
        statement="a larger start of W_Q and W_K makes attention rise more before the hinge is met",
        source="expected from the saturation of the hinge",
        label="unconfirmed",
        measure=rise,
        prediction=Ordering("increasing"),
        at={**CLEAN, "relevant_fraction": 0.2, "step_size": 0.4},
        control={**MOST, "step_size": 0.4},
        control_reason="where a majority of tokens no longer tells the label attention falls, more from a larger start",
    ),
]
