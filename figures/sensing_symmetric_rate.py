"""Error against step, its collapse on the predicted constant, and what finite measurements do to it."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed
from theory_sim.plotting import COLORS, band, figure, log_axes, panel_label, theory_line
from theory_sim.sensing import (
    plateau_length,
    symmetric_error_asymptote,
    symmetric_error_curve,
    symmetric_linear_rate,
)

SHAPE = ("dim", "true_rank", "max_rank", "condition_number")


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(dict.fromkeys(SHAPE, 0)).sel(step=slice(1, None))
    fig, (curves, collapse, finite) = figure(columns=2, panels=(1, 3))
    population = data.sel(oversampling="None")
    draw_curves(curves, population.isel(step_size=-1).sel(init_scale=0.1))
    draw_collapse(collapse, population)
    draw_finite(finite, data.isel(step_size=-1).sel(init_scale=0.1, rank=5))
    return fig


def draw_curves(axis, data):
    panel_label(axis, "a", f"rank {int(data['true_rank'])} target")
    steps, step_size = data["step"].to_numpy(), float(data["step_size"])
    later = steps > 15 * float(data["condition_number"]) / step_size
    for color, rank in zip(COLORS, data["rank"].to_numpy(), strict=False):
        cell = data.sel(rank=rank)
        band(axis, steps, by_seed(cell, "error", "step"), color=color, label=f"k = {rank}")
        if rank > int(data["true_rank"]):
            curve = symmetric_error_curve(
                steps[later], by_seed(cell, "tail_start", "mode")[:, None], step_size
            )
            theory_line(axis, steps[later], np.median(curve, axis=0))
        else:
            first = np.flatnonzero(later)[0]
            slope = symmetric_linear_rate(step_size, 1 / float(data["condition_number"]))
            level = np.median(by_seed(cell, "error", "step")[:, first])
            theory_line(axis, steps[later], level * np.exp(slope * (steps[later] - steps[first])))
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"error $\|XX^T - M_\star\|_F$", ylim=(1e-9, 3))
    axis.legend(loc="lower right")


def draw_collapse(axis, data):
    panel_label(axis, "b", "one constant for all")
    for color, scale in zip(COLORS, data["init_scale"].to_numpy(), strict=False):
        label = rf"$\alpha$ = {scale:g}"
        for rank in data["rank"].to_numpy()[1:]:
            for step_size in data["step_size"].to_numpy():
                cell = data.sel(rank=rank, step_size=step_size, init_scale=scale)
                time = cell["step"].to_numpy() / plateau_length(step_size, scale)
                axis.plot(time, np.median(to_asymptote(cell), axis=0), color=color, alpha=0.6, label=label)
                label = None
    theory_line(axis, (1e-2, 1e3), (1, 1), label=r"$\sqrt{k-r}\,/\,(2\eta t)$")
    log_axes(axis)
    axis.set(xlabel=r"$2\eta\alpha^2 t$", ylabel="error / asymptote", xlim=(1e-2, 1e3), ylim=(1e-2, 1e2))
    axis.legend(loc="upper right")


def draw_finite(axis, data):
    panel_label(axis, "c", "Gaussian measurements")
    for color, value in zip(COLORS, data["oversampling"].to_numpy(), strict=False):
        label = "population" if value == "None" else f"m = {value} nr"
        band(axis, data["step"], to_asymptote(data.sel(oversampling=value)), color=color, label=label)
    theory_line(axis, data["step"][[0, -1]], (1, 1))
    log_axes(axis, "x")
    axis.set(xlabel="step $t$", ylabel="error / asymptote", ylim=(0, 3.2), xlim=(100, None))
    axis.legend(loc="upper left")


def to_asymptote(cell):
    """Return the runs' errors over `sqrt(k - r) / (2 eta t)`."""
    limit = symmetric_error_asymptote(cell["step"], cell["rank"], cell["true_rank"], cell["step_size"])
    return by_seed(cell, "error", "step") / limit
