"""The staircase of best ranks, the shares learnt, their arrivals against the start, and the least distances."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, time_to
from theory_sim.plotting import COLORS, band, figure, label_line, panel_label, theory_line
from theory_sim.sensing import (
    arrival_step,
    balanced_entry_variance,
    best_rank_residual,
    initial_share,
    learned_curve,
    stage_exponent,
)

SIZES, COUNT, RANK = {"symmetric": (20, 20), "asymmetric": (24, 16)}, {"symmetric": 4, "asymmetric": 16}, 16
NAMES = {"symmetric": r"PSD, $XX^T$", "asymmetric": r"arbitrary, $FG^T$"}


def draw(data: xr.Dataset) -> Figure:
    data = data.squeeze(["ratio", "step_size"]).sel(rank=RANK)
    population = data.sel(measurements="None")
    fig, ((stairs, shares), (times, least)) = figure(columns=2, panels=(2, 2))
    draw_stairs(stairs, population.sel(form="asymmetric"))
    draw_shares(shares, population.sel(form="symmetric").isel(init_scale=0))
    draw_arrivals(times, population)
    draw_least(least, data)
    return fig


def arrivals(data):
    """Return the predicted steps `[scale, direction]`."""
    form, scales = data["form"].item(), np.atleast_1d(data["init_scale"].to_numpy())[:, None]
    rows, cols = SIZES[form]
    variance = scales**2 / rows
    if form == "asymmetric":
        variance = balanced_entry_variance(variance, scales**2 / cols)
    places = np.arange(data.sizes["direction"])
    values = float(data["ratio"]) ** places
    share = initial_share(values, entry_variance=variance, rank=RANK, direction=places)
    return arrival_step(values, float(data["step_size"]), share)


def draw_stairs(axis, data):
    panel_label(axis, "a", "arbitrary matrix, all seen")
    steps, scales = data["step"].to_numpy(), data["init_scale"].to_numpy()
    for color, scale in zip(COLORS, scales[::-2], strict=False):
        samples = by_seed(data.sel(init_scale=scale), "error", "step")
        band(axis, steps, samples, color=color, label=rf"$\alpha = 10^{{{np.log10(scale):.0f}}}$")
    values = float(data["ratio"]) ** np.arange(COUNT["asymmetric"])
    for rank, level in enumerate(best_rank_residual(values)[:5]):
        theory_line(axis, steps[[0, -1]], (level, level), linewidth=0.7)
        label_line(axis, f"best rank {rank}", steps[-1], level, ha="right")
    axis.set(xlabel="step $t$", ylabel=r"error $\|FG^T - M_\star\|_F$", yscale="log", ylim=(0.012, 1.7))
    axis.legend(loc="lower left")


def draw_shares(axis, data):
    scale, steps = float(data["init_scale"]), data["step"].to_numpy()
    panel_label(axis, "b", rf"PSD, $\alpha = 10^{{{np.log10(scale):.0f}}}$")
    learned, times = by_seed(data, "learned", "direction", "step"), arrivals(data)[0]
    for place, color in zip(range(learned.shape[1]), COLORS, strict=False):
        value = float(data["ratio"]) ** place
        band(axis, steps, learned[:, place], color=color, label=rf"$\sigma_{place + 1} = {value:g}$")
        label = "logistic" if place == learned.shape[1] - 1 else None
        theory_line(axis, steps, learned_curve(steps, times[place], float(data["step_size"]), value), label)
    axis.set(xlabel="step $t$", ylabel="learnt share of a direction", ylim=(-0.02, 1.5))
    axis.set_yticks(np.linspace(0, 1, 5))
    axis.legend(loc="upper left", ncols=2)


def draw_arrivals(axis, data):
    panel_label(axis, "c", "arrival at one half")
    steps, scales = data["step"].to_numpy(), data["init_scale"].to_numpy()
    for form, marker, fill in (("symmetric", "o", "full"), ("asymmetric", "s", "none")):
        cell = data.sel(form=form)
        learned = by_seed(cell, "learned", "init_scale", "direction", "step")
        reached = np.minimum(time_to(steps, (1 - learned) / np.maximum(learned, 1e-300), 1.0), steps[-1])
        predicted = arrivals(cell)
        for place, color in zip(range(learned.shape[2]), COLORS, strict=False):
            theory_line(axis, scales, predicted[:, place], linewidth=0.7)
            axis.plot(scales, reached[:, :, place].mean(axis=0), marker, fillstyle=fill, color=color)
        axis.plot([], [], marker, fillstyle=fill, color="0.4", label=NAMES[form])
    theory_line(axis, [], [], r"$\log(1/p_s(0))\, /\, 2\log(1 + \eta\sigma_s)$")
    axis.set(xlabel=r"scale of the start $\alpha$", ylabel="step", xscale="log", ylim=(0, None))
    axis.legend(loc="upper right")


def draw_least(axis, data):
    panel_label(axis, "d", "least distance to the best rank")
    scales = data["init_scale"].to_numpy()
    cells = [("symmetric", "None", "o", "full"), ("asymmetric", "None", "s", "none")]
    cells += [("symmetric", data["measurements"].to_numpy()[-1], "^", "full")]
    for form, count, marker, fill in cells:
        cell = data.sel(form=form, measurements=count)
        least = by_seed(cell, "stage_error", "stage", "init_scale", "step").min(axis=-1).mean(axis=0)
        for color, values in zip(COLORS, least, strict=False):
            axis.plot(scales, values, marker, fillstyle=fill, color=color)
        name = NAMES[form] if count == "None" else f"PSD, m = {count}"
        axis.plot([], [], marker, fillstyle=fill, color="0.4", label=name)
        if (form, count) == ("symmetric", "None"):
            power = stage_exponent(1.0, float(data["ratio"]))
            for values in least:
                theory_line(axis, scales, values[0] * (scales / scales[0]) ** power, linewidth=0.7)
    theory_line(axis, [], [], rf"$\alpha^{{{float(power):.2f}}}$")
    for place, color in zip(range(3), COLORS, strict=False):
        axis.plot([], [], "-", color=color, label=f"rank {place + 1}")
    axis.set(xlabel=r"scale of the start $\alpha$", ylabel="distance", xscale="log", yscale="log")
    axis.set_ylim(1e-6, 1)
    axis.legend(loc="lower right", ncols=2)
