"""Accuracy on MNIST against the subspace dimension, beside the curves that arXiv:1804.08838 published."""

from functools import partial

import numpy as np
import optax
import xarray as xr

from theory_sim import Claim, Estimate, MatchesCurve, Simulation, Sweep, bootstrap, by_seed, computed
from theory_sim.subspace import MLP, LeNet, intrinsic_dimension, missing_mnist, mnist, subspace_training
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
        "smoke": {"network": ["fc"], "dim": [0, 300, 500, 1000], "problem_seeds": 2, "steps": [20]},
        "quick": {},
        "paper": {"dim": PAPER_DIMS, "problem_seeds": 5, "steps": [e * EPOCH for e in (1, 2, 5, 10, 20)]},
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


def accuracy(data: xr.Dataset) -> Estimate:
    """Mean test accuracy at the dimensions that both networks share."""
    dims, scores, _ = curve(data)
    return bootstrap(scores[:, np.isin(dims, SHARED)])


PAPER = "arXiv:1804.08838, official notebooks"
NAMES = {"fc": "784-200-200-10", "lenet": "LeNet"}
D_INT90 = {"fc": [750.0, 550.0], "lenet": [290.0, 275.0]}  # 525 to 575 with the individual baseline of fc
OTHER = {"fc": "lenet", "lenet": "fc"}

INDIVIDUAL = {"fc": "525 to 575, of which the middle is taken", "lenet": "275"}

CLAIMS = [
    *[
        Claim(
            ids=("SU-A1-4", "SU-A1-N1"),
            statement=f"d_int90 of {NAMES[network]} on MNIST, global and individual baseline, is the"
            f" published one to 40%, after far"
            " fewer epochs",
            source=f"{PAPER}: {D_INT90[network][0]:g} (global), {INDIVIDUAL[network]} (individual)",
            label="paper",
            measure=both_baselines,
            prediction=MatchesCurve(D_INT90[network], relative_tolerance=0.4),
            tolerance_reason="2 epochs (20 in the preset paper) of Adam at 0.03 without L2 against 100 at"
            " 0.001 with L2 1e-4:"
            " near 0.9 a loss of 0.02 in accuracy moves the crossing by a third, and the published values"
            " scatter by 10%",
            at={"network": network},
            control={"network": OTHER[network]},
            control_reason=f"{NAMES[OTHER[network]]} has another intrinsic dimension",
            remark="after 2 epochs the accuracy at d = 750 is 0.005 below the published one: a flat crossing moves far"
            if network == "fc"
            else "",
        )
        for network in ("fc", "lenet")
    ],
    *[
        Claim(
            ids=("SU-A1-N5",),
            statement=f"test accuracy of {NAMES[network]} at d = 300, 500, 1000 is the published one to 4%,"
            f" after far fewer epochs",
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
]
