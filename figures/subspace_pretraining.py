"""Accuracy of fine-tuning against d from each checkpoint, and by the width of the network."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, figure, label_line, log_axes, panel_label, theory_line


def draw(data: xr.Dataset) -> Figure:
    fig, axes = figure(columns=2, panels=(1, 3), height=2.4)
    data = data.isel(step=-1)
    widest = int(data["width"].max())
    for axis, letter, source in zip(axes, "ab", ("related", "unrelated"), strict=False):
        panel_label(axis, letter, f"{source} source, width {widest}")
        for color, steps in zip(COLORS, data["pretraining"].to_numpy(), strict=False):
            chosen = data.sel(source=source, width=widest, pretraining=[steps])
            if chosen["complete"].any():
                draw_share(axis, chosen, color, f"{steps} steps")
    panel_label(axes[2], "c", "related source, all of it")
    longest = int(data["pretraining"].max())
    for color, width in zip(COLORS[4:], data["width"].to_numpy(), strict=False):
        draw_share(
            axes[2], data.sel(source="related", width=width, pretraining=[longest]), color, f"width {width}"
        )
    for axis in axes:
        dims = data["dim"].to_numpy()
        theory_line(axis, (dims[1], dims[-1]), (0.9, 0.9), linewidth=0.7)
        label_line(axis, "0.9", dims[-1], 0.9, xytext=(0, -9), horizontalalignment="right")
        axis.set(xlabel="subspace dimension $d$", ylabel="accuracy / fine-tuning all", ylim=(0.2, 1.1))
        log_axes(axis, "x")
        axis.legend(loc="lower right")
    return fig


def draw_share(axis, data, color, label):
    chosen = computed(data)
    dims, scores = chosen["dim"].to_numpy(), by_seed(chosen, "test_accuracy", "dim")
    shares = scores[:, dims > 0] / scores[:, dims == 0].mean()
    mean, error = shares.mean(axis=0), shares.std(axis=0) / np.sqrt(len(shares))
    axis.errorbar(
        dims[dims > 0],
        mean,
        yerr=2 * error,
        color=color,
        marker="o",
        capsize=1.5,
        elinewidth=0.8,
        label=label,
    )
