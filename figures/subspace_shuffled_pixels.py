"""Accuracy with pixels in place and with shuffled ones against the subspace dimension."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, panel_label, theory_line

NAMES = {"fc": "fully connected", "lenet": "convolutional"}


def draw(data: xr.Dataset) -> Figure:
    fig, axes = figure(columns=2, panels=(1, 2), height=2.3)
    for axis, letter, network in zip(axes, "ab", NAMES, strict=True):
        panel_label(axis, letter, f"{NAMES[network]} network")
        axis.set(xlabel="subspace dimension $d$", ylabel="test accuracy", ylim=(0.5, 1))
        if network not in data["network"]:
            continue
        for color, pixels in zip(COLORS, ("in place", "shuffled"), strict=False):
            chosen = computed(data.isel(step=-1).sel(network=network, pixels=pixels))
            scores = by_seed(chosen, "test_accuracy", "dim")
            band(axis, chosen["dim"], scores, color=color, marker="o", label=f"pixels {pixels}")
        theory_line(axis, axis.get_xlim(), (0.9, 0.9), linewidth=0.7)
        label_line(axis, "0.9", axis.get_xlim()[0], 0.9, xytext=(4, 2))
        axis.legend(loc="lower right")
    return fig
