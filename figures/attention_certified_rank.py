"""Certified ranks of nuclear max margin weights, the counts that a first-order solver leaves, and published ones."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import Estimate, bootstrap
from theory_sim.attention import largest_rank
from theory_sim.plotting import COLORS, figure, interval, panel_label, theory_line
from theory_sim.study import load_module

READ_OFFS = load_module(Path(__file__).parents[1] / "sweeps" / Path(__file__).name).READ_OFFS


def draw(data: xr.Dataset) -> Figure:
    data = data.squeeze(["points", "max_inputs", "max_tokens", "max_dim", "run_seed"], drop=True)
    fig, axes = figure(columns=2, panels=(1, 3), height=2.5)
    draw_dimensions(axes[0], data)
    draw_bound(axes[1], data)
    draw_tokens(axes[2], data)
    return fig


def counts(axis, runs, name, **line):
    """Draw the mean of a count over the instances that have a solution, at each dimension, with its interval."""
    each = {}
    for dim in runs["dim"].to_numpy():
        cell = runs.sel(dim=dim)
        if len(found := cell[name].to_numpy()[cell["feasible"].to_numpy() > 0]):
            each[dim] = bootstrap(found)[:3]
    interval(axis, np.array(list(each)), Estimate(*np.transpose(list(each.values()))), **line)


def draw_dimensions(axis, data):
    panel_label(axis, "a", "five tokens")
    for color, inputs in zip(COLORS, data["inputs"].to_numpy(), strict=False):
        runs = data.sel(tokens=5, inputs=inputs)
        counts(axis, runs.sel(solver="nuclear"), "rank", color=color, linestyle="-", label=f"n = {inputs}")
        if "splitting" in data["solver"]:
            counts(axis, runs.sel(solver="splitting"), "counted", color=color, linestyle=":", fmt="")
        points = {dim: count for (n, dim), count in READ_OFFS.items() if n == inputs}
        axis.plot(list(points), list(points.values()), color=color, marker="x", linestyle="", markersize=6)
        if "frobenius" in data["solver"]:
            counts(axis, runs.sel(solver="frobenius"), "rank", color=color, fmt="", alpha=0.5, linewidth=0.8)
    axis.plot([], [], color="black", linestyle=":", label="first order, above 1e-7")
    axis.plot([], [], color="black", marker="x", linestyle="", markersize=5, label="published counts")
    axis.plot([], [], color="black", alpha=0.5, linewidth=0.8, label="Frobenius norm")
    axis.set(xlabel="dimension $d$", ylabel="rank", ylim=(0, 24), xlim=(0, None))
    axis.legend(loc="upper left", ncols=2, columnspacing=0.8, handlelength=1.4, fontsize=5.8)


def draw_bound(axis, data):
    panel_label(axis, "b", "active constraints")
    runs = data.sel(solver="nuclear")
    for color, inputs in zip(COLORS, data["inputs"].to_numpy(), strict=False):
        active, rank = (
            runs[name].where(runs["feasible"] > 0).sel(inputs=inputs).to_numpy().ravel()
            for name in ("active", "rank")
        )
        axis.plot(active, rank, ".", color=color, alpha=0.5, markersize=4)
    draw_root(axis, runs)
    most = np.nanmax(runs["active"].where(runs["feasible"] > 0).to_numpy())
    line = np.arange(1, most + 1)
    theory_line(
        axis,
        line,
        largest_rank(line),
        label="unique optimum:\n$r(r+1)/2\\leq$ active",
        drawstyle="steps-post",
    )
    axis.set(xlabel="active constraints", ylabel="certified rank", ylim=(0, None))
    axis.legend(loc="upper left")


def draw_root(axis, runs):
    """Draw the conjectured law with the constant fitted to all instances, which lie across it at each n."""
    found = runs["feasible"].to_numpy() > 0
    active, rank = (runs[name].to_numpy()[found] for name in ("active", "rank"))
    constant = rank @ np.sqrt(active) / active.sum()
    line = np.linspace(1, active.max(), 50)
    axis.plot(line, constant * np.sqrt(line), color="black", linestyle=":")
    axis.plot(
        [], [], color="black", linestyle=":", label=rf"${constant:.2f}\,\sqrt{{\mathrm{{active}}}}$ (fit)"
    )


def draw_tokens(axis, data):
    panel_label(axis, "c", "ranks in 15 dimensions")
    there = data.sel(dim=15 if 15 in data["dim"] else data["dim"][-1])
    runs = there.sel(solver="nuclear")
    labels, places = [], []
    for inputs in data["inputs"].to_numpy():
        for tokens in data["tokens"].to_numpy():
            cell = runs.sel(inputs=inputs, tokens=tokens)
            ranks = cell["rank"].where(cell["feasible"] > 0).dropna("problem_seed").to_numpy()
            if len(ranks):
                values, counts = np.unique(ranks, return_counts=True)
                color = COLORS[list(data["inputs"].to_numpy()).index(inputs)]
                place = len(places)
                axis.scatter([place] * len(values), values, s=160 * counts / len(ranks), color=color)
                bound = largest_rank(inputs * (tokens - 1))
                theory_line(axis, [place - 0.4, place + 0.4], [bound, bound], linestyle="-")
                if "splitting" in data["solver"]:
                    split = there.sel(solver="splitting", inputs=inputs, tokens=tokens)
                    mean = split["counted"].where(split["feasible"] > 0).mean("problem_seed")
                    axis.plot(place, mean, color=color, marker="D", markersize=4, markerfacecolor="none")
                places.append(place)
                labels.append(f"{inputs}, {tokens}")
    axis.plot([], [], color="black", label="$r(r+1)/2 \\leq n(T-1)$")
    if "splitting" in data["solver"]:
        first_order = {"marker": "D", "markersize": 4, "markerfacecolor": "none", "linestyle": ""}
        axis.plot([], [], color="black", **first_order, label="first order, above 1e-7 (mean)")
    axis.set(xlabel="sequences $n$, tokens $T$", ylabel="rank", ylim=(0, 20))
    axis.set_xticks(places, labels)
    axis.set_yticks(range(0, 21, 5))
    axis.legend(loc="upper left")
