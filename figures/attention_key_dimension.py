"""Distances of trained weights from both norms' max margin directions, and their errors against the key dimension."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed
from theory_sim.plotting import COLORS, band, figure, log_axes, panel_label, theory_line

NAMES = {"weights": "$W$", "key_query": "$KQ^T$"}


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(inputs=0, tokens=0, dim=0, step_size=-1, run_seed=0)
    fig, axes = figure(columns=2, panels=(1, 3), height=2.4)
    cells = {
        name: data.sel(parameterization=name, columns=10).isel(init_scale=int(name == "key_query"))
        for name in NAMES
        if name in data["parameterization"]
    }
    for axis, letter, metric, norm in (
        (axes[0], "a", "direction_error", "Frobenius"),
        (axes[1], "b", "nuclear_error", "nuclear"),
    ):
        panel_label(axis, letter, f"to the {norm} direction")
        for color, (name, runs) in zip(COLORS, cells.items(), strict=False):
            later = runs.sel(step=slice(1, None))
            band(axis, later["step"], by_seed(later, metric, "step"), color=color, label=NAMES[name])
        log_axes(axis)
        axis.set(xlabel="step $t$", ylabel="distance of directions", ylim=(1e-3, 3))
    axes[0].legend(loc="lower left")
    draw_columns(axes[2], data.sel(parameterization="key_query").isel(init_scale=1))
    return fig


def draw_columns(axis, data):
    panel_label(axis, "c", "columns of key and query")
    errors = by_seed(data, "nuclear_error", "columns", "step")[..., -1]
    ranks, columns = by_seed(data, "nuclear_rank", "columns")[:, -1], data["columns"].to_numpy()
    for color, rank in zip(COLORS[2:], np.unique(ranks), strict=False):
        chosen = errors[ranks == rank]
        axis.plot(
            columns, np.median(chosen, axis=0), "o-", color=color, label=f"rank {int(rank)} ({len(chosen)})"
        )
        theory_line(axis, [rank, rank], [1e-3, 3], color=color, linestyle=":")
    log_axes(axis, "y")
    axis.set(xlabel="key dimension $m$", ylabel="median distance to nuclear", ylim=(3e-2, 3))
    axis.legend(loc="upper right", title="certified", title_fontsize=6)
