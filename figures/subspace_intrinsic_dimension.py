"""Accuracy on the digits against the subspace dimension."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, theory_line


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(step=-1)
    fig, axis = figure(columns=1)
    draw_digits(axis, data)
    return fig


def draw_digits(axis, data):
    lines = [
        ("digits", "dense", "dense, D = 1,930"),
        ("digits", "fastfood", "Fastfood, D = 1,930"),
        ("digits_wide", "dense", "dense, D = 8,170"),
        ("digits_shuffled", "dense", "shuffled labels"),
    ]
    for color, (task, projection, label) in zip(COLORS, lines, strict=False):
        if task in data["task"] and projection in data["projection"]:
            dims, scores = cells(data, "test_accuracy", task, projection)
            band(axis, dims[dims > 0], scores[:, dims > 0], color=color, marker="o", label=label)
    theory_line(axis, (60, 240), (0.9, 0.9), linewidth=0.7)
    label_line(axis, "global threshold 0.9", 235, 0.9, xytext=(0, -9), horizontalalignment="right")
    dims, scores = cells(data, "test_accuracy", "digits", "dense")
    if 0 in dims:
        direct = np.median(scores[:, dims == 0])
        axis.axhline(direct, color=COLORS[0], linewidth=0.6)
        label_line(axis, "direct training", 60, direct, color=COLORS[0])
    axis.set(xlabel="subspace dimension $d$", ylabel="test accuracy", ylim=(0, 1.04))
    axis.legend(loc="center right", bbox_to_anchor=(1, 0.45))


def cells(data, name, task, projection):
    """Return the dimensions that were computed, and the metric as [seeds, dims]."""
    chosen = computed(data.sel(task=task, projection=projection))
    return chosen["dim"].to_numpy(), by_seed(chosen, name, "dim")
