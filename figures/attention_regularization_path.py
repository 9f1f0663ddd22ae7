"""The regularisation path beside descent at equal norm: direction, predicted constant, how far apart they are."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed
from theory_sim.plotting import COLORS, band, figure, log_axes, panel_label, theory_line

SPREADS = ((0.0, "equal scores", COLORS[0]), (1.0, "as drawn", COLORS[1]))


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(inputs=0, tokens=0, dim=0, run_seed=0)
    fig, axes = figure(columns=2, panels=(1, 3))
    radii = data["radius"].to_numpy()
    draw_direction(axes[0], data, radii)
    draw_constant(axes[1], data, radii)
    draw_apart(axes[2], data, radii)
    for axis in axes:
        axis.set_xlabel(r"norm $R = \|W\|_F$")
    return fig


def draw_direction(axis, data, radii):
    panel_label(axis, "a", "direction")
    runs = data.sel(score_spread=0.0)
    for name, label, color, line in (
        ("error", "path", COLORS[0], "-"),
        ("descent_error", "descent", COLORS[3], ":"),
    ):
        band(axis, radii, by_seed(runs, name, "radius"), color=color, linestyle=line, label=label)
    limit = np.median(by_seed(runs, "residual_limit", "radius")[:, -1])
    late = radii >= 10
    theory_line(axis, radii[late], limit / radii[late], label="$C/R$, from the multipliers")
    log_axes(axis)
    axis.set(ylabel=r"$\|W/\|W\| - W^{mm}/\|W^{mm}\|\|_F$", ylim=(1e-4, 10))
    axis.legend(loc="lower left", title="equal scores", title_fontsize=6, fontsize=6)


def draw_constant(axis, data, radii):
    panel_label(axis, "b", "constant of the path")
    for spread, label, color in SPREADS:
        runs = data.sel(score_spread=spread)
        limit = by_seed(runs, "residual_limit", "radius")[:, -1:]
        band(axis, radii, radii * by_seed(runs, "error", "radius") / limit, color=color, label=label)
    theory_line(axis, radii[[0, -1]], (1, 1), label="from the multipliers")
    log_axes(axis, "x")
    axis.set(ylabel=r"error $\times\,R\,/\,C$", ylim=(0, 1.8))
    axis.legend(loc="upper left", fontsize=6)


def draw_apart(axis, data, radii):
    panel_label(axis, "c", "path and descent")
    for spread, label, color in SPREADS:
        band(axis, radii, by_seed(data.sel(score_spread=spread), "apart", "radius"), color=color, label=label)
    late = radii >= 10
    theory_line(axis, radii[late], 1 / radii[late], label="$1/R$")
    log_axes(axis)
    axis.set(ylabel="distance of the directions")
    axis.legend(loc="lower left", fontsize=6)
