"""The share of problems with support tokens alone against the dimension, and its threshold against both laws."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, cellwise, computed, crossing, proportion
from theory_sim.attention import support_dim
from theory_sim.plotting import COLORS, figure, interval, log_axes, panel_label, theory_line

FIXED = {"inputs": ("tokens", 3), "tokens": ("inputs", 5)}


def draw(data: xr.Dataset) -> Figure:
    fig, axes = figure(columns=2, panels=(1, 3), height=2.4)
    panel_label(axes[0], "a", "five sequences of $T$ tokens")
    runs = data.sel(along="tokens", inputs=5)
    for color, tokens in zip(COLORS, computed(runs)["tokens"].to_numpy(), strict=False):
        dims, each = shares(runs.sel(tokens=tokens))
        interval(axes[0], dims, proportion(each), label=f"$T = {tokens}$", color=color, linestyle="-")
        label = "half, derived" if tokens == 3 else None
        theory_line(axes[0], [float(support_dim(5, tokens))] * 2, [0.3, 0.7], label, zorder=4)
    log_axes(axes[0], "x")
    axes[0].set(xlabel="dimension $d$", ylabel="share with support tokens alone")
    axes[0].set_ylim(-0.03, 1.42)
    axes[0].legend(loc="upper left", ncols=2)
    for axis, letter, name, title in (
        (axes[1], "b", "tokens", "five sequences"),
        (axes[2], "c", "inputs", "three tokens"),
    ):
        panel_label(axis, letter, title)
        draw_threshold(axis, data, name)
    return fig


def draw_threshold(axis, data, name):
    other, value = FIXED[name]
    runs = data.sel({"along": name, other: value})
    sizes = computed(runs)[name].to_numpy()
    estimate = cellwise(lambda cells: crossing(*shares(cells), 0.5), keep=("dim",))(runs)
    many = np.geomspace(sizes[0], sizes[-1], 40)
    inputs, tokens = (many, value) if name == "inputs" else (value, many)
    interval(axis, sizes, estimate, label="half of the problems", color=COLORS[0])
    theory_line(axis, many, support_dim(inputs, tokens), label="derived")
    heuristic = (inputs + tokens) * np.log(inputs + tokens)
    theory_line(axis, many, heuristic, label=r"$(T+n)\,\log(T+n)$", linestyle=":")
    log_axes(axis, "both")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set_xticks([], minor=True)
    axis.set_ylim(top=2.2 * axis.get_ylim()[1])
    axis.set(xlabel={"tokens": "tokens $T$", "inputs": "sequences $n$"}[name], ylabel="dimension $d$")
    axis.legend(loc="upper left")


def shares(runs):
    """Return the dimensions computed, and the problems with support tokens alone, `[seeds, dims]`."""
    runs = computed(runs)
    return runs["dim"].to_numpy(), by_seed(runs, "all_active", "dim")
