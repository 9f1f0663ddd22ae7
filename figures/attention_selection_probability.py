"""Chances of optimal and of locally optimal tokens against the dimension, over the published ones."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, cellwise, computed, proportion
from theory_sim.plotting import COLORS, figure, interval, log_axes, panel_label

DIMS = (2, 3, 4, 5, 10, 20)
PUBLISHED = {
    "global": {
        ("weights", 5, 5): dict(zip(DIMS, (0.18, 0.45, 0.67, 0.79, 0.97, 1.0), strict=True)),
        ("key_query", 5, 5): dict(zip(DIMS, (0.27, 0.57, 0.71, 0.78, 0.96, 1.0), strict=True)),
        ("weights", 20, 5): {5: 0.0, 10: 0.25, 15: 0.68, 20: 0.94},
        ("weights", 5, 20): {5: 0.605, 10: 0.72, 15: 0.855, 20: 0.90},
    },
    "local": {
        ("weights", 5, 5): dict(zip(DIMS, (0.36, 0.82, 0.98, 1, 1, 1), strict=True)),
        ("key_query", 5, 5): dict(zip(DIMS, (0.74, 0.99, 1, 1, 1, 1), strict=True)),
    },
    "all_active": {
        ("weights", 5, 5): {5: 0.01, 10: 0.69, 20: 1.0},
        ("key_query", 5, 5): {10: 0.25, 20: 0.88},
    },
}
"""Read from Figs. 2, 5 and 6 of arXiv:2308.16898."""

LINES = {
    ("weights", 5, 5): (COLORS[0], "$W$, n = T = 5"),
    ("key_query", 5, 5): (COLORS[1], "$KQ^T$, n = T = 5"),
    ("weights", 20, 5): (COLORS[2], "$W$, n = 20"),
    ("weights", 5, 20): (COLORS[3], "$W$, T = 20"),
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
        log_axes(axis, "x")
        axis.set_xticks(DIMS, [str(d) for d in DIMS])
        axis.set(xlabel="dimension $d$", ylabel="share of problems", ylim=(-0.03, 1.05))
    axes[0].plot([], [], "x", color="black", markersize=5, label="published")
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
