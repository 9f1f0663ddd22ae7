"""The intrinsic dimension of handwritten digits with every projection, beside what arXiv:1804.08838 found on MNIST."""

from functools import partial

import numpy as np
import optax
import xarray as xr

from theory_sim import AtMost, Claim, Equals, Estimate, Simulation, Sweep, by_seed, computed
from theory_sim.subspace import (
    MLP,
    digits,
    intrinsic_dimension,
    log_dimension_ratio,
    shuffled_labels,
    subspace_training,
)

DIMS = [0, 60, 120, 180, 240]
KINDS = ["dense", "sparse", "fastfood", "signed_one_hot", "one_hot"]


def digits_in_subspaces(*, labels: str = "true", projection: str = "dense") -> Simulation:
    """A network of two hidden layers of 20 on the digits, D = 1,930; labels "true" or "shuffled"."""
    data = shuffled_labels(digits()) if labels == "shuffled" else digits()
    adam = partial(optax.adam, b1=0.9, b2=0.99)
    network = MLP([20, 20, 10])
    simulation = subspace_training(
        network, data, max_dim=240, projection=projection, optimizer=adam, dtype="float32"
    )
    # Both minimise the training loss of dense runs among 0.003 .. 0.1.
    return simulation._replace(hyper=simulation.hyper._replace(step_size=0.05, direct_step_size=0.01))


def wanted(labels, projection, dim, **_):  # type: ignore[no-untyped-def]
    """With shuffled labels one projection and three dimensions are enough to see that nothing is learned."""
    return (labels == "true") | ((projection == "dense") & np.isin(dim, [0, 120, 240]))


SWEEP = Sweep(
    simulation=digits_in_subspaces,
    shape={"labels": ["true", "shuffled"], "projection": KINDS},
    run={"dim": DIMS},
    problem_seeds=8,
    steps=[0, 100, 1000],  # 1000 minibatches are 95 epochs of digits, the paper's 100
    presets={
        "smoke": {"projection": ["dense"], "dim": [0, 60, 240], "problem_seeds": 2, "steps": [0, 50]},
        "quick": {},
        "paper": {"problem_seeds": 32, "steps": [0, 100, 300, 1000, 3000]},
    },
    where=wanted,
)


def curve(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dimensions, test accuracies of each seed at them, and those of direct training."""
    dims, scores = computed(data)["dim"].to_numpy(), by_seed(data.isel(step=-1), "test_accuracy", "dim")
    return dims[dims > 0], scores[:, dims > 0], scores[:, dims == 0].mean(axis=1)


def both_baselines(data: xr.Dataset) -> Estimate:
    """d_int90 with the global and with the individual baseline."""
    dims, scores, direct = curve(data)
    both = [intrinsic_dimension(dims, scores, baseline=baseline) for baseline in (1.0, direct)]
    value, low, high = (np.array([estimate[part] for estimate in both]) for part in range(3))
    doubts = tuple(doubt for estimate in both for doubt in estimate.doubts)
    return Estimate(value, low, high, both[0].window, doubts)


def log_ratio(data: xr.Dataset) -> Estimate:
    """Log of d_int90 (global) of the second cell over the first, of the axis that selects two."""
    pair = next(name for name in ("labels", "projection") if data.sizes.get(name) == 2)
    (dims, first, _), (others, second, _) = (curve(data.isel({pair: i})) for i in (0, 1))
    shared = np.intersect1d(dims, others)
    return Estimate(
        *log_dimension_ratio(shared, first[:, np.isin(dims, shared)], second[:, np.isin(others, shared)])
    )


PAPER = "arXiv:1804.08838"
SHUFFLED = "with shuffled labels nothing can be learned: the test accuracy stays at chance in every dimension"
NAMES = {
    "dense": "dense",
    "sparse": "sparse",
    "fastfood": "Fastfood",
    "one_hot": "one-hot",
    "signed_one_hot": "signed one-hot",
}

CLAIMS = [
    *[
        Claim(
            ids=("SU-A1-4", "SU-A1-F4"),
            statement=f"90% on the digits, by both baselines, takes at most 240 {NAMES[kind]} dimensions,"
            f" fewer than MNIST's",
            source=f"{PAPER}, MNIST FC 784-200-200-10: d_int90 750 (global), 525-575 (individual); comparison ours",
            label="unconfirmed",
            measure=both_baselines,
            prediction=AtMost([240.0, 240.0]),
            tolerance_reason="the most dimensions tried: it fails only where 90% is not reached in them",
            at={"labels": "true", "projection": kind},
            control={"labels": "shuffled", "projection": "dense"},
            control_reason=SHUFFLED,
        )
        for kind in KINDS
    ],
    *[
        Claim(
            ids=ids,
            statement=f"a {NAMES[kind]} projection gives the d_int90 of a dense one",
            source=source,
            label="unconfirmed",
            measure=log_ratio,
            prediction=Equals(0.0, tolerance=float(np.log(1.25))),
            tolerance_reason="overlaps of columns differ by at most sqrt(2); a quarter covers the noise of"
            " eight projections",
            at={"labels": "true", "projection": ["dense", kind]},
            control={"labels": ["true", "shuffled"], "projection": "dense"},
            control_reason=SHUFFLED,
        )
        for kind, ids, source in (
            ("fastfood", ("SU-A1-3", "SU-A1-F6"), f"{PAPER}, which uses them interchangeably"),
            ("sparse", ("SU-A1-3", "SU-A1-F6"), f"{PAPER}, which uses them interchangeably"),
            (
                "signed_one_hot",
                ("SU-A3-5",),
                "arXiv:2506.00799; that signs make it isotropic is derived on a quadratic",
            ),
        )
    ],
]
