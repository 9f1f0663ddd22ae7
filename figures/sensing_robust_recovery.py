"""Error against step, the floor against the scale of the start, and the two losses on the same data.

The start is spectral in (a) and (c), where r' = 12 leaves 7 columns or so; in (b) it is both.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed, computed
from theory_sim.plotting import COLORS, band, figure, interval, label_line, log_axes, panel_label, theory_line
from theory_sim.sensing import residual_floor, schedule_floor, statistical_floor


def draw(data: xr.Dataset) -> Figure:
    fixed = ["dim", "true_rank", "max_rank", "condition_number", "step_size", "decay"]
    data = data.squeeze([*fixed, "outlier_fraction", "outlier_std"])
    fig, (curves, floors, losses) = figure(columns=2, panels=(1, 3))
    spectral = data.sel(measurements=data["measurements"].to_numpy()[-1], start="spectral")
    many = spectral.sel(samples=spectral["samples"].to_numpy()[-1])
    draw_curves(curves, many.sel(loss="l1"))
    draw_floors(floors, data.sel(loss="l1").isel(step=-1))
    draw_losses(losses, many.sel(init_scale=1e-3))
    return fig


def draw_schedule(axis, data):
    steps = data["step"].to_numpy()
    line = schedule_floor(steps, float(data["step_size"]), float(data["decay"]))
    theory_line(axis, steps, line)
    label_line(axis, r"$\eta_0\rho^t$", steps[20], line[20], ha="right", va="top", xytext=(-2, -2))


def draw_curves(axis, data):
    panel_label(axis, "a", f"spectral start, p = {float(data['outlier_fraction']):g}")
    for color, (rank, scale) in zip(
        COLORS, ((2, 1e-4), (12, 1e-4), (12, 1e-2), (2, 1.0), (12, 1.0)), strict=False
    ):
        cell = data.sel(rank=rank, init_scale=scale)
        label = rf"$r'$ = {rank}, $\alpha = 10^{{{np.log10(scale):.0f}}}$"
        band(axis, cell["step"], by_seed(cell, "error", "step"), color=color, label=label)
    draw_schedule(axis, data)
    log_axes(axis, "y")
    axis.set(xlabel="step $t$", ylabel=r"error $\|UU^T - M_\star\|_F$", ylim=(1e-11, 1e4))
    axis.legend(loc="upper right", fontsize=5.5)


def draw_floors(axis, data):
    panel_label(axis, "b", "open: orthogonal start")
    scales, gaussian = data["init_scale"].to_numpy(), data["measurements"].to_numpy()[-1]
    cells = {f"m = {count}": data.sel(measurements=gaussian, samples=count, start="spectral")
             for count in data["samples"].to_numpy()[1:]}  # fmt: skip
    last = data.sel(samples=data["samples"].to_numpy()[-1], start="orthogonal")
    cells[f"m = {int(last['samples'])}, open"] = last.sel(measurements=gaussian)
    cells["population, open"] = last.sel(measurements="None")
    for color, (label, cell) in zip(COLORS, cells.items(), strict=False):
        for rank, marker, shift in ((4, "s", 1.12), (12, "o", 1 / 1.12)):
            kept = computed(cell.sel(rank=[rank]).expand_dims("start"))
            errors = by_seed(kept, "error", "init_scale")
            interval(
                axis, shift * kept["init_scale"].to_numpy(), bootstrap(errors, np.median), color=color,
                label=label if rank == 12 else None, fmt=marker,
                fillstyle="none" if "open" in label else "full",
            )  # fmt: skip
    line = np.array([scales[0], 1e-2])
    for rank, style, shape in ((4, ":", "squares"), (12, "-", "circles")):
        floor = residual_floor(line, rank, int(data["true_rank"]))
        theory_line(
            axis,
            line,
            floor,
            linestyle=style,
            label=rf"$\alpha^2\sqrt{{{rank - int(data['true_rank'])}}}$, $r'$ = {rank} ({shape})",
        )
    log_axes(axis)
    axis.set(xlabel=r"scale of the start $\alpha$", ylabel="last error", xlim=(2e-5, 3e2))
    axis.legend(loc="lower right", fontsize=5.5)


def draw_losses(axis, data):
    panel_label(axis, "c", r"two losses, $\alpha = 10^{-3}$")
    for color, loss in zip(COLORS, ("l1", "l2"), strict=False):
        for rank, line in ((2, "-"), (12, ":")):
            errors = by_seed(data.sel(loss=loss, rank=rank), "error", "step")
            name = rf"$\ell_{loss[1]}$, $r'$ = {rank}"
            band(axis, data["step"], errors, color=color, linestyle=line, label=name)
    noise = float(data["outlier_std"]) * np.sqrt(float(data["outlier_fraction"]))
    floor = statistical_floor(noise, data["samples"], data["dim"], data["true_rank"], data["true_rank"])
    theory_line(axis, data["step"][[0, -1]], np.full(2, float(floor)))
    label_line(
        axis, "least squares", float(data["step"][-1]), float(floor), ha="right", va="top", xytext=(0, -2)
    )
    log_axes(axis, "y")
    axis.set(xlabel="step $t$", ylabel="error", ylim=(1e-11, 5))
    axis.legend(loc="lower left")
