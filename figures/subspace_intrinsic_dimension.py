"""Accuracy on the digits against the subspace dimension, for every projection."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, panel_label, theory_line
from theory_sim.subspace import intrinsic_dimension

NAMES = {
    "dense": "dense",
    "sparse": "sparse",
    "fastfood": "Fastfood",
    "signed_one_hot": "signed one-hot",
    "one_hot": "one-hot",
}


def draw(data: xr.Dataset) -> Figure:
    fig, (curves, copies, training) = figure(columns=2, panels=(1, 3), height=2.3)
    draw_curves(curves, data.isel(step=-1))
    draw_copies(copies, data.isel(step=-1))
    draw_training(training, data)
    return fig


def draw_curves(axis, data):
    panel_label(axis, "a", "accuracy against dimension")
    for color, kind in zip(COLORS, NAMES, strict=False):
        if kind in data["projection"]:
            dims, scores = cells(data, 1, kind)
            used = dims > 0
            reached = intrinsic_dimension(dims[used], scores[:, used])
            name = f"{NAMES[kind]}: {reached.value:.0f}"
            axis.plot(dims[used], scores[:, used].mean(axis=0), color=color, marker="o", label=name)
    dims, scores = cells(data, 1, "dense")
    band(axis, dims[dims > 0], scores[:, dims > 0], color=COLORS[0])
    theory_line(axis, (dims[dims > 0][0], dims[-1]), (0.9, 0.9), linewidth=0.7)
    label_line(axis, "global threshold 0.9", 240, 0.9, xytext=(0, -9), horizontalalignment="right")
    direct = np.median(scores[:, dims == 0])
    axis.axhline(direct, color="0.4", linewidth=0.6)
    label_line(axis, "direct training", 60, direct, color="0.3")
    axis.set(xlabel="subspace dimension $d$", ylabel="test accuracy", ylim=(0.5, 1.02))
    # Not a claim: that images of 64 pixels take fewer dimensions than MNIST's 784 could hardly fail.
    axis.legend(loc="lower right", title=r"$d_{\mathrm{int}90}$ (on MNIST 750)")


def draw_copies(axis, data):
    panel_label(axis, "b", "fewer dimensions than numbers")
    base, dense = cells(data, 1, "dense")
    for color, copies in zip((COLORS[0], COLORS[5]), (1, 2), strict=True):
        if copies in data["copies"] and data.sel(copies=copies)["complete"].any():
            dims, scores = cells(data, copies, "dense")
            used = dims > 0
            name = "dense" if copies == 1 else f"{copies} numbers a column"
            band(axis, dims[used], scores[:, used], color=color, marker="o", linestyle="none", label=name)
        if len(base) > 1:
            theory_line(axis, copies * base[base > 0], dense[:, base > 0].mean(axis=0))
    theory_line(axis, axis.get_xlim(), (0.9, 0.9), linewidth=0.7)
    axis.set(xlabel="trained numbers $d$", ylabel="test accuracy", ylim=(0.5, 1.02))
    axis.legend(loc="lower right")


def draw_training(axis, data):
    panel_label(axis, "c", "training")
    chosen, steps = data.sel(copies=1, projection="dense"), data["step"].to_numpy()
    for color, dim in zip((COLORS[1], COLORS[0], COLORS[3]), (0, 240, 60), strict=True):
        if dim in computed(chosen)["dim"]:
            scores = by_seed(chosen.sel(dim=[dim]), "test_accuracy", "step")
            band(axis, steps, scores, color=color, label=f"dense, d = {dim}" if dim else "direct")
    axis.axhline(0.1, color="0.5", linewidth=0.6)
    label_line(axis, "chance", 0, 0.1, xytext=(2, -8), color="0.4")
    axis.set(xlabel="minibatches", ylabel="test accuracy", ylim=(0, 1.02))
    axis.set_xscale("symlog", linthresh=100)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 0.1))


def cells(data, copies, kind):
    """Return the dimensions that were computed, and the test accuracies as [seeds, dims]."""
    chosen = computed(data.sel(copies=copies, projection=kind))
    return chosen["dim"].to_numpy(), by_seed(chosen, "test_accuracy", "dim")
