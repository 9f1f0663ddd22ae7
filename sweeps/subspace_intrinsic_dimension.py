"""The intrinsic dimension of handwritten digits with every projection, beside what arXiv:1804.08838 found on MNIST.

On this network it does not tell projections apart that the problem of known codimension does: positive one-hot
entries, which are not isotropic (SU-A3-3), give the d_int90 of signed ones (log ratio -0.06, interval -0.14 to 0.07).
That signs repair them (SU-A3-5) is therefore claimed on that problem alone.
"""

from functools import partial
from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, PRNGKeyArray

from theory_sim import Claim, Equals, Estimate, Simulation, Sweep, computed, last
from theory_sim.subspace import (
    MLP,
    DenseProjection,
    Projection,
    dense_projection,
    digits,
    log_dimension_ratio,
    subspace_training,
)
from theory_sim.subspace.linear_maps import Restricted

DIMS = [0, 60, 120, 180, 240]
KINDS = ["dense", "sparse", "fastfood", "signed_one_hot", "one_hot"]
COPIES = [1, 2]
TWICE = [240, 360, 480]  # what brackets d_int90 where two numbers move each column


@flax.struct.dataclass
class Repeated:
    """A dense projection that is moved by the means of `copies` numbers each: d of them span d / `copies` dimensions.

    Equal numbers have equal gradients, and Adam does not ask for their size: training is that of the means.
    """

    projection: DenseProjection
    copies: int = flax.struct.field(pytree_node=False)

    def apply(self, x: Array) -> Array:
        """Return `P` times the means."""
        return self.projection.apply(x.reshape(-1, self.copies).mean(axis=1))

    def transpose(self, y: Array) -> Array:
        """Return the transpose, which gives every number its share."""
        return jnp.repeat(self.projection.transpose(y) / self.copies, self.copies)

    def gram(self) -> Array:
        """Return `P^T P`, of rank d / `copies`."""
        share = jnp.repeat(jnp.repeat(self.projection.gram(), self.copies, 0), self.copies, 1)
        return share / self.copies**2

    def restricted(self, dim: Any) -> Restricted:
        """Return the first `dim` columns; in a last group that is cut the mean counts the others as zero."""
        return Restricted(self, dim)


def repeated(copies: int, key: PRNGKeyArray, ambient: int, dim: int) -> Projection:
    """Draw a dense projection of `dim` / `copies` dimensions whose columns are each used `copies` times."""
    return Repeated(dense_projection(key, ambient, dim // copies), copies)


def digits_in_subspaces(*, projection: str = "dense", copies: int = 1) -> Simulation:
    """A network of two hidden layers of 20 on the digits, D = 1,930; columns of the dense projection used `copies`."""
    simulation = subspace_training(
        MLP([20, 20, 10]),
        digits(),
        max_dim=copies * max(DIMS),
        projection=projection if copies == 1 else partial(repeated, copies),
        optimizer=partial(optax.adam, b1=0.9, b2=0.99),
        dtype="float32",
        direct=projection == "dense",
    )
    # Both minimise the training loss of dense runs among 0.003 .. 0.1.
    hyper = simulation.hyper._replace(step_size=0.05, direct_step_size=0.01)
    # All cells share the axis `dim`, and `where` gives each its own part of it.
    return simulation._replace(hyper=hyper, limits={**simulation.limits, "dim": (0, max(TWICE))})


def wanted(projection, copies, dim, **_):  # type: ignore[no-untyped-def]
    """Direct training needs no projection: it is run beside the dense one, the only one whose columns repeat."""
    plain = (copies == 1) & (dim <= max(DIMS)) & ((projection == "dense") | (dim > 0))
    return plain | ((copies == 2) & (projection == "dense") & (dim >= min(TWICE)))


SWEEP = Sweep(
    simulation=digits_in_subspaces,
    shape={"projection": KINDS, "copies": COPIES},
    run={"dim": sorted({*DIMS, *TWICE})},
    problem_seeds=8,
    steps=[0, 100, 1000],  # 1000 minibatches are 95 epochs of digits, the paper's 100
    presets={
        "smoke": {
            "projection": ["dense"],
            "copies": [1, 2],
            "dim": [0, 60, 240],
            "problem_seeds": 2,
            "steps": [0, 50],
        },
        "quick": {},
        "paper": {"problem_seeds": 32, "steps": [0, 100, 300, 1000, 3000]},
    },
    where=wanted,
)


def curve(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Dimensions above 0 of one cell, and the test accuracies of each seed at them."""
    dims, scores = computed(data)["dim"].to_numpy(), last(data, "test_accuracy", "dim")
    return dims[dims > 0], scores[:, dims > 0]


def log_ratio(data: xr.Dataset) -> Estimate:
    """Log of d_int90 (global) of the second cell over the first, of the axis that selects two."""
    pair = next(name for name in ("copies", "projection") if data.sizes.get(name) == 2)
    (dims, first), (others, second) = (curve(data.isel({pair: i})) for i in (0, 1))
    return log_dimension_ratio(dims, first, second, others=others)


PAPER = "arXiv:1804.08838"
NAMES = {
    "dense": "dense",
    "sparse": "sparse",
    "fastfood": "Fastfood",
    "one_hot": "one-hot",
    "signed_one_hot": "signed one-hot",
}

CLAIMS = [
    Claim(
        ids=("SU-A1-3", "SU-A1-F6"),
        statement=f"a {NAMES[kind]} projection gives the d_int90 of a dense one",
        source=f"{PAPER}, which uses them interchangeably",
        label="unconfirmed",
        measure=log_ratio,
        prediction=Equals(0.0, tolerance=float(np.log(1.25))),
        tolerance_reason="overlaps of columns differ by at most sqrt(2); a quarter covers the noise of"
        " eight projections",
        at={"copies": 1, "projection": ["dense", kind]},
        control={"copies": [1, 2], "projection": "dense"},
        control_reason="two numbers to a column span half of the dimensions: d_int90 doubles",
    )
    for kind in ("fastfood", "sparse")
]
