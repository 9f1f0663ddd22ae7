"""The three parts of the error against their bound, down to the floor; the floor; the steps that it takes."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed, time_to
from theory_sim.plotting import COLORS, band, figure, interval, log_axes, panel_label, theory_line
from theory_sim.sensing import fgd_bound, fgd_noise_level, statistical_floor

SHAPE = ("dim", "true_rank", "max_rank", "condition_number", "step_size", "init_scale")


def draw(data: xr.Dataset) -> Figure:
    data = data.squeeze(SHAPE)
    fig, (decay, floor, steps) = figure(columns=2, panels=(1, 3))
    draw_decay(decay, data.sel(rank=4).isel(measurements=-1).sel(step=slice(1, None)))
    draw_floor(floor, data)
    draw_steps(steps, data)
    return fig


def draw_decay(axis, data):
    panel_label(axis, "a", f"k = r + 1, m = {int(data['measurements'])}")
    steps, step_size = data["step"].to_numpy(), float(data["step_size"])
    sizes = [float(data[name]) for name in ("measurements", "dim", "condition_number")]
    for color, noise in zip(COLORS, (0.0, 3e-4, 0.01, 0.1, 0.4), strict=False):
        distance = by_seed(data.sel(noise_std=noise), "distance", "step")
        band(axis, steps, distance, color=color, label=rf"$\sigma$ = {noise:g}")
        if noise <= 3e-4:
            within = np.median(distance, axis=0) <= 0.07 / sizes[2]
            first = int(within.argmax())
            start = float(np.median(distance, axis=0)[first])
            later = steps[first:] - steps[first]
            bound = fgd_bound(later, start, step_size, fgd_noise_level(noise, *sizes))
            name = "bound, with its floor" if noise else "bound, no noise"
            theory_line(axis, steps[first:], bound, name, linestyle=":", color=color)
    theory_line(axis, steps[20:], 1 / (2 * step_size * steps[20:]), r"$1/(2\eta t)$")
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel="$D_t$, spectral norm", ylim=(3e-4, 30))
    axis.legend(loc="upper right", fontsize=5.5, ncols=2)


def draw_floor(axis, data):
    panel_label(axis, "b", "last error over noise")
    counts = data["measurements"].to_numpy()
    fine = np.geomspace(counts[0] * 0.9, counts[-1] * 1.1, 50)
    for rank, marker in ((3, "o"), (4, "s")):
        for color, noise in zip(COLORS, (0.1, 0.4), strict=False):
            cell = data.sel(rank=rank, noise_std=noise).isel(step=[-1])
            error = by_seed(cell, "error", "measurements") / noise
            name = rf"k = {rank}, $\sigma$ = {noise:g}"
            interval(axis, counts, bootstrap(error), color=color, label=name, fmt=marker)
        floor = statistical_floor(1.0, fine, float(data["dim"]), float(data["true_rank"]), rank)
        theory_line(axis, fine, floor, "predicted" if rank == 3 else None)
    log_axes(axis)
    axis.set(xlabel="measurements $m$", ylabel=r"$\|XX^T - M_\star\|_F\,/\,\sigma$")
    axis.set_xticks(counts, [str(count) for count in counts])
    ticks = (0.2, 0.3, 0.4, 0.6, 0.8)
    axis.set_yticks(ticks, [str(tick) for tick in ticks])
    axis.set_ylim(0.1, 1.0)
    axis.legend(loc="lower left", fontsize=5.5)


def draw_steps(axis, data):
    panel_label(axis, "c", "steps to twice the floor")
    noise = data["noise_std"].to_numpy()
    noise = noise[noise > 1e-3]
    steps = data["step"].to_numpy()
    counts = data["measurements"].to_numpy()
    for color, (rank, count) in zip(COLORS, [(3, counts[-1]), *((4, c) for c in counts)], strict=False):
        floor = statistical_floor(noise, float(count), float(data["dim"]), float(data["true_rank"]), rank)
        cell = data.sel(rank=rank, noise_std=noise, measurements=count)
        errors = by_seed(cell, "error", "noise_std", "step")
        reached = np.minimum(time_to(steps, errors / floor[:, None], 2.0), steps[-1])
        interval(axis, noise, bootstrap(reached), color=color, label=f"k = {rank}, m = {count}")
    theory_line(axis, noise, reached.mean(axis=0)[0] * noise[0] / noise, r"$1/\sigma$")
    log_axes(axis)
    axis.set(xlabel=r"noise $\sigma$", ylabel="step", ylim=(8, 2e3))
    axis.legend(loc="upper right", fontsize=5.5)
