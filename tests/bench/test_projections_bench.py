"""The products that are measured are those of the plain loops."""

import numpy as np
import pytest

from theory_sim.bench import KERNELS

PRODUCTS = [make for name, makers in KERNELS.items() if name.endswith("_projection") for make in makers]


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
