"""Share of starts that do not end at the best token, by the norm of the start."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, cellwise, proportion
from theory_sim.attention import local_share
from theory_sim.plotting import COLORS, figure, interval, log_axes, panel_label, theory_line

NAMES = {0.0: ("third score 0", COLORS[1]), 0.9: ("third score 0.9, as the second", COLORS[0])}


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(step_size=0)
    fig, axis = figure(columns=1)
    panel_label(axis, "a", "scores 1, 0.9 and a third")
    radii = data["radius"].to_numpy()
    for third, (name, color) in NAMES.items():
        share = cellwise(lambda cell: proportion(1 - by_seed(cell, "global")))
        interval(axis, radii, share(data.sel(third_score=third)), color=color, label=name, linestyle="-")
    theory_line(axis, radii[[0, -1]], [local_share()] * 2, label="far starts, derived")
    theory_line(axis, radii[[0, -1]], [0, 0])
    log_axes(axis, "x")
    axis.set(xlabel=r"norm of the start $\|p(0)\|$", ylabel="share not at the best token", ylim=(-0.02, 0.62))
    axis.legend(loc="upper left")
    return fig
