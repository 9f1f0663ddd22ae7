"""Time kernels and plain loops in turn, in one process, and compare with the machine's own peaks.

Every round times everything once, and the best round counts: a machine that slows down for a while slows
peaks, kernels and loops alike.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from rich.table import Table

from theory_sim.bench import projection_kernels as projections
from theory_sim.bench.kernels import Kernel, transformer, wide_transformer
from theory_sim.bench.network_kernels import (
    dense_digits,
    dense_network,
    direct_network,
    fastfood_network,
    one_hot_network,
)
from theory_sim.bench.selection_kernels import weights_selection
from theory_sim.bench.sensing_kernels import (
    asymmetric_sensing,
    gauss_newton_sensing,
    riemannian_sensing,
    robust_sensing,
    scaled_sensing,
    symmetric_sensing,
)
from theory_sim.errors import unknown
from theory_sim.report import console

KERNELS: dict[str, tuple[Callable[..., Kernel], ...]] = {
    "sensing.symmetric_gd": (symmetric_sensing,),
    "sensing.asymmetric_gd": (asymmetric_sensing,),
    "sensing.subgradient": (robust_sensing,),
    "sensing.scaled_gd": (scaled_sensing,),
    "sensing.gauss_newton": (gauss_newton_sensing,),
    "sensing.weight_normalized": (riemannian_sensing,),
    "attention.pattern_transformer": (transformer, wide_transformer),
    "attention.token_selection": (weights_selection,),
    "subspace.subspace_training": (
        dense_digits,
        dense_network,
        direct_network,
        one_hot_network,
        fastfood_network,
    ),
    "subspace.dense_projection": (
        projections.dense_apply_one,
        projections.dense_transpose_one,
        projections.dense_apply_eight,
        projections.dense_apply_quarter,
        projections.dense_transpose_eight,
        projections.dense_apply_many,
        projections.dense_transpose_many,
    ),
    "subspace.sparse_projection": (projections.sparse_apply, projections.sparse_transpose),
    "subspace.signed_one_hot_projection": (
        projections.one_hot_apply,
        projections.one_hot_apply_quarter,
        projections.one_hot_transpose,
    ),
    "subspace.fastfood_projection": (
        projections.fastfood_apply,
        projections.fastfood_apply_quarter,
        projections.fastfood_transpose,
    ),
}
"""What makes the kernels, by the names that are printed, less the sizes: those are known once a kernel is made."""
ROUNDS = 7
PLAIN_SECONDS = 0.3
"""Time given to a plain loop in each round."""


class Speed(NamedTuple):
    """One line of the table; `fraction` is the least time that the limit allows over the time taken."""

    kernel: str
    runs: int
    steps_per_second: float
    gflops: float
    limit: str
    fraction: float
    numpy_ratio: float
    torch_ratio: float | None
    gemm_peak_gflops: float
    bandwidth_gbs: float


def chosen(only: str) -> list[Kernel]:
    """Make the kernels in whose printed name `only` begins a word: `symmetric_gd` is no part of `asymmetric_gd`.

    Raises RequestError when no kernel has such a name.
    """

    def holds(name: str, text: str) -> bool:
        return re.search(rf"(?<![A-Za-z]){re.escape(text)}", name) is not None

    # The sizes that follow the first word are known of a made kernel alone, and each takes seconds to make.
    named = [name for name in KERNELS if holds(name, only.partition(" ")[0])]
    if not named:
        raise unknown("kernel", only, {part for name in KERNELS for part in (name, *name.split("."))})
    kernels = [make() for name in named for make in KERNELS[name]]
    if wanted := [kernel for kernel in kernels if holds(kernel.name, only)]:
        return wanted
    raise unknown("kernel", only, {kernel.name for kernel in kernels})


def measure(kernels: Sequence[Kernel], rounds: int = ROUNDS) -> list[Speed]:
    """Measure kernels: steps a second over all runs, the binding limit, and the ratios to one run's loop."""
    products, read, read_bytes = _peak_calls()
    loops = [(kernel.numpy(), _torch_step(kernel)) for kernel in kernels]
    gemm, bandwidth = 0.0, 0.0
    ours, plain, torch = ([float("inf")] * len(kernels) for _ in range(3))
    for _ in range(rounds):
        gemm = max(gemm, *(flops / _seconds(call) / 1e9 for call, flops in products))
        bandwidth = max(bandwidth, read_bytes / _seconds(read) / 1e9)
        for i, kernel in enumerate(kernels):
            numpy_step, torch_step = loops[i]
            ours[i] = min(ours[i], _seconds(kernel.call) / kernel.steps)
            plain[i] = min(plain[i], _seconds_a_step(numpy_step) / kernel.plain_runs)
            if torch_step:
                torch[i] = min(torch[i], _seconds_a_step(torch_step) / kernel.plain_runs)
    speeds = []
    for i, kernel in enumerate(kernels):
        arithmetic = kernel.flops * kernel.runs / (gemm * 1e9)
        traffic = (kernel.shared_bytes + kernel.run_bytes * kernel.runs) / (bandwidth * 1e9)
        speeds.append(
            Speed(
                kernel=kernel.name,
                runs=kernel.runs,
                steps_per_second=kernel.runs / ours[i],
                gflops=kernel.flops * kernel.runs / ours[i] / 1e9,
                limit="gemm" if arithmetic >= traffic else "bandwidth",
                fraction=max(arithmetic, traffic) / ours[i],
                numpy_ratio=plain[i] * kernel.runs / ours[i],
                torch_ratio=torch[i] * kernel.runs / ours[i] if loops[i][1] else None,
                gemm_peak_gflops=gemm,
                bandwidth_gbs=bandwidth,
            )
        )
    return speeds


