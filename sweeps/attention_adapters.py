"""Low-rank adapters of one-layer attention: rank K loses nothing against full training of queries, keys and values.

The study asks what follows from updates of rank K (arXiv:2406.17167): the output matrix is random and fixed, and only
adapters of W_Q, W_K, W_V of rank q are trained, or the matrices themselves.
"""

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
    active_angle,
    adapted_transformer,
    class_ranks,
    mean_token_angle,
    spectral_gap,
)

RELEVANT, PATTERNS, LARGEST = 0.6, 16, 8


def adapters(*, max_width: int = 60) -> Simulation:
    """The transformer on sequences of 12 tokens, with adapters of rank up to 8 and up to four classes."""
    return adapted_transformer(
        dim=PATTERNS,
        tokens=12,
        max_width=max_width,
        samples=512,
        test_samples=128,
        max_classes=4,
        max_rank=LARGEST,
    )


def wanted(*, classes, adapter_rank, adapter_scale, **_):
    """Select the small start of A where its directions are compared: at adapters that are large enough."""
    return (adapter_scale == 1) | ((classes > 2) & (adapter_rank >= 4))


SWEEP = Sweep(
    simulation=adapters,
    problem={"classes": [2, 3, 4], "relevant_fraction": [RELEVANT], "confusion_fraction": [0.0]},
    run={"adapter_rank": [0, 1, 2, 3, 4, LARGEST], "adapter_scale": [0.1, 1.0], "step_size": [0.3]},
    problem_seeds=8,
    steps=[0, *(5 * 2 ** np.arange(8)).tolist(), 800],
    presets={
        "smoke": {"problem_seeds": 2, "steps": [0, 5, 10, 20, 40, 80, 160]},
        "quick": {},
        "paper": {"max_width": [600], "problem_seeds": 128},
    },
    where=wanted,
)


def loss_over_full(data: xr.Dataset) -> Estimate:
    """Last test loss of the adapters less that of full training, which is the first rank given."""
    last = by_seed(data.isel(step=-1), "test_loss", "classes", "adapter_rank")
    return bootstrap(last[..., -1] - last[..., 0])


def last_angle(data: xr.Dataset) -> Estimate:
    """Largest angle of dW_V to the discriminative patterns after the last step."""
    return bootstrap(by_seed(data.isel(step=-1).sel(direction=1), "angle", "classes"))


def predicted_angle(data: xr.Dataset) -> np.ndarray:
    """Return the angle of dW_V for each number of classes."""
    return mean_token_angle(PATTERNS, RELEVANT, 0.0, data["classes"])


SOURCE = (
    "follows from arXiv:2406.17167, abstract (low-rank updates), if adapters find what full training does"
)
NOTHING = "of the loss 1 of a network that knows nothing, a hundredth"
FULL, SEVERAL = 0, [3, 4]

CLAIMS = [
    Claim(
        ids=("AT-C3", "AT-C1"),
        statement="adapters of rank 4 lose nothing against full training for three and four classes",
        source=SOURCE,
        label="unconfirmed",
        measure=loss_over_full,
        prediction=AtMost(0.01),
        tolerance_reason=NOTHING,
        at={"classes": SEVERAL, "adapter_scale": 1.0, "adapter_rank": [FULL, 4]},
        control={"classes": SEVERAL, "adapter_scale": 1.0, "adapter_rank": [FULL, 1]},
        control_reason="one direction cannot tell three classes apart",
    ),
    *[
        Claim(
            ids=("AT-C3", "AT-C1"),
            statement=f"adapters of rank {k - 1} lose something for {word} classes",
            source=f"{SOURCE}; that fewer than K directions are too few is a conjecture",
            label="unconfirmed",
            measure=loss_over_full,
            prediction=AtLeast(0.01),
            at={"classes": [k], "adapter_scale": 1.0, "adapter_rank": [FULL, k - 1]},
            control={"classes": [k], "adapter_scale": 1.0, "adapter_rank": [FULL, k]},
            control_reason="K directions are enough",
            remark="two directions are enough: ReLU neurons tell classes apart in a plane (claim on two directions)",
        )
        for k, word in ((3, "three"), (4, "four"))
    ],
    Claim(
        ids=("AT-C3",),
        statement="two directions are enough for three and four classes",
        source="derived",
        label="derived",
        derivation="ReLU neurons read a plane by rays: K classes sent to K directions of a plane are told apart by\n"
        "neurons of random rays; one direction has two rays, and tells two classes apart.",
        measure=loss_over_full,
        prediction=AtMost(0.01),
        tolerance_reason=NOTHING,
        at={"classes": SEVERAL, "adapter_scale": 1.0, "adapter_rank": [FULL, 2]},
        control={"classes": SEVERAL, "adapter_scale": 1.0, "adapter_rank": [FULL, 1]},
        control_reason="one direction has two rays",
    ),
    Claim(
        ids=("AT-C3",),
        statement="with a fixed random output matrix too, full training gives dW_V the rank K",
        source="arXiv:2406.17167, abstract (K conjectured)",
        label="unconfirmed",
        measure=spectral_gap,
        prediction=MatchesCurve(class_ranks, relative_tolerance=0.12),
        tolerance_reason="a rank is a whole number: half of one in four",
        at={"adapter_scale": 1.0, "adapter_rank": FULL, "matrix": ["value"]},
        control={"adapter_scale": 1.0, "adapter_rank": 1, "matrix": ["value"]},
        control_reason="an adapter of rank 1 gives an update of rank 1",
    ),
    Claim(
        ids=("AT-C2", "AT-C3"),
        statement="with a fixed random output matrix too, dW_V keeps its derived angle to the K patterns",
        source="derived",
        label="derived",
        derivation="Differences of the classes' mean tokens lie in span(mu_1 .. mu_K), their sum is off it by the\n"
        "irrelevant patterns: rates.mean_token_angle.",
        measure=lambda data: active_angle(data, "classes"),
        prediction=Equals(predicted_angle, tolerance=3.0),
        tolerance_reason="mean tokens of 512 / K samples are off by 0.2/sqrt(512/K) against 0.3: 3 degrees at K = 3",
        at={"classes": SEVERAL, "adapter_scale": 1.0, "adapter_rank": FULL, "matrix": "value"},
        control={"classes": SEVERAL, "adapter_scale": 1.0, "adapter_rank": 1, "matrix": "value"},
        control_reason="an adapter of rank 1 has one direction: the others are noise",
    ),
    Claim(
        ids=("AT-C2", "AT-C3"),
        statement="from a small start of A, adapters of rank 4 end in the same directions",
        source="derived",
        label="derived",
        derivation="B A has the row space of A, and A - A(0) = -eta sum B^T G has that of the gradients: what A(0)\n"
        "leaves vanishes with its scale, as B and A grow together from nothing.",
        measure=last_angle,
        prediction=MatchesCurve(predicted_angle, relative_tolerance=0.25),
        tolerance_reason="what a start of a tenth leaves: some degrees of 18 to 21",
        at={"classes": SEVERAL, "adapter_scale": 0.1, "adapter_rank": 4, "matrix": "value"},
        control={"classes": SEVERAL, "adapter_scale": 1.0, "adapter_rank": 4, "matrix": "value"},
        control_reason="from a start of scale 1, A hardly moves: the directions stay those of A(0)",
        remark="the last of the K directions has hardly left A(0) when the hinge is met: nothing is lost by that",
    ),
]
