"""Strength of the sign field against the norm of the matrix: outliers, and Gaussian noise."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed
from theory_sim.plotting import COLORS, figure, interval, label_line, log_axes, panel_label, theory_line
from theory_sim.sensing import sign_field_strength

SHAPE = ("dim", "max_rank", "measurements", "outlier_std", "step")


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(dict.fromkeys(SHAPE, 0)).isel(rank=0)
    fig, (outliers, noise) = figure(columns=2, panels=(1, 2))
    panel_label(outliers, "a", "outliers of deviation 1")
    draw_curves(outliers, data.sel(noise_std=0), "outlier_fraction", "p")
    panel_label(noise, "b", "Gaussian noise")
    draw_curves(noise, data.sel(outlier_fraction=0), "noise_std", r"\nu")
    return fig


def draw_curves(axis, data, name, letter):
    norms = np.geomspace(0.02, 5, 100)
    for color, value in zip(COLORS, data[name].to_numpy(), strict=False):
        cell = data.sel({name: value})
        cell = cell.isel(norm=np.flatnonzero(cell["complete"].all("problem_seed").to_numpy().ravel()))
        points = bootstrap(by_seed(cell, "strength", "norm"))
        interval(axis, cell["norm"], points, color=color, label=f"${letter}$ = {value:g}", zorder=5)
        outliers = (value, float(data["outlier_std"]), 0) if name == "outlier_fraction" else (0, 0, value)
        theory_line(axis, norms, sign_field_strength(norms, *outliers), color=color, linewidth=0.8)
    log_axes(axis, "x")
    label_line(axis, r"$\sqrt{2/\pi}$", 0.02, np.sqrt(2 / np.pi), ha="left", va="bottom")
    axis.set(xlabel=r"norm $\|X\|_F$", ylabel=r"strength $\phi$ of $Q$", ylim=(0, 0.95), xlim=(0.018, 5.5))
    axis.legend(loc="lower right", ncols=2)
