"""Accuracy against the budget, per tensor and with trained scales, for bright and for faint pixels."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, panel_label, theory_line

NAMES = {"tensors": "one subspace a tensor (DID)", "scaled_tensors": "and trained scales (SAID)"}


def draw(data: xr.Dataset) -> Figure:
    fig, axes = figure(columns=2, panels=(1, 2), height=2.3)
    titles = ("layers must move alike", "the first layer must grow")
    cells = zip(axes, "ab", titles, sorted(data["brightness"].to_numpy(), reverse=True), strict=False)
    for axis, letter, title, brightness in cells:
        panel_label(axis, letter, f"{title}: pixels up to {brightness:g}")
        last = data.isel(step=-1).sel(brightness=[brightness])
        for color, structure in zip(COLORS, NAMES, strict=False):
            chosen = computed(last.sel(structure=[structure]))
            dims, scores = chosen["dim"].to_numpy(), by_seed(chosen, "test_accuracy", "dim")
            band(axis, dims[dims > 0], scores[:, dims > 0], color=color, marker="o", label=NAMES[structure])
        direct = float(by_seed(last.sel(structure=["tensors"], dim=[0]), "test_accuracy").mean())
        axis.axhline(direct, color="0.4", linewidth=0.6)
        ends = axis.get_xlim()
        label_line(axis, "direct training", ends[0], direct, color="0.3", xytext=(2, -8))
        theory_line(axis, ends, (0.9 * direct, 0.9 * direct), linewidth=0.7)
        label_line(axis, "90% of it", ends[0], 0.9 * direct, xytext=(2, -8))
        axis.set(xlabel="budget $d$, scales included", ylabel="test accuracy", ylim=(0.6, 1.02))
        axis.legend(loc="lower right")
    return fig
