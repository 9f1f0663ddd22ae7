"""Adapters: what those of attention and of values lose against their rank, training, spectra, and directions."""

import numpy as np

from theory_sim import bootstrap, by_seed
from theory_sim.attention import key_angle, mean_token_angle
from theory_sim.plotting import COLORS, band, figure, interval, label_line, log_axes, panel_label, theory_line

PATTERNS, FEW, RELEVANT = 16, 0.11, 0.6


def draw(data):
    data = data.isel(confusion_fraction=0, step_size=0)
    data = data.isel(max_width=0) if "max_width" in data.dims else data
    attention = data.sel(relevant_fraction=FEW, token_noise=0.2, value_adapters=0)
    values = data.sel(relevant_fraction=RELEVANT, token_noise=0.1, value_adapters=1, score_scale=1.0)
    fig, ((loss, time, spectrum), (directions, loss_of_values, angle)) = figure(panels=(2, 3))
    plain = attention.sel(adapter_scale=1.0, score_scale=1.0)
    fewest, most = int(data["classes"][0]), int(data["classes"][-1])
    draw_loss(loss, plain, [fewest, most], [0, 1, 2, 4])
    draw_levels(loss, attention.sel(classes=fewest).isel(step=-1))
    panel_label(loss, "a", r"adapters of $W_Q$, $W_K$")
    draw_time(time, plain.sel(classes=fewest), fewest)
    draw_spectrum(spectrum, plain.sel(classes=fewest, matrix="query").isel(step=-1), fewest)
    draw_key_angle(directions, plain.sel(matrix="key", direction=1), [fewest, most])
    draw_loss(loss_of_values, values.sel(adapter_scale=1.0), data["classes"].to_numpy(), [0, 1, 2, 3, 4])
    panel_label(loss_of_values, "e", r"adapters of $W_V$")
    draw_value_angle(angle, values.sel(classes=most, matrix="value"), most)
    return fig


def draw_loss(axis, data, classes, ranks):
    adapted = ranks[1:]
    # The last place is that of full training, whose rank the axis names in words.
    places, full = np.arange(len(adapted)), len(adapted) + 0.3
    for color, count in zip(COLORS, classes, strict=False):
        cell = data.sel(classes=count).isel(step=-1)
        for rank, place in zip([*adapted, 0], [*places, full], strict=True):
            runs = by_seed(cell.sel(adapter_rank=rank), "test_loss")[:, None]
            label = f"K = {count}" if rank == adapted[0] else None
            interval(axis, [place], bootstrap(runs), color=color, label=label)
        if count in adapted:
            # Short of the legend above and of the note below.
            axis.axvline(
                adapted.index(count),
                0.16,
                0.68,
                color=color,
                linewidth=0.8,
                linestyle=(0, (4, 1.6)),
                zorder=0,
            )
    axis.set_xticks([*places, full], [*map(str, adapted), "full"])
    log_axes(axis, "y")
    axis.set(xlabel="rank q of the adapters", ylabel="test loss, last step", ylim=(1e-5, 2))
    axis.legend(title="dashed: q = K", title_fontsize=6.5, loc="upper right")


def draw_levels(axis, data):
    """Draw the loss of uniform attention, and of attention that stays at its start."""
    uniform = by_seed(data.sel(score_scale=0.0, adapter_scale=1.0, adapter_rank=0), "test_loss").mean()
    still = by_seed(data.sel(score_scale=1.0, adapter_scale=0.0, adapter_rank=2), "test_loss").mean()
    for level, style in ((uniform, ":"), (still, "-.")):
        axis.axhline(level, color=COLORS[0], linestyle=style, linewidth=1)
    axis.text(0, 4e-3, "lines: K = 2, attention uniform (dotted)\nor at its start (dash-dotted)", fontsize=6)
    axis.set(ylim=(3e-3, 5))


def draw_time(axis, data, count):
    for color, rank in zip(COLORS, [1, 2, 4, 0], strict=False):
        runs = by_seed(data.sel(adapter_rank=rank), "test_loss", "step")
        label = f"q = {rank}" if rank else "full"
        band(axis, data.step[1:], runs[:, 1:], color=color, label=label, linestyle="-" if rank else ":")
    log_axes(axis)
    axis.set(xlabel="step", ylabel="test loss")
    axis.legend()
    panel_label(axis, "b", rf"training, $W_Q$, $W_K$, K = {count}")


def draw_spectrum(axis, data, count):
    for color, rank in zip(COLORS, [1, 2, 4, 0], strict=False):
        values = by_seed(data.sel(adapter_rank=rank), "singular_values", "singular_value")
        share = values / values[:, :1]
        shown = slice(0, rank or None)
        label = f"q = {rank}" if rank else "full"
        band(
            axis,
            data.singular_value[shown],
            share[:, shown],
            color=color,
            label=label,
            linestyle="-" if rank else ":",
            marker="o",
        )
    axis.axvline(count + 0.5, color="black", linestyle=(0, (4, 1.6)), linewidth=1)
    label_line(axis, "K", count + 0.5, 0.5)
    log_axes(axis, "y")
    axis.set(xlabel="singular value", ylabel="relative to the first", ylim=(1e-2, 2))
    axis.legend()
    panel_label(axis, "c", rf"$\Delta W_Q$, K = {count}")


def draw_key_angle(axis, data, classes):
    for color, count in zip(COLORS, classes, strict=False):
        for rank, style in ((0, ":"), (count, "-")):
            runs = by_seed(data.sel(classes=count, adapter_rank=rank), "angle", "step")[:, 1:]
            label = f"K = {count}, q = {rank}" if rank else f"K = {count}, full"
            band(axis, data.step[1:], runs, color=color, linestyle=style, label=label)
        predicted = float(key_angle(PATTERNS, FEW, 0.0, count))
        theory_line(axis, data.step[[1, -1]], [predicted, predicted], color=color)
    label_line(axis, "dashed: derived, early", float(data.step[1]), 8, xytext=(2, 0))
    finish_angles(axis)
    panel_label(axis, "d", r"leading K directions of $\Delta W_K$")


def draw_value_angle(axis, data, count):
    lines = [(count, 1.0, f"q = {count}, A(0) at 1"), (count, 0.1, f"q = {count}, A(0) at 0.1")]
    for color, (rank, scale, label) in zip(COLORS, [*lines, (0, 1.0, "full")], strict=False):
        cell = data.sel(adapter_rank=rank, adapter_scale=scale, direction=1)
        runs = by_seed(cell, "angle", "step")[:, 1:]
        band(axis, data.step[1:], runs, color=color, label=label, linestyle="-" if rank else ":")
    predicted = float(mean_token_angle(PATTERNS, RELEVANT, 0.0, count))
    theory_line(axis, data.step[[1, -1]], [predicted, predicted])
    label_line(axis, "derived, of full training", float(data.step[1]), predicted, xytext=(2, -9))
    finish_angles(axis)
    panel_label(axis, "f", rf"leading {count} directions of $\Delta W_V$")


def finish_angles(axis):
    log_axes(axis, "x")
    axis.set(xlabel="step", ylabel="angle to span($\\mu_1 .. \\mu_K$), degrees", ylim=(0, 135))
    axis.set_yticks([0, 30, 60, 90])
    axis.legend(ncols=2, loc="upper right", handlelength=1.4, columnspacing=1.0)
