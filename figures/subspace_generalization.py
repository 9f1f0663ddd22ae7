"""The gap of rounded networks against the number of examples and of dimensions, below its bound."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, log_axes, panel_label, theory_line
from theory_sim.subspace import generalization_bound

LEVELS, SCALES, MIDDLE = 64, 7, 45


def draw(data: xr.Dataset) -> Figure:
    fig, (by_examples, by_dim) = figure(columns=2, panels=(1, 2), height=2.5)
    data = data.isel(step=-1)
    most = int(data["examples"].max())
    for color, labels in zip((COLORS[6], COLORS[0]), ("shuffled", "true"), strict=True):
        chosen = data.sel(labels=labels)
        row = computed(chosen.sel(dim=[MIDDLE]))
        examples = row["examples"].to_numpy()
        band(
            by_examples,
            examples,
            by_seed(row, "gap", "examples"),
            color=color,
            marker="o",
            label=f"{labels} labels",
        )
        column = computed(chosen.sel(examples=[most], dim=chosen["dim"][chosen["dim"] > 0]))
        dims = column["dim"].to_numpy()
        band(by_dim, dims, by_seed(column, "gap", "dim"), color=color, marker="o", label=f"{labels} labels")
    bounds = generalization_bound(MIDDLE, LEVELS, examples, scales=SCALES)
    theory_line(by_examples, examples, bounds)
    label_line(by_examples, "bound", examples[0], bounds[0], xytext=(2, 4))
    theory_line(by_examples, examples, 0.3 * (examples / examples[0]) ** -0.5, linewidth=0.6, color="0.5")
    label_line(by_examples, "slope -1/2", examples[-1], 0.3 * (examples[-1] / examples[0]) ** -0.5, color="0.4",
               xytext=(-2, 4), horizontalalignment="right")  # fmt: skip
    bounds = generalization_bound(dims, LEVELS, most, scales=SCALES)
    theory_line(by_dim, dims, bounds)
    label_line(by_dim, "bound", dims[0], bounds[0], xytext=(2, 6))
    theory_line(by_dim, dims, 0.12 * (dims / dims[0]) ** 0.5, linewidth=0.6, color="0.5")
    label_line(by_dim, "slope 1/2", dims[-1], 0.12 * (dims[-1] / dims[0]) ** 0.5, color="0.4", xytext=(-2, 4),
               horizontalalignment="right")  # fmt: skip
    panel_label(by_examples, "a", f"d = {MIDDLE} numbers of {LEVELS} values")
    by_examples.set(xlabel="training examples $m$", ylabel="training less test accuracy", ylim=(0.01, 3))
    panel_label(by_dim, "b", f"m = {most} examples")
    by_dim.set(xlabel="subspace dimension $d$", ylabel="training less test accuracy", ylim=(0.01, 3))
    for axis in (by_examples, by_dim):
        log_axes(axis)
        axis.legend(loc="lower left" if axis is by_examples else "lower right")
    return fig
