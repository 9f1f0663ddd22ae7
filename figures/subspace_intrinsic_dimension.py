"""Accuracy on the digits against the subspace dimension, for every projection."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, panel_label, theory_line

NAMES = {
    "dense": "dense",
    "sparse": "sparse",
    "fastfood": "Fastfood",
    "signed_one_hot": "signed one-hot",
    "one_hot": "one-hot",
}


def draw(data: xr.Dataset) -> Figure:
    fig, (curves, training) = figure(columns=2, panels=(1, 2), height=2.5)
    draw_curves(curves, data.isel(step=-1))
    draw_training(training, data)
    return fig


def draw_curves(axis, data):
    panel_label(axis, "a", "accuracy against dimension")
    for color, kind in zip(COLORS, NAMES, strict=False):
        if kind in data["projection"]:
            dims, scores = cells(data, "true", kind)
            axis.plot(
                dims[dims > 0], scores[:, dims > 0].mean(axis=0), color=color, marker="o", label=NAMES[kind]
            )
    dims, scores = cells(data, "true", "dense")
    band(axis, dims[dims > 0], scores[:, dims > 0], color=COLORS[0])
    theory_line(axis, (dims[dims > 0][0], dims[-1]), (0.9, 0.9), linewidth=0.7)
    label_line(axis, "global threshold 0.9", 240, 0.9, xytext=(0, -9), horizontalalignment="right")
    direct = np.median(scores[:, dims == 0])
    axis.axhline(direct, color="0.4", linewidth=0.6)
    label_line(axis, "direct training", 60, direct, color="0.3")
    axis.set(xlabel="subspace dimension $d$", ylabel="test accuracy", ylim=(0.5, 1.02))
    axis.legend(loc="lower right")


def draw_training(axis, data):
    panel_label(axis, "b", "training with dense projections")
    for color, labels in zip((COLORS[0], COLORS[6]), ("true", "shuffled"), strict=True):
        for style, dim in zip(("-", (0, (1, 1))), (240, 0), strict=True):
            chosen = data.sel(labels=labels, projection="dense")
            if dim not in computed(chosen)["dim"]:
                continue
            scores = by_seed(chosen.sel(dim=[dim]), "test_accuracy", "step")
            steps = data["step"].to_numpy()
            name = "direct" if dim == 0 else f"d = {dim}"
            band(axis, steps, scores, color=color, linestyle=style, label=f"{labels} labels, {name}")
    axis.axhline(0.1, color="0.5", linewidth=0.6)
    label_line(axis, "chance", 0, 0.1, xytext=(2, -8), color="0.4")
    axis.set(xlabel="minibatches", ylabel="test accuracy", ylim=(0, 1.02))
    axis.set_xscale("symlog", linthresh=100)
    axis.legend(loc="center right", bbox_to_anchor=(1, 0.45))


def cells(data, labels, kind):
    """Return the dimensions that were computed, and the test accuracies as [seeds, dims]."""
    chosen = computed(data.sel(labels=labels, projection=kind))
    return chosen["dim"].to_numpy(), by_seed(chosen, "test_accuracy", "dim")
