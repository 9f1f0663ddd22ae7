"""Loss curves of direct training and of training in a rotated basis, and how far they are apart."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed
from theory_sim.plotting import COLORS, band, figure, label_line, panel_label

NAMES = {"sgd": "gradient descent", "momentum": "momentum", "adam": "Adam"}


def draw(data: xr.Dataset) -> Figure:
    fig, (curves, apart) = figure(columns=2, panels=(1, 2), height=2.3)
    steps = data["step"].to_numpy()
    for color, rule in zip(COLORS, NAMES, strict=False):
        if rule not in data["rule"]:
            continue
        direct, turned = (by_seed(data.sel(rule=rule).isel(dim=[i]), "train_loss", "step") for i in (0, 1))
        curves.plot(steps, direct.mean(axis=0), color=color, label=NAMES[rule])
        curves.plot(
            steps, turned.mean(axis=0), color=color, marker="o", linestyle="none", markerfacecolor="none"
        )
        band(
            apart,
            steps,
            np.maximum(np.abs(turned / direct - 1), 1e-17),
            color=color,
            marker="o",
            label=NAMES[rule],
        )
    panel_label(curves, "a", "lines: direct, circles: rotated")
    curves.set(xlabel="minibatches", ylabel="training cross-entropy", ylim=(0, None))
    panel_label(apart, "b", "relative difference of the losses")
    apart.axhline(1e-8, color="0.5", linewidth=0.6)
    label_line(
        apart,
        "tolerance of the identity",
        steps[-1],
        1e-8,
        color="0.4",
        xytext=(-2, 3),
        horizontalalignment="right",
    )
    apart.set(xlabel="minibatches", ylabel="difference / loss", yscale="log")
    for axis in (curves, apart):
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xlim(-0.1, 1.1 * steps[-1])
        axis.legend(
            loc="lower left" if axis is curves else "center left",
            bbox_to_anchor=(0, 0) if axis is curves else (0.5, 0.33),
        )
    return fig
