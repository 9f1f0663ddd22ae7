"""Adapters: the loss against their rank, the losses in time, spectra of the updates, and their directions."""

import numpy as np

from theory_sim import bootstrap, by_seed
from theory_sim.attention import mean_token_angle
from theory_sim.plotting import COLORS, band, figure, interval, label_line, log_axes, panel_label, theory_line

PATTERNS = 16


def draw(data):
    data = data.isel(relevant_fraction=0, confusion_fraction=0, step_size=0)
    data = data.isel(max_width=0) if "max_width" in data.dims else data
    fig, ((loss, time), (spectrum, angle)) = figure(panels=(2, 2))
    directions, data = data.sel(matrix="value"), data.sel(adapter_scale=1.0)
    draw_loss(loss, data)
    most = int(data["classes"][-1])
    draw_time(time, data.sel(classes=most), most)
    draw_spectrum(spectrum, data.sel(classes=most, matrix="value").isel(step=-1), most)
    draw_angle(angle, directions.sel(classes=most), most)
    return fig


def draw_loss(axis, data):
    ranks = [int(rank) for rank in data.adapter_rank.to_numpy() if rank > 0]
    # The last place is that of full training, whose rank the axis names in words.
    places, full = np.arange(len(ranks)), len(ranks) + 0.3
    for color, count in zip(COLORS, data["classes"].to_numpy(), strict=False):
        cell = data.sel(classes=count).isel(step=-1)
        runs = by_seed(cell.sel(adapter_rank=ranks), "test_loss", "adapter_rank")
        interval(axis, places, bootstrap(runs), color=color, label=f"K = {count}", fmt="o-")
        whole = bootstrap(by_seed(cell.sel(adapter_rank=0), "test_loss")[:, None])
        interval(axis, [full], whole, color=color)
        if count in ranks:
            axis.axvline(ranks.index(count), color=color, linewidth=0.8, linestyle=(0, (4, 1.6)), zorder=0)
    axis.set_xticks([*places, full], [*map(str, ranks), "full"])
    log_axes(axis, "y")
    axis.set(xlabel="rank q of the adapters", ylabel="test loss, last step", ylim=(1e-5, 2))
    axis.legend(title="dashed: q = K")
    axis.get_legend().get_title().set_fontsize(6.5)
    panel_label(axis, "a", "what an adapter loses")


def draw_time(axis, data, most):
    for color, rank in zip(COLORS, [*data.adapter_rank.to_numpy()[1:], 0], strict=False):
        runs = by_seed(data.sel(adapter_rank=rank), "test_loss", "step")
        label = f"q = {int(rank)}" if rank else "full"
        band(axis, data.step[1:], runs[:, 1:], color=color, label=label, linestyle="-" if rank else ":")
    log_axes(axis)
    axis.set(xlabel="step", ylabel="test loss")
    axis.legend()
    panel_label(axis, "b", f"training, K = {most}")


def draw_spectrum(axis, data, most):
    for color, rank in zip(COLORS, [*data.adapter_rank.to_numpy()[1:], 0], strict=False):
        values = by_seed(data.sel(adapter_rank=rank), "singular_values", "singular_value")
        share = values / values[:, :1]
        shown = slice(0, int(rank) if rank else None)
        label = f"q = {int(rank)}" if rank else "full"
        line = "-" if rank else ":"
        band(
            axis,
            data.singular_value[shown],
            share[:, shown],
            color=color,
            label=label,
            linestyle=line,
            marker="o",
        )
    axis.axvline(most + 0.5, color="black", linestyle=(0, (4, 1.6)), linewidth=1)
    label_line(axis, "K", most + 0.5, 0.5)
    log_axes(axis, "y")
    axis.set(xlabel="singular value", ylabel="relative to the first", ylim=(1e-3, 2))
    axis.legend(loc="lower left")
    panel_label(axis, "c", rf"$\Delta W_V$, K = {most}")


def draw_angle(axis, data, most):
    lines = [(most, scale, f"q = {most}, A(0) at {scale:g}") for scale in data.adapter_scale.to_numpy()]
    largest = int(data.adapter_rank.max())
    lines += [
        (largest, scale, f"q = {largest}, A(0) at {scale:g}") for scale in data.adapter_scale.to_numpy()
    ]
    for color, (rank, scale, label) in zip(COLORS, [*lines, (0, 1.0, "full")], strict=False):
        cell = data.sel(adapter_rank=rank, adapter_scale=scale, direction=1)
        runs = by_seed(cell, "angle", "step")[:, 1:]
        band(axis, data.step[1:], runs, color=color, label=label, linestyle="-" if rank else ":")
    predicted = float(mean_token_angle(PATTERNS, float(data["relevant_fraction"]), 0.0, most))
    theory_line(axis, data.step[[1, -1]], [predicted, predicted])
    label_line(axis, "derived, of full training", float(data.step[1]), predicted, xytext=(2, -9))
    log_axes(axis, "x")
    axis.set(xlabel="step", ylabel="angle to span($\\mu_1 .. \\mu_K$), degrees", ylim=(0, 140))
    axis.set_yticks([0, 30, 60, 90])
    axis.legend(ncols=2, loc="upper right")
    panel_label(axis, "d", rf"leading K directions of $\Delta W_V$, K = {most}")
