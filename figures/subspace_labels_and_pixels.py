"""Accuracy with shuffled pixels, and the fit of shuffled labels, against the subspace dimension."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, log_axes, panel_label, theory_line

NAMES = {"fc": "fully connected", "lenet": "convolutional"}


def draw(data: xr.Dataset) -> Figure:
    fig, (pixels, labels) = figure(columns=2, panels=(1, 2), height=2.5)
    history, data = data, data.isel(step=-1)
    panel_label(pixels, "a", "shuffled pixels")
    for color, network in zip(COLORS, NAMES, strict=False):
        for style, shuffled in (("-", "nothing"), (":", "pixels")):
            if network in data["network"]:
                chosen = computed(data.sel(network=network, shuffled=shuffled, examples=[0]))
                name = NAMES[network] + (", shuffled" if shuffled == "pixels" else "")
                line = {"color": color, "marker": "o", "linestyle": style, "label": name}
                band(pixels, chosen["dim"], by_seed(chosen, "test_accuracy", "dim"), **line)
    pixels.set(xlabel="subspace dimension $d$", ylabel="test accuracy", ylim=(0.3, 1))
    pixels.legend(loc="lower right")
    panel_label(labels, "b", "fit of shuffled labels")
    steps = history["step"].to_numpy()
    chosen = computed(history.sel(network="memory", shuffled="labels"))
    for color, examples in zip(COLORS[2:], chosen["examples"].to_numpy(), strict=False):
        for style, step in zip((":", "-"), (0, -1), strict=True):
            cell = computed(chosen.sel(examples=[examples]).isel(step=step))
            name = f"{examples} examples, {steps[step]} minibatches"
            line = {"color": color, "marker": "o", "linestyle": style, "label": name}
            band(labels, cell["dim"], by_seed(cell, "train_accuracy", "dim"), **line)
    labels.set(
        xlabel="subspace dimension $d$",
        ylabel="training accuracy",
        ylim=(-0.42, 1.04),
        yticks=[0, 0.2, 0.4, 0.6, 0.8, 1],
    )
    log_axes(labels, "x")
    labels.legend(loc="lower right")
    for axis in (pixels, labels):
        theory_line(axis, axis.get_xlim(), (0.9, 0.9), linewidth=0.7)
        label_line(axis, "0.9", axis.get_xlim()[0], 0.9, xytext=(4, 2))
    return fig
