"""Chances of optimal and of locally optimal tokens against the dimension, over the published ones."""

from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, cellwise, computed, proportion
from theory_sim.plotting import COLORS, figure, interval, log_axes, panel_label
from theory_sim.study import load_module

STUDY = load_module(Path(__file__).parents[1] / "sweeps" / Path(__file__).name)
DIMS, PUBLISHED = STUDY.DIMS, STUDY.PUBLISHED

LINES = {
    STUDY.SIZE: (COLORS[0], "$W$, n = T = 5"),
    STUDY.FACTORS: (COLORS[1], "$KQ^T$, n = T = 5"),
    STUDY.SEQUENCES: (COLORS[2], "$W$, n = 20"),
    STUDY.LONG: (COLORS[3], "$W$, T = 20"),
}


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(max_dim=0, step_size=0)
    fig, axes = figure(columns=2, panels=(1, 3), height=2.4)
    for axis, letter, title, name in zip(
        axes,
        "abc",
        ("optimal tokens", "locally optimal tokens", "support tokens alone"),
        ("global", "local", "all_active"),
        strict=True,
    ):
        panel_label(axis, letter, title)
        shown = LINES if name == "global" else list(LINES)[:2]
        for line in shown:
            draw_line(axis, data, name, line)
            if name == "local":
                draw_saturated(axis, data, line)
        log_axes(axis, "x")
        axis.set_xticks(DIMS, [str(d) for d in DIMS])
        axis.set(xlabel="dimension $d$", ylabel="share of problems", ylim=(-0.03, 1.05))
    axes[0].plot([], [], "x", color="black", markersize=5, label="published")
    axes[0].plot([], [], ":", color="black", label="saturated")
    axes[1].legend(*axes[0].get_legend_handles_labels(), loc="lower right")
    return fig


def draw_line(axis, data, name, line):
    color, label = LINES[line]
    axes = dict(zip(("parameterization", "inputs", "tokens"), line, strict=True))
    points = PUBLISHED[name].get(line, {})
    axis.plot(list(points), list(points.values()), "x", color=color, markersize=5, zorder=5)
    if all(value in data[axis_name] for axis_name, value in axes.items()):
        runs = computed(data.sel({axis_name: [value] for axis_name, value in axes.items()}))
        share = cellwise(lambda cell: proportion(by_seed(cell, name)))(runs)
        interval(axis, runs["dim"].to_numpy(), share, color=color, label=label, linestyle="-")


def draw_saturated(axis, data, line):
    """Draw how many runs attend to single tokens at the end: the others have not selected any yet."""
    axes = dict(zip(("parameterization", "inputs", "tokens"), line, strict=True))
    if all(value in data[name] for name, value in axes.items()):
        runs = computed(data.sel({name: [value] for name, value in axes.items()}))
        share = cellwise(lambda cell: proportion(by_seed(cell, "saturated")))(runs)
        axis.plot(runs["dim"].to_numpy(), share.value, ":", color=LINES[line][0])
