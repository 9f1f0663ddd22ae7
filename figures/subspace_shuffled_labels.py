"""The fit of true and of shuffled labels against the subspace dimension."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, panel_label, theory_line


def draw(data: xr.Dataset) -> Figure:
    fig, axes = figure(columns=2, panels=(1, 2), height=2.5)
    steps = data["step"].to_numpy()
    for axis, letter, per_example in zip(axes, "ab", (False, True), strict=True):
        panel_label(axis, letter, "dimensions for each example" if per_example else "fit of labels")
        lines = [("shuffled", 50), ("shuffled", 200), ("true", 50)]
        for color, (labels, examples) in zip(COLORS, lines, strict=False):
            chosen = data.sel(labels=[labels], examples=[examples])
            if not chosen["complete"].any():
                continue
            for step in (-1,) if per_example else (0, -1):
                cell = computed(chosen.isel(step=step))
                dims = cell["dim"].to_numpy() / (examples if per_example else 1)
                name = f"{examples} {labels} labels" if step else None
                style = "-" if step else ":"
                scores = by_seed(cell, "train_accuracy", "dim")
                band(axis, dims, scores, color=color, marker="o", linestyle=style, label=name)
        theory_line(axis, axis.get_xlim(), (0.9, 0.9), linewidth=0.7)
        label_line(axis, "0.9", axis.get_xlim()[0], 0.9, xytext=(4, 2))
        axis.set(ylabel="training accuracy", ylim=(0, 1.04), yticks=np.linspace(0, 1, 6))
    axes[0].set(xlabel="subspace dimension $d$", xlim=(0, 350))
    axes[1].set(xlabel="$d$ for each example")
    label_line(axes[0], f"dotted: after {steps[0]} minibatches,\nfull: after {steps[-1]}", 100, 0.2)
    axes[1].legend(loc="lower right")
    return fig
