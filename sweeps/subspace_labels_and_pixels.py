"""What shuffling pixels or labels does to the intrinsic dimension of the digits (arXiv:1804.08838)."""

from functools import partial

import numpy as np
import optax
import xarray as xr

from theory_sim import AtLeast, AtMost, Claim, Equals, Estimate, Simulation, Sweep, by_seed, computed
from theory_sim.subspace import (
    MLP,
    LeNet,
    digits,
    log_dimension_ratio,
    shuffled_labels,
    shuffled_pixels,
    subspace_training,
)

LEARN_DIMS = [100, 200, 320]
MEMORIZE_DIMS = [40, 80, 320, 640]
EXAMPLES = [50, 200]
SHORT, LONG = 100, 1000  # minibatches
NETWORKS = {
    "fc": MLP([20, 20, 10]),  # D = 1,930
    "lenet": LeNet(
        channels=(8,), kernel=3, widths=(20, 10)
    ),  # D = 1,750: one convolution, 8 x 8 pixels hold no more
    "memory": MLP([40, 40, 10]),  # D = 4,650, to memorise labels with
}


def shuffled_digits(*, network: str = "fc", shuffled: str = "nothing") -> Simulation:
    """Digits with `shuffled` "nothing", "pixels" or "labels"; the network "memory" with signed one-hot projections."""
    data = digits()
    data = data._replace(train_x=data.train_x.reshape(-1, 8, 8), test_x=data.test_x.reshape(-1, 8, 8))
    data = {"nothing": lambda d: d, "pixels": shuffled_pixels, "labels": shuffled_labels}[shuffled](data)
    memory = network == "memory"
    simulation = subspace_training(
        NETWORKS[network],
        data,
        max_dim=max(MEMORIZE_DIMS if memory else LEARN_DIMS),
        projection="signed_one_hot" if memory else "dense",
        optimizer=partial(optax.adam, b1=0.9, b2=0.99),
        dtype="float32",
        direct=False,
    )
    simulation = simulation._replace(hyper=simulation.hyper._replace(step_size=0.05, direct_step_size=0.01))
    # The networks share the axis `dim`; `where` gives each its own values, within its own limit.
    return simulation._replace(limits={})


def wanted(network, shuffled, dim, examples, **_):  # type: ignore[no-untyped-def]
    """Pixels are shuffled for the networks that learn, labels for the one that memorises some of the examples."""
    if str(network) == "memory":
        return (str(shuffled) == "labels") & np.isin(dim, MEMORIZE_DIMS) & (examples > 0)
    return (str(shuffled) != "labels") & np.isin(dim, LEARN_DIMS) & (examples == 0)


SWEEP = Sweep(
    simulation=shuffled_digits,
    shape={"network": [*NETWORKS], "shuffled": ["nothing", "pixels", "labels"]},
    run={"dim": sorted({*LEARN_DIMS, *MEMORIZE_DIMS}), "examples": [0, *EXAMPLES]},
    problem_seeds=8,
    steps=[SHORT, LONG],
    presets={
        "smoke": {
            "network": ["fc", "memory"],
            "dim": [100, 200, 40, 320],
            "problem_seeds": 2,
            "steps": [20, 30],
        },
        "quick": {},
        "paper": {"problem_seeds": 32, "steps": [SHORT, LONG, 4000]},
    },
    where=wanted,
)


def curve(data: xr.Dataset, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Dimensions, and the metric of each seed at them."""
    return computed(data)["dim"].to_numpy(), by_seed(data.isel(step=-1), metric, "dim")


def log_ratio(data: xr.Dataset) -> Estimate:
    """Log of d_int90 (global) of the second cell over the first, of the axis that selects two."""
    pair = next(name for name in ("shuffled", "network") if data.sizes.get(name) == 2)
    (dims, first), (_, second) = (curve(data.isel({pair: i}), "test_accuracy") for i in (0, 1))
    return log_dimension_ratio(dims, first, second)


def memory_exponent(data: xr.Dataset) -> Estimate:
    """Log-log slope between the fewest and the most examples of the d that fits 90% of the training labels."""
    few, many = (data.sel(examples=int(n)) for n in computed(data)["examples"].to_numpy()[[0, -1]])
    (dims, first), (_, second) = (curve(cell, "train_accuracy") for cell in (few, many))
    ratio = log_dimension_ratio(dims, first, second)
    octaves = float(np.log(many["examples"] / few["examples"]))
    return Estimate(*(part / octaves for part in ratio[:3]), ratio.window, ratio.doubts)


PAPER = "arXiv:1804.08838"
NOISE = "the noise of eight projections: a quarter, as between kinds of projections"

CLAIMS = [
    Claim(
        ids=("SU-A1-5",),
        statement="a fixed permutation of the pixels leaves the intrinsic dimension of a fully connected network",
        source=f"{PAPER}, MNIST FC: 750 with and without",
        label="derived",
        derivation="Rows of the first kernel and of P are exchangeable: permuting the pixels permutes them,\n"
        "and the law of all that training does is the same.",
        measure=log_ratio,
        prediction=Equals(0.0, tolerance=float(np.log(1.25))),
        tolerance_reason=NOISE,
        at={"network": "fc", "shuffled": ["nothing", "pixels"], "examples": 0},
        control={"network": "lenet", "shuffled": ["nothing", "pixels"], "examples": 0},
        control_reason="a convolution looks for what neighbouring pixels share",
    ),
    Claim(
        ids=("SU-A1-5",),
        statement="it raises that of a convolutional network",
        source=f"{PAPER}, MNIST LeNet: 290, then 1400; the size of the rise on digits is unconfirmed",
        label="unconfirmed",
        measure=log_ratio,
        prediction=AtLeast(float(np.log(1.25))),
        at={"network": "lenet", "shuffled": ["nothing", "pixels"], "examples": 0},
        control={"network": "fc", "shuffled": ["nothing", "pixels"], "examples": 0},
        control_reason="a fully connected network has no use for neighbours",
    ),
    Claim(
        ids=("SU-A1-6",),
        statement="fitting shuffled labels takes fewer dimensions for each example, the more examples there are",
        source=f"{PAPER}: 90,000, 130,000, 190,000 for 5,000, 25,000, 50,000; an exponent of about 0.3",
        label="unconfirmed",
        measure=memory_exponent,
        prediction=AtMost(1.0),
        tolerance_reason="none: below the exponent 1 the share of each example falls",
        at={"network": "memory", "shuffled": "labels", "step": [LONG]},
        control={"network": "memory", "shuffled": "labels", "step": [SHORT]},
        control_reason="in so few minibatches many examples are not fitted in any number of dimensions",
        remark="at 50 to 200 images, a hundred times fewer than published, each further example takes as many"
        " dimensions as the last, or more",
    ),
]
