"""A rotation of all parameters changes nothing for gradient descent and momentum, and something for Adam."""

from functools import partial

import numpy as np
import optax
import xarray as xr

from theory_sim import AtLeast, AtMost, Claim, Estimate, Simulation, Sweep, bootstrap, by_seed
from theory_sim.subspace import MLP, orthonormal_projection, subspace_training, teacher_data

D = 108  # parameters of the network
RULES = {
    "sgd": (optax.sgd, 0.3),
    "momentum": (partial(optax.sgd, momentum=0.9), 0.05),
    "adam": (partial(optax.adam, b1=0.9, b2=0.99), 0.01),
}


def rotated(*, rule: str = "sgd") -> Simulation:
    """A hidden layer of 8 on a teacher's data; dim 0 trains it directly, dim D = 108 in a rotated basis."""
    optimizer, step_size = RULES[rule]
    simulation = subspace_training(
        MLP([8, 4]),
        teacher_data(dim=8, hidden=4, train=500, test=200),
        max_dim=D,
        projection=orthonormal_projection,
        optimizer=optimizer,
    )
    return simulation._replace(
        hyper=simulation.hyper._replace(step_size=step_size, direct_step_size=step_size)
    )


SWEEP = Sweep(
    simulation=rotated,
    shape={"rule": [*RULES]},
    run={"dim": [0, D]},
    problem_seeds=16,
    steps=[0, 1, 3, 10, 30, 100, 300],
    presets={
        "smoke": {"rule": ["momentum", "adam"], "problem_seeds": 2, "steps": [0, 10, 30]},
        "quick": {},
        "paper": {"problem_seeds": 64, "steps": [0, 1, 3, 10, 30, 100, 300, 1000]},
    },
)


def difference(data: xr.Dataset) -> Estimate:
    """Largest relative difference of the two loss curves over the recorded steps."""
    direct, turned = (by_seed(data.isel(dim=[i]), "train_loss", "step") for i in (0, 1))
    return bootstrap(np.abs(turned / direct - 1).max(axis=1))


CHAIN = (
    "With theta = theta_0 + P z, P orthogonal, the gradient in z is P^T g: a step -s P^T g of z moves theta by -s g,\n"
    "and so do sums of past gradients. Adam divides each coordinate by its own root mean square, which P mixes."
)

CLAIMS = [
    *[
        Claim(
            ids=("SU-A1-7", "SU-A1-F2"),
            statement=f"training by {name} in a rotated basis has the loss curve of direct training",
            source="arXiv:1804.08838, P = I is ordinary training; the identity is ours",
            label="derived",
            derivation=CHAIN,
            measure=difference,
            prediction=AtMost(1e-8),
            tolerance_reason="an identity: round-off of 1e-16 a step, amplified where ReLUs switch",
            at={"rule": rule},
            control={"rule": "adam"},
            control_reason="Adam's coordinates are those of its basis",
        )
        for rule, name in (("sgd", "gradient descent"), ("momentum", "momentum"))
    ],
    Claim(
        ids=("SU-A1-7", "SU-A1-F2"),
        statement="under Adam the curves differ by a percent and more",
        source="arXiv:1804.08838, P = I is ordinary training; the size is ours",
        label="derived",
        derivation=CHAIN,
        measure=difference,
        prediction=AtLeast(0.01),
        at={"rule": "adam"},
        control={"rule": "momentum"},
        control_reason="momentum commutes with rotations",
    ),
]
