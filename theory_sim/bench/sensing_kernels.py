"""The methods of matrix sensing, each on one Gaussian operator that all runs share.

Counted are the flops of the products with the operator alone: whatever else a step does lowers the fraction. A residual
and its pull are a product with `A` and one with `A*`, or one with `A*A` where the operator holds that.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from theory_sim.bench import plain_numpy
from theory_sim.bench.kernels import Kernel, Step, batch, nbytes
from theory_sim.sensing import (
    asymmetric_gd,
    gauss_newton,
    scaled_gd,
    subgradient,
    symmetric_gd,
    unvech,
    weight_normalized,
)
from theory_sim.simulation import Simulation


def _kernel(
    factory: Callable[..., Simulation],
    plain: Callable[..., Any],
    *,
    runs: int,
    steps: int,
    dim: int,
    measurements: int,
    rank: int,
    sizes: dict[str, Any] | None = None,
    residuals: int = 1,
    factors: int = 1,
    torch: bool = False,
) -> Kernel:
    """Measure a method whose step makes that many residuals and pulls them back.

    `plain` takes the factors of one run, the matrices `[m, dim * dim]`, and the measurements.
    """
    sizes = sizes or {"dim": dim}
    simulation = factory(**sizes, true_rank=3, max_rank=rank, measurements=measurements)
    call, problem, state = batch(simulation, runs, steps, {"rank": np.resize(range(3, rank + 1), runs)})
    operator = problem.operator
    # The plain loops hold whole matrices, as a user would, also where the kernel's operator is packed.
    whole = operator.matrix if operator.shape else jax.vmap(unvech)(operator.matrix)
    matrices = np.asarray(whole).reshape(measurements, dim * dim)
    observed = np.asarray(problem.observed)
    draw = np.random.default_rng(0)
    start = tuple(0.3 * draw.normal(size=(dim, rank)) / dim**0.5 for _ in range(factors))
    if factory is weight_normalized:
        start = np.linalg.qr(start[0])[0], np.zeros((rank, rank))

    def numpy() -> Step:
        current = start

        def step() -> None:
            nonlocal current
            after = plain(*current, matrices, observed)
            current = after if isinstance(after, tuple) else (after,)

        return step

    def with_torch() -> Step:
        from theory_sim.bench import plain_torch

        return plain_torch.sensing(matrices, observed, start[0], 0.1)

    read = (operator.matrix, operator.transpose) if operator.gram is None else (operator.gram,)
    # Each product reads its matrix once for all runs.
    return Kernel(
        f"sensing.{factory.__name__} n={dim} m={measurements}", runs, steps, call,
        2.0 * residuals * sum(part.size for part in read), float(residuals * nbytes(read)),
        2.0 * nbytes(state),
        numpy, with_torch if torch else None,
    )  # fmt: skip


SIZE: dict[str, Any] = {"runs": 64, "steps": 200, "dim": 50, "measurements": 1000, "rank": 6}


def symmetric_sensing(**size: Any) -> Kernel:
    """Symmetric gradient descent, on the packed operator."""
    plain = partial(plain_numpy.sensing_step, step_size=0.1)
    return _kernel(symmetric_gd, plain, **{**SIZE, **size}, torch=True)


def asymmetric_sensing(**size: Any) -> Kernel:
    """Asymmetric gradient descent, on the general operator."""
    size = {**SIZE, **size}
    sizes = {"rows": size["dim"], "cols": size["dim"]}
    plain = partial(plain_numpy.asymmetric_step, step_size=0.1)
    return _kernel(asymmetric_gd, plain, **size, sizes=sizes, factors=2)


def robust_sensing(**size: Any) -> Kernel:
    """The sub-gradient method with the normalised rule, on the packed operator."""
    size = {**SIZE, **size}
    plain = partial(plain_numpy.subgradient_step, length=0.1)
    # A spectral start costs as much as a hundred steps, and a step is what is measured.
    return _kernel(subgradient, plain, **size, sizes={"dim": size["dim"], "start": "orthogonal"})


def scaled_sensing(**size: Any) -> Kernel:
    """ScaledGD(lambda), on the packed operator."""
    plain = partial(plain_numpy.scaled_step, step_size=0.3, damping=0.1)
    return _kernel(scaled_gd, plain, **{**SIZE, **size})


def gauss_newton_sensing(**size: Any) -> Kernel:
    """Alternating Gauss-Newton, on the general operator: two residuals a step."""
    plain = partial(plain_numpy.gauss_newton_step, step_size=0.3)
    return _kernel(gauss_newton, plain, **{**SIZE, **size}, residuals=2, factors=2)


def riemannian_sensing(**size: Any) -> Kernel:
    """The weight-normalised method, on the packed operator: two residuals a step."""
    plain = partial(plain_numpy.weight_normalized_step, step_size=0.3, core_step_size=1.0)
    return _kernel(weight_normalized, plain, **{**SIZE, **size}, residuals=2)
