"""The products that are measured are those of the plain loops."""

import numpy as np
import pytest

from theory_sim.bench import KERNELS
from theory_sim.bench import projection_kernels as projections

LISTED = [make for name, makers in KERNELS.items() if name.endswith("_projection") for make in makers]
QUARTERS = [
    projections.dense_apply_quarter,
    projections.one_hot_apply_quarter,
    projections.fastfood_apply_quarter,
]
PRODUCTS = [*LISTED, *(make for make in QUARTERS if make not in LISTED)]


@pytest.mark.parametrize("make", PRODUCTS, ids=lambda make: make.__name__)
def test_every_product_of_a_projection_is_the_plain_one(make):
    kernel = make(ambient=300, dim=12)
    results = np.asarray(kernel.call())
    assert len(results) == kernel.runs
    np.testing.assert_allclose(results[0], kernel.numpy()(), atol=1e-12)
    assert kernel.flops > 0
    assert kernel.shared_bytes > 0
    if "dense" in kernel.name:
        torch = pytest.importorskip("torch")
        assert kernel.torch is not None
        np.testing.assert_allclose(results[0], torch.as_tensor(kernel.torch()()).numpy(), atol=1e-12)


def test_the_tensors_are_those_of_the_network():
    assert sum(projections.TENSORS) == projections.AMBIENT
    held = projections.megabytes()
    assert held["dense", "whole"] == held["dense", "tensors"] == 2 * 199_210 * 750 * 4 / 1e6
    assert (
        held["one_hot", "whole"]
        < held["fastfood", "whole"]
        < held["sparse", "whole"]
        < held["dense", "whole"]
    )
