"""The share of problems with a solution against the number of sequences, and in units of the predicted boundary."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, cellwise, computed, proportion
from theory_sim.attention import feasibility_inputs
from theory_sim.plotting import COLORS, figure, interval, log_axes, panel_label, theory_line

SIZES = ((3, 5), (4, 5), (5, 5), (4, 3), (4, 9))


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(points=0, max_inputs=0, max_tokens=0, max_dim=0).sel(optimal=0, self_attention=0)
    fig, axes = figure(columns=2, panels=(1, 2), height=2.6)
    curves = {(d, t): curve(data, d, t) for d, t in SIZES if d in data["dim"] and t in data["tokens"]}
    panel_label(axes[0], "a", "sequences")
    panel_label(axes[1], "b", "in units of the predicted boundary")
    for number, ((dim, tokens), (inputs, share)) in enumerate(curves.items()):
        color, boundary = COLORS[number], feasibility_inputs(dim, tokens)
        line = {"color": color, "linestyle": "-"}
        interval(axes[0], inputs, share, label=f"d = {dim}, T = {tokens}", **line)
        theory_line(axes[0], [boundary] * 2, [0.42, 0.58], color=color, linestyle="-", linewidth=2.5)
        axes[0].plot([dim], [1.06], color=color, marker=11, markersize=5, clip_on=False)
        interval(axes[1], inputs / boundary, share, **line)
    theory_line(axes[1], [1, 1], [0, 1], label=r"$n = d^2/\,\delta(C^{\circ})$")
    log_axes(axes[0], "x")
    axes[0].set_xticks([3, 5, 10, 20, 30], ["3", "5", "10", "20", "30"])
    for axis in axes:
        axis.set(ylabel="share with a solution", ylim=(-0.03, 1.1))
    axes[0].set_xlabel("sequences $n$  (triangles: proven, $n = d$; bars: predicted)")
    axes[1].set_xlabel(r"$n\,\delta(C^{\circ})\,/\,d^2$")
    axes[0].legend(loc="lower left", fontsize=6)
    axes[1].legend(loc="upper right")
    return fig


def curve(data, dim, tokens):
    runs = data.sel(dim=dim, tokens=tokens)
    share = cellwise(lambda cell: proportion(by_seed(cell, "feasible")))
    return computed(runs)["inputs"].to_numpy(), share(runs)
