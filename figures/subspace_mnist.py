"""Accuracy on MNIST against the subspace dimension, over the published curves, and what shorter training costs."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, figure, label_line, log_axes, panel_label, theory_line
from theory_sim.subspace.published import MNIST_ACCURACY

NAMES = {"fc": "784-200-200-10, D = 199,210", "lenet": "LeNet, D = 44,426"}

SHORT = {"fc": "FC", "lenet": "LeNet"}


def draw(data: xr.Dataset) -> Figure:
    fig, (curves, shortfall) = figure(columns=2, panels=(1, 2), height=2.6)
    for color, network in zip(COLORS, NAMES, strict=False):
        if network in data["network"]:
            chosen = computed(data.sel(network=network))
            draw_curve(curves, chosen, network, color)
            draw_shortfall(shortfall, chosen, network, color)
    panel_label(curves, "a", "accuracy against dimension")
    theory_line(curves, [], [], label="published, 100 epochs")
    curves.axhline(0.9, color="0.5", linewidth=0.6)
    label_line(curves, "0.9", 11, 0.9, color="0.4")
    curves.set(xlabel="subspace dimension $d$", ylabel="test accuracy", ylim=(0.4, 1.0), xlim=(10, 3000))
    label_line(curves, "direct", 1950, 0.955, color="0.3", xytext=(0, -8))
    log_axes(curves, "x")
    curves.legend(loc="lower right")
    panel_label(shortfall, "b", "below the published accuracy")
    shortfall.axhline(0, **{"color": "black", "linewidth": 0.6})
    shortfall.set(xlabel="subspace dimension $d$", ylabel="published less measured accuracy", xlim=(70, 3000))
    log_axes(shortfall, "x")
    shortfall.legend(loc="upper right")
    return fig


def draw_curve(axis, data, network, color):
    dims, scores = cells(data.isel(step=-1))
    draw_range(axis, dims, scores, fmt="o", color=color, label=NAMES[network])
    published = {d: value for d, value in MNIST_ACCURACY[network].items() if d > 0}
    theory_line(axis, list(published), list(published.values()))
    direct = data.isel(step=-1).sel(dim=0) if 0 in data["dim"] else None
    if direct is not None:
        axis.plot(2600, float(direct["test_accuracy"].mean()), color=color, marker="_", markersize=9)
        axis.plot(2600, MNIST_ACCURACY[network][0], color="black", marker="_", markersize=5, zorder=5)


def draw_shortfall(axis, data, network, color):
    steps = data["step"].to_numpy()
    for i, style in zip(range(len(steps)), ("o-", "s--", "^:", "v-.", "D-")[-len(steps) :], strict=False):
        dims, scores = cells(data.isel(step=i))
        published = np.array([MNIST_ACCURACY[network][int(d)] for d in dims])
        epochs = steps[i] / 391
        label = f"{SHORT[network]}, {epochs:.2g} epoch{'s' if epochs > 1 else ''}"
        alpha = 0.45 + 0.55 * (i == len(steps) - 1)
        draw_range(axis, dims, published - scores, fmt=style, color=color, alpha=alpha, label=label)


def draw_range(axis, x, samples, **line):
    """Draw runs `[seeds, x]`, of which there are few, as their mean and a bar from the least to the largest."""
    mean = samples.mean(axis=0)
    ends = mean - samples.min(axis=0), samples.max(axis=0) - mean
    axis.errorbar(x, mean, yerr=ends, capsize=1.5, elinewidth=0.8, **line)


def cells(data):
    """Return the positive dimensions that were computed, and the test accuracies as [seeds, dims]."""
    dims, scores = data["dim"].to_numpy(), by_seed(data, "test_accuracy", "dim")
    return dims[dims > 0], scores[:, dims > 0]