def bench(*, as_json: bool = False, only: str | None = None) -> None:
    """Measure all kernels, or those with `only` in their printed names, and print the table or the records.

    Raises RequestError when no kernel has such a name.
    """
    speeds = measure(chosen(only or ""))
    if as_json:
        print(json.dumps([speed._asdict() for speed in speeds], indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kernel", "runs", "steps/s", "GFLOP/s", "limit", "of the limit", "x NumPy", "x PyTorch"):
        table.add_column(heading, justify="left" if heading in ("kernel", "limit") else "right", no_wrap=True)
    for speed in speeds:
        ratio = "-" if speed.torch_ratio is None else f"{speed.torch_ratio:.1f}"
        table.add_row(
            speed.kernel, str(speed.runs), f"{speed.steps_per_second:,.0f}", f"{speed.gflops:.1f}", speed.limit,
            f"{speed.fraction:.2f}", f"{speed.numpy_ratio:.1f}", ratio,
        )  # fmt: skip
    devices = jax.local_devices()
    terminal = console()
    terminal.print(
        f"peaks: {speeds[0].gemm_peak_gflops:.1f} GFLOP/s in matrix products, {speeds[0].bandwidth_gbs:.1f} GB/s "
        f"read; {len(devices)} x {devices[0].device_kind}, {jnp.zeros(1).dtype}",
        highlight=False,
    )
    terminal.print(table)


def _peak_calls() -> tuple[list[tuple[Callable, float]], Callable, float]:
    """Return matrix products with their flops, and a read of a large array with its bytes."""
    products = []
    for rows, inner, columns, repeats in ((1000, 1275, 64, 30), (1275, 1000, 64, 30), (1536, 1536, 1536, 2)):
        a, b = jnp.ones((rows, inner)), jnp.ones((inner, columns))
        product = jax.jit(jnp.matmul).lower(a, b).compile()

        def call(
            product: Callable = product, a: jax.Array = a, b: jax.Array = b, repeats: int = repeats
        ) -> None:
            for _ in range(repeats):
                # One at a time: products left in flight would run beside whatever is timed next.
                product(a, b).block_until_ready()

        products.append((call, 2.0 * rows * inner * columns * repeats))
    matrix, vector = jnp.ones((8192, 4096)), jnp.ones(4096)
    read = jax.jit(jnp.matmul).lower(matrix, vector).compile()
    return products, lambda: read(matrix, vector), matrix.nbytes


def _torch_step(kernel: Kernel) -> Callable[[], object] | None:
    if kernel.torch is None:
        return None
    try:
        return kernel.torch()
    except ImportError:
        return None


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


def _seconds_a_step(step: Callable[[], object]) -> float:
    step()
    started = time.perf_counter()
    count = 0
    while time.perf_counter() - started < PLAIN_SECONDS:
        step()
        count += 1
    return (time.perf_counter() - started) / count
