"""Weight-normalised descent beside gradient descent, and iterations against the rank."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, time_to
from theory_sim.plotting import COLORS, band, figure, log_axes, panel_label, theory_line
from theory_sim.sensing import (
    symmetric_error_asymptote,
    weight_normalized_curve,
    weight_normalized_edge,
    weight_normalized_factor,
    weight_normalized_rate,
)

FIXED = ("dim", "true_rank", "max_rank", "condition_number", "step_size", "core_step_size")
NORMALIZED, PLAIN, ACCURACY = "weight-normalised", "GD", 0.02


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(dict.fromkeys(FIXED, 0)).sel(step=slice(1, None))
    seen, measured = data["oversampling"].to_numpy()
    fig, (population, gaussian, ranks) = figure(columns=2, panels=(1, 3))
    panel_label(population, "a", "population")
    draw_curves(population, data.sel(oversampling=seen), theory=True)
    panel_label(gaussian, "b", f"$m = {measured}\\,nr$")
    draw_curves(gaussian, data.sel(oversampling=measured), theory=False)
    wedge = draw_wedge(gaussian, data.sel(oversampling=measured, algorithm=NORMALIZED).isel(rank=-1))
    # An exponential is straight here, and the wedge of its slopes is seen.
    gaussian.set(xscale="linear", xlim=(0, 300))
    gaussian.legend(handles=[wedge], loc="lower left")
    draw_iterations(ranks, data)
    return fig


def draw_curves(axis, data, *, theory):
    steps, step_size = data["step"].to_numpy(), float(data["step_size"])
    values = np.linspace(1.0, 1.0 / float(data["condition_number"]), int(data["true_rank"]))
    for color, rank in zip(COLORS, data["rank"].to_numpy(), strict=False):
        cell = data.sel(rank=rank, algorithm=NORMALIZED)
        band(axis, steps, np.maximum(by_seed(cell, "error", "step"), 1e-16), color=color, label=f"k = {rank}")
        plain = by_seed(data.sel(rank=rank, algorithm=PLAIN), "error", "step")
        band(axis, steps, plain, color=color, linestyle=":")
        if theory:
            overlap = by_seed(cell, "overlap_start", "direction", "other_direction")
            curve = np.median(weight_normalized_curve(int(steps[-1]), overlap, values, step_size), axis=0)[
                steps
            ]
            visible = curve > 1e-13
            theory_line(axis, steps[visible], curve[visible])
            late = steps > 100
            limit = symmetric_error_asymptote(steps[late], rank, len(values), step_size)
            last = rank == data["rank"].to_numpy()[-1]
            theory_line(axis, steps[late], limit, label="predicted" if last else None)
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel="error (dotted: gradient descent)", ylim=(1e-10, 3))
    axis.legend(loc="lower left")


def draw_wedge(axis, cell):
    """Draw and return where an error goes that falls by the mean curvature, or by the least, from 1e-3 on."""
    steps, errors = cell["step"].to_numpy(), np.median(by_seed(cell, "error", "step"), axis=0)
    dim, true_rank, rank = int(cell["dim"]), int(cell["true_rank"]), int(cell["rank"])
    count = int(cell["oversampling"]) * dim * true_rank
    late = steps[errors < 1e-3]
    least, mean = (
        1e-3
        * np.exp(
            weight_normalized_rate(cell["step_size"].item() * curvature, 1 / cell["condition_number"].item())
            * (late - late[0])
        )
        for curvature in (
            weight_normalized_edge(count, dim, true_rank, rank),
            weight_normalized_factor(count, rank),
        )
    )
    label = f"predicted\nslopes,\nk = {rank}"
    return axis.fill_between(late, mean, least, color="black", alpha=0.25, linewidth=0, label=label)


def draw_iterations(axis, data):
    panel_label(axis, "c", "iterations")
    ranks = data["rank"].to_numpy()
    for color, operator in zip(COLORS, data["oversampling"].to_numpy(), strict=False):
        for algorithm, line in ((NORMALIZED, "-"), (PLAIN, ":")):
            cell = data.sel(algorithm=algorithm, oversampling=operator)
            times = time_to(cell["step"].to_numpy(), by_seed(cell, "error", "rank", "step"), ACCURACY)
            label = "population" if operator == "None" else f"$m = {operator}\\,nr$"
            label = label if algorithm == NORMALIZED else None
            band(axis, ranks, times, color=color, label=label, marker="o", linestyle=line)
    excess = ranks - int(data["true_rank"])
    predicted = np.sqrt(excess) / (2 * float(data["step_size"]) * ACCURACY)
    theory_line(axis, ranks, predicted, label=r"$\sqrt{k-r}\,/\,(2\eta\epsilon)$")
    log_axes(axis)
    axis.set_xticks(ranks, [str(rank) for rank in ranks])
    axis.minorticks_off()
    axis.set(
        xlabel="rank $k$ (dotted: gradient descent)", ylabel=f"iterations to {ACCURACY}", ylim=(15, 2000)
    )
    axis.legend(loc="upper right")
