"""Accuracy on the digits against d for networks of several widths and depths."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, theory_line


def draw(data: xr.Dataset) -> Figure:
    fig, axis = figure(columns=1, height=2.6)
    data = data.isel(step=-1)
    lines = zip(("-", "--", "-.", ":"), ("o", "s", "^", "D"), data["depth"].to_numpy(), strict=False)
    for style, marker, depth in lines:
        for color, width in zip(COLORS, data["width"].to_numpy(), strict=False):
            cell = data.sel(width=[width], depth=[depth])
            if cell["complete"].any():
                chosen = computed(cell)
                line = {"color": color, "linestyle": style, "marker": marker, "label": f"{depth} x {width}"}
                band(axis, chosen["dim"], by_seed(chosen, "test_accuracy", "dim"), **line)
    dims = data["dim"].to_numpy()
    theory_line(axis, (dims[0], dims[-1]), (0.9, 0.9), linewidth=0.7)
    label_line(axis, "0.9", dims[-1], 0.9, xytext=(0, -9), horizontalalignment="right")
    axis.set(xlabel="subspace dimension $d$", ylabel="test accuracy", ylim=(0.3, 1))
    axis.legend(loc="lower right", title="hidden layers x width", title_fontsize=6.5)
    return fig
