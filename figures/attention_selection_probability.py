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
    STUDY.TEN: (COLORS[2], "$W$, n = 10"),
    STUDY.SEQUENCES: (COLORS[4], "$W$, n = 20"),
    STUDY.LONGER: (COLORS[3], "$W$, T = 10"),
    STUDY.LONG: (COLORS[5], "$W$, T = 20"),
    STUDY.SHORT: (COLORS[6], "$W$, T = 3"),
}
SHOWN = {
    "global": [line for line in LINES if line != STUDY.SHORT],
    "local": [STUDY.SIZE, STUDY.FACTORS],
    "near_support": [STUDY.SIZE, STUDY.FACTORS],
    "all_support": [STUDY.SIZE, STUDY.SHORT],
}
"""The lines of each conclusion; of three tokens the exact count alone, which nothing published is compared with."""


def draw(data: xr.Dataset) -> Figure:
    # Of each cell one of the array sizes is computed, the others hold less than any number.
    data = data.sel(step_size=data["step_size"][-1], init_scale=1.0).max("max_dim", keep_attrs=True)
    fig, axes = figure(columns=2, panels=(1, 3), height=2.6)
    for axis, letter, title, name in zip(
        axes,
        "abc",
        ("optimal tokens", "locally optimal tokens", "support tokens alone (B.1)"),
        ("global", "local", "near_support"),
        strict=True,
    ):
        panel_label(axis, letter, title)
        for line in SHOWN[name]:
            draw_line(axis, data, name, line)
        log_axes(axis, "x")
        axis.set_xticks(DIMS, [str(d) for d in DIMS])
        axis.set(xlabel="dimension $d$", ylabel="share of problems", ylim=(-0.03, 1.05))
    for line in SHOWN["local"]:
        draw_saturated(axes[1], data, line)
    for line in SHOWN["all_support"]:
        draw_line(axes[2], data, "all_support", line, style="--")
    axes[0].plot([], [], "x", color="black", markersize=5, label="published")
    axes[0].plot([], [], ":", color="black", label="attention on single tokens")
    axes[1].legend(*axes[0].get_legend_handles_labels(), loc="lower right", fontsize=6)
    axes[2].plot([], [], "-", color="black", label="mean margin below 1.1")
    axes[2].plot([], [], "--", color="black", label="all margins 1")
    axes[2].plot([], [], "--", color=LINES[STUDY.SHORT][0], label="T = 3")
    axes[2].legend(loc="upper left")
    return fig


def draw_line(axis, data, name, line, style="-"):
    """Draw one size's shares with their intervals, and the published ones as crosses."""
    color, label = LINES[line]
    axes = dict(zip(("parameterization", "inputs", "tokens"), line, strict=True))
    points = PUBLISHED.get(name, {}).get(line, {})
    axis.plot(list(points), list(points.values()), "x", color=color, markersize=5, zorder=5)
    if all(value in data[axis_name] for axis_name, value in axes.items()):
        runs = computed(data.sel({axis_name: [value] for axis_name, value in axes.items()}))
        share = cellwise(lambda cell: proportion(by_seed(cell, name)))(runs)
        shown = label if name == "global" else None
        interval(axis, runs["dim"].to_numpy(), share, color=color, label=shown, linestyle=style)


def draw_saturated(axis, data, line):
    """Draw how many runs attend to single tokens at the end: the others have not selected any yet."""
    axes = dict(zip(("parameterization", "inputs", "tokens"), line, strict=True))
    if all(value in data[name] for name, value in axes.items()):
        runs = computed(data.sel({name: [value] for name, value in axes.items()}))
        share = cellwise(lambda cell: proportion(by_seed(cell, "saturated")))(runs)
        axis.plot(runs["dim"].to_numpy(), share.value, ":", color=LINES[line][0])
