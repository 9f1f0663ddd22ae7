"""Least error and iterations against the scale of the start for each damping; what the rank does to either method."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed, computed, decay, time_to
from theory_sim.plotting import COLORS, band, figure, interval, log_axes, panel_label, theory_line
from theory_sim.sensing import iterations_per_log_scale, prec_gd_rate, symmetric_small_start_error

FIXED = ("dim", "true_rank", "max_rank", "condition_number")
RANK, STEP_SIZE, SCALE, LARGE_START = 5, 0.3, 1e-6, 1e-2
LATE = (1e-5, 1e-11)


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(dict.fromkeys(FIXED, 0))
    scaled = data.sel(algorithm="ScaledGD(lambda)", rank=RANK, step_size=STEP_SIZE)
    small = scaled.sel(init_scale=slice(None, 1e-4))
    fig, ((least, times), (rates, ranks)) = figure(columns=2, panels=(2, 2))
    draw_least(least, small)
    draw_times(times, small.sel(oversampling="None"))
    usual = data.sel(step_size=STEP_SIZE).isel(damping=1)
    draw_rates(rates, usual.sel(oversampling="None", init_scale=LARGE_START))
    draw_ranks(ranks, usual.sel(oversampling="10", init_scale=SCALE))
    return fig


def name(cell):
    """Return the damping in units of the last singular value."""
    return rf"$\lambda = {float(cell['damping']) * float(cell['condition_number']):.2g}\,\sigma_{{\min}}^2$"


def draw_least(axis, data):
    panel_label(axis, "a", "solid $m = 10nr$, dotted population")
    for color, damping in zip(COLORS, data["damping"].to_numpy(), strict=False):
        for operator, line in (("10", "-"), ("None", ":")):
            cell = computed(data.sel(damping=damping, oversampling=operator).expand_dims("damping")).isel(
                damping=0
            )
            errors = by_seed(cell, "error", "init_scale", "step")
            # Where the error still falls at the last record, its least value is the budget's and not the method's.
            ended = np.median(errors[..., -1] / errors[..., -6], axis=0) > 0.5
            label = name(cell) if operator == "10" else None
            scales, least = cell["init_scale"].to_numpy(), errors.min(axis=-1)
            if ended.any():
                band(
                    axis, scales[ended], least[:, ended], color=color, label=label, linestyle=line, marker="o"
                )
            falling = scales[~ended], np.median(least, axis=0)[~ended]
            axis.plot(*falling, color=color, linestyle="none", marker="o", fillstyle="none")
    axis.plot([], [], color="0.3", linestyle="none", marker="o", fillstyle="none", label="still falling")
    scales = np.geomspace(1e-10, 1e-4, 3)
    usual = data.isel(damping=1).sel(oversampling="10", init_scale=SCALE)
    through = np.median(by_seed(usual, "error", "step").min(axis=-1))
    theory_line(axis, scales, through * scales / SCALE, label="exponent 1, through a point")
    tail = symmetric_small_start_error(scales, float(data["dim"]), RANK, float(data["true_rank"]))
    theory_line(axis, scales[1:], tail[1:], label="tail of the start", linestyle="-.")
    theory_line(axis, scales, scales ** (1 / 3), label=r"bound $\alpha^{1/3}$", linewidth=0.6)
    log_axes(axis)
    axis.set(
        xlabel=r"scale of the start $\alpha$",
        ylabel=f"least error in {int(data['step'][-1])} steps",
        ylim=(1e-15, 1e7),
    )
    axis.legend(loc="upper left", ncols=2)


def draw_times(axis, data):
    panel_label(axis, "b", "population")
    smallest = 1 / float(data["condition_number"])
    for color, damping in zip(COLORS, data["damping"].to_numpy(), strict=False):
        cell = computed(data.sel(damping=damping).expand_dims("damping")).isel(damping=0)
        times = time_to(cell["step"].to_numpy(), by_seed(cell, "error", "init_scale", "step"), smallest / 2)
        scales = cell["init_scale"].to_numpy()
        band(axis, scales, times, color=color, label=name(cell), marker="o")
        slope = iterations_per_log_scale(smallest, STEP_SIZE, damping)
        label = r"slope $1/\log(1 + \eta\sigma_{\min}^2/\lambda)$" if damping == data["damping"][-1] else None
        theory_line(axis, scales, np.median(times[:, 0]) - slope * np.log(scales / scales[0]), label=label)
    log_axes(axis, "x")
    axis.set(
        xlabel=r"scale of the start $\alpha$",
        ylabel=r"iterations to error $\sigma_{\min}^2/2$",
        ylim=(0, 290),
    )
    axis.legend(loc="upper right")


def draw_rates(axis, data):
    panel_label(axis, "c", rf"population, $\alpha$ = {LARGE_START:g}: late rate")
    excess = data["rank"].to_numpy() - int(data["true_rank"])
    steps = data["step"].to_numpy()
    for color, algorithm in zip(COLORS, data["algorithm"].to_numpy(), strict=False):
        errors = by_seed(data.sel(algorithm=algorithm), "error", "rank", "step")
        rates = np.nan_to_num(decay(steps, errors, between=LATE))
        label = algorithm.replace("lambda", r"$\lambda$")
        interval(axis, excess, bootstrap(rates), color=color, label=label)
    fine = np.linspace(1, excess[-1], 200)
    tail, across = prec_gd_rate(STEP_SIZE, fine, 0), np.log1p(-STEP_SIZE)
    theory_line(axis, fine, -tail, label="predicted for PrecGD")
    theory_line(axis, fine, np.full_like(fine, -across), label=r"$-\log(1 - \eta)$", linestyle=":")
    axis.set_xticks(excess, [str(value) for value in excess])
    axis.set(xlabel="excess columns $k - r$", ylabel="fall of the log error a step", ylim=(-0.02, 0.45))
    axis.legend(loc="center left")


def draw_ranks(axis, data):
    panel_label(axis, "d", f"$m = 10nr$, ScaledGD, step {int(data['step'][-1])}")
    excess = data["rank"].to_numpy() - int(data["true_rank"])
    cell = data.sel(algorithm="ScaledGD(lambda)")
    errors = by_seed(cell.isel(step=-1), "error", "rank")
    band(axis, excess, errors, color=COLORS[0], marker="o")
    first = np.median(errors[:, 0])
    theory_line(axis, excess, first * excess, label="like the excess $k - r$")
    theory_line(axis, excess, first * np.sqrt(excess), label="like its root", linestyle=":")
    log_axes(axis)
    axis.set_xticks(excess, [str(value) for value in excess])
    axis.minorticks_off()
    axis.set(xlabel="excess columns $k - r$", ylabel="error")
    axis.legend(loc="upper left")
