"""Accuracy on MNIST against the subspace dimension, beside the curves that arXiv:1804.08838 published."""

from functools import partial

import numpy as np
import optax
import xarray as xr

from theory_sim import (
    AtLeast,
    Claim,
    Estimate,
    MatchesCurve,
    Simulation,
    Sweep,
    bootstrap,
    computed,
    last,
    last_mean,
)
from theory_sim.subspace import (
    MLP,
    LeNet,
    compression,
    description_length,
    intrinsic_dimension,
    missing_mnist,
    mnist,
    subspace_training,
)
from theory_sim.subspace.published import MNIST_ACCURACY

missing = missing_mnist

EPOCH = 391  # minibatches of 128 of 50,000 images
DIMS = [0, 200, 300, 500, 750, 1000, 1500]
SHARED = [300, 500, 1000]
PAPER_DIMS = [0, 10, 50, 100, 200, 250, 275, 290, *range(300, 1001, 50), 1250, 1500, 2000]


def mnist_in_subspaces(*, network: str = "fc") -> Simulation:
    """784-200-200-10 ("fc", D = 199,210) or LeNet ("lenet", D = 44,426), Fastfood, Adam, in float32."""
    model = {"fc": MLP([200, 200, 10]), "lenet": LeNet()}[network]
    simulation = subspace_training(
        model,
        mnist(),
        max_dim=2000,
        projection="fastfood",
        optimizer=partial(optax.adam, b1=0.9, b2=0.99),
        evaluated=1000,
        dtype="float32",
    )
    return simulation._replace(hyper=simulation.hyper._replace(step_size=0.03, direct_step_size=1e-3))


def wanted(network, dim, **_):  # type: ignore[no-untyped-def]
    """The dimensions at which an accuracy was published for the network."""
    return np.isin(dim, list(MNIST_ACCURACY[str(network)]))


SWEEP = Sweep(
    simulation=mnist_in_subspaces,
    shape={"network": ["fc", "lenet"]},
    run={"dim": DIMS},
    problem_seeds=5,
    steps=[EPOCH, 2 * EPOCH],
    presets={
        "smoke": {"network": ["fc"], "dim": [0, 300, 500, 1000, 1500], "problem_seeds": 2, "steps": [20]},
        "quick": {},
        "paper": {"dim": PAPER_DIMS, "problem_seeds": 5, "steps": [e * EPOCH for e in (1, 2, 5, 10, 20)]},
    },
    where=wanted,
)


def curve(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dimensions, test accuracies of each seed at them, and those of direct training."""
    dims, scores = computed(data)["dim"].to_numpy(), last(data, "test_accuracy", "dim")
    return dims[dims > 0], scores[:, dims > 0], scores[:, dims == 0].mean(axis=1)


def both_baselines(data: xr.Dataset) -> Estimate:
    """d_int90 with the global and with the individual baseline."""
    dims, scores, direct = curve(data)
    both = [intrinsic_dimension(dims, scores, baseline=baseline) for baseline in (1.0, direct)]
    value, low, high = (np.array([estimate[part] for estimate in both]) for part in range(3))
    doubts = tuple(doubt for estimate in both for doubt in estimate.doubts)
    return Estimate(value, low, high, both[0].window, doubts)


def accuracy(data: xr.Dataset) -> Estimate:
    """Mean test accuracy at the dimensions that both networks share."""
    dims, scores, _ = curve(data)
    return bootstrap(scores[:, np.isin(dims, SHARED)])


def described_accuracy(data: xr.Dataset) -> Estimate:
    """Mean test accuracy at each dimension."""
    return last_mean(data, "test_accuracy", "dim")


PAPER = "arXiv:1804.08838, official notebooks"
NAMES = {"fc": "784-200-200-10", "lenet": "LeNet"}
OTHER = {"fc": "lenet", "lenet": "fc"}
# Global and individual baseline. Of fc the middles of what was published: 725 to 900 over three seeds with the global
# one, where the curve of their mean passes 0.9 at 806, and 525 to 575.
D_INT90 = {"fc": [806.0, 550.0], "lenet": [290.0, 275.0]}
PUBLISHED = {
    "fc": "750, 725 to 900 by seed (global), 525 to 575 (individual)",
    "lenet": "290 (global), 275 (individual)",
}
EPOCHS = "after 2 epochs (20 in the preset paper) where it had 100"
WEIGHTS, MOST = 199_210, 1500  # of 784-200-200-10, and the largest d that was published for it
# What the quick preset measured.
REMARKS = {
    "fc": "after 2 of 100 epochs the accuracy still rises: at d = 750 it was 0.872 after the first and is 0.887, 0.007"
    " below the published one, where 0.01 in accuracy is 200 dimensions",
    "lenet": "after 2 of 100 epochs the accuracy still rises: at d = 300 it was 0.877 after the first and is 0.896,"
    " 0.007 below the published one",
}

CLAIMS = [
    *[
        Claim(
            ids=("SU-A1-4", "SU-A1-F4", "SU-A1-N1"),
            statement=f"d_int90 of {NAMES[network]} on MNIST, global and individual baseline, is the"
            f" published one to 10%, {EPOCHS}",
            source=f"{PAPER}: {PUBLISHED[network]}",
            label="paper",
            measure=both_baselines,
            prediction=MatchesCurve(D_INT90[network], relative_tolerance=0.1),
            tolerance_reason="how far the published values of one network lie apart by seed. Nothing is left for fewer"
            " epochs, Adam at 0.03 without L2 in place of 0.001 with 1e-4, or dimensions 250 apart: what they cost is"
            " the finding",
            at={"network": network},
            control={"network": OTHER[network]},
            control_reason=f"{NAMES[OTHER[network]]} has another intrinsic dimension",
            remark=REMARKS[network],
        )
        for network in ("fc", "lenet")
    ],
    *[
        Claim(
            ids=("SU-A1-N5",),
            statement=f"test accuracy of {NAMES[network]} at d = 300, 500, 1000 is the published one to 4%, {EPOCHS}",
            source=f"{PAPER}, curves after 100 epochs",
            label="paper",
            measure=accuracy,
            prediction=MatchesCurve([MNIST_ACCURACY[network][d] for d in SHARED], relative_tolerance=0.04),
            tolerance_reason="2 epochs against 100; less than what separates the curves of both networks, 6% to 10%",
            at={"network": network},
            control={"network": OTHER[network]},
            control_reason=f"{NAMES[OTHER[network]]} has another curve",
        )
        for network in ("fc", "lenet")
    ],
    Claim(
        ids=("SU-A1-F5",),
        statement=f"a network of {WEIGHTS:,} weights that {description_length(MOST) / 8000:.0f} kB describe, d ="
        f" {MOST} numbers and two seeds in place of {WEIGHTS / 250:.0f} kB, reaches 90% on MNIST after 2 epochs",
        source="arXiv:1804.08838, abstract: descriptions more than 100 times shorter in some cases",
        label="paper",
        measure=described_accuracy,
        prediction=AtLeast(0.9),
        tolerance_reason=f"none: d = {MOST} is {compression(WEIGHTS, MOST):.0f} times shorter, and the published"
        f" accuracy there is {MNIST_ACCURACY['fc'][MOST]:g}",
        at={"network": "fc", "dim": [MOST]},
        control={"network": "fc", "dim": [300]},
        control_reason=f"{compression(WEIGHTS, 300):.0f} times shorter is too short: the published accuracy at d = 300"
        f" is {MNIST_ACCURACY['fc'][300]:g}",
    ),
]
