"""Regularisation paths beside descent at equal norm: directions, predicted constants, how far apart they are."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed
from theory_sim.plotting import COLORS, band, figure, log_axes, panel_label, theory_line

SPREADS = ((0.0, "equal scores", "-"), (1.0, "as drawn", ":"))
PATHS = (("weights", "$W$", COLORS[0]), ("key_query", "$KQ^T$", COLORS[1]))


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(inputs=0, tokens=0, dim=0, run_seed=0)
    fig, axes = figure(columns=2, panels=(1, 4))
    paths = [(data.sel(parameterization=name), label, color) for name, label, color in PATHS]
    weights, factors = paths[0][0], paths[1][0]
    draw_direction(axes[0], weights, "descent_error", "descent", COLORS[0])
    panel_label(axes[0], "a", "weights")
    axes[0].set_xlabel(r"norm $R = \|W\|_F$")
    draw_direction(axes[1], factors, "frobenius_error", "path, Frobenius", COLORS[1])
    panel_label(axes[1], "b", "key and query")
    axes[1].set_xlabel(r"norm $R = \|KQ^T\|_*$")
    draw_constant(axes[2], paths)
    axes[2].set_xlabel("norm $R$")
    draw_apart(axes[3], weights)
    axes[3].set_xlabel(r"norm $R = \|W\|_F$")
    return fig


def draw_direction(axis, data, other, other_label, color):
    runs, radii = data.sel(score_spread=0.0), data["radius"].to_numpy()
    band(axis, radii, by_seed(runs, other, "radius"), color=COLORS[3], linestyle=":", label=other_label)
    band(axis, radii, by_seed(runs, "error", "radius"), color=color, label="path")
    limit = np.median(by_seed(runs, "residual_limit", "radius")[:, -1])
    late = radii >= 10
    theory_line(axis, radii[late], limit / radii[late], label="$C/R$, from multipliers")
    log_axes(axis)
    axis.set(ylabel="error of the direction", ylim=(1e-4, 10))
    axis.legend(loc="lower left", title="equal scores", title_fontsize=6, fontsize=6)


def draw_constant(axis, paths):
    panel_label(axis, "c", "constants")
    for runs, label, color in paths:
        radii = runs["radius"].to_numpy()
        for spread, spread_label, line in SPREADS:
            one = runs.sel(score_spread=spread)
            limit = by_seed(one, "residual_limit", "radius")[:, -1:]
            share = radii * by_seed(one, "error", "radius") / limit
            band(axis, radii, share, color=color, linestyle=line, label=f"{label}, {spread_label}")
    theory_line(axis, radii[[0, -1]], (1, 1), label="from the multipliers")
    log_axes(axis, "x")
    axis.set(ylabel=r"error $\times\,R\,/\,C$", ylim=(0, 2.2))
    axis.legend(loc="upper left", fontsize=6)


def draw_apart(axis, data):
    panel_label(axis, "d", "path and descent")
    radii = data["radius"].to_numpy()
    for spread, label, line in SPREADS:
        values = by_seed(data.sel(score_spread=spread), "apart", "radius")
        band(axis, radii, values, color=COLORS[0], linestyle=line, label=label)
    late = radii >= 10
    theory_line(axis, radii[late], 1 / radii[late], label="$1/R$")
    log_axes(axis)
    axis.set(ylabel="distance of the directions")
    axis.legend(loc="lower left", fontsize=6)
