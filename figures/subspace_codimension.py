"""What subspaces reach in the problem of known codimension, projection by projection, and where training succeeds."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, log_axes, panel_label, theory_line
from theory_sim.subspace import condition_ratio, fastfood_loss_law, reachable_loss_law, unaligned

ONE = {"groups": 10, "ambient": 1000, "scattered": 0, "flipped": 0, "free": 0.0}
QUANTILES = (0.025, 0.5, 0.975)
AT = 7  # the dimension at which whole distributions are drawn


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(step=-1)
    fig, ((reach, kinds, one_hot), (fastfood, condition, success)) = figure(columns=2, panels=(2, 3))
    draw_reach(reach, data)
    draw_kinds(kinds, data)
    draw_one_hot(one_hot, data)
    draw_fastfood(fastfood, data)
    draw_condition(condition, data)
    draw_success(success, data)
    return fig


def draw_reach(axis, data):
    panel_label(axis, "a", "dense projection")
    for color, codimension, place in zip(COLORS, (10, 20), ((0.7, 0.04), (13.2, 0.6)), strict=False):
        if codimension not in data["groups"]:
            continue
        dims, ratios = cells(data, "best_ratio", groups=codimension)
        below = (dims > 0) & (dims < codimension)
        band(axis, dims[below], ratios[:, below], color=color, marker="o", linestyle="none")
        label_line(axis, f"$k = {codimension}$", *place, color=color)
        draw_law(axis, dims[below], [reachable_loss_law(codimension, int(d)) for d in dims[below]])
    label_line(axis, "Beta law: median,\n2.5% and 97.5%", 10.2, 0.84)
    axis.set(xlabel="subspace dimension $d$", ylabel="best loss / initial loss", ylim=(0, 1.02))


def draw_kinds(axis, data):
    panel_label(axis, "b", f"distributions at $d={AT}$")
    levels = np.linspace(0, 1, 200)
    lines = [
        ("dense", {}, "dense"),
        ("sparse", {}, "sparse"),
        ("signed_one_hot", {}, "signed one-hot"),
        ("fastfood", {"flipped": 1}, "Fastfood with signs"),
        ("one_hot", {}, "one-hot"),
    ]
    for color, (kind, changes, label) in zip(COLORS, lines, strict=False):
        draw_distribution(axis, data, kind, changes, color=color, label=label)
    theory_line(axis, levels, reachable_loss_law(10, AT).cdf(levels))
    theory_line(axis, levels, reachable_loss_law(10, AT, positive=True).cdf(levels))
    label_line(axis, "Beta law", 0.36, 0.55)
    axis.set(
        xlabel="best loss / initial loss", ylabel="share of projections below", xlim=(0, 1), ylim=(0, 1.02)
    )
    axis.legend(loc="lower right")


def draw_one_hot(axis, data):
    panel_label(axis, "c", "one-hot projections")
    for color, kind, place in (
        (COLORS[4], "one_hot", (0.8, 0.01)),
        (COLORS[2], "signed_one_hot", (6.2, 0.87)),
    ):
        if has(data, kind):
            dims, ratios = cells(data, "best_ratio", projection=kind)
            below = (dims > 0) & (dims < 10)
            band(axis, dims[below], ratios[:, below], color=color, marker="o", linestyle="none")
            label_line(axis, "positive" if kind == "one_hot" else "random signs", *place, color=color)
    dims = np.arange(1, 10)
    draw_law(axis, dims, [reachable_loss_law(10, int(d)) for d in dims])
    draw_law(axis, dims[1:], [reachable_loss_law(10, int(d), positive=True) for d in dims[1:]])
    theory_line(axis, dims[:2], [unaligned(10), reachable_loss_law(10, 2, positive=True).median()])
    axis.set(xlabel="subspace dimension $d$", ylabel="best loss / initial loss", ylim=(0, 1.02))


def draw_fastfood(axis, data):
    panel_label(axis, "d", f"Fastfood at $d={AT}$")
    levels = np.linspace(0, 1, 200)
    if has(data, "fastfood"):
        for color, changes, label in (
            (COLORS[0], {"scattered": 1}, "groups at random"),
            (COLORS[1], {}, "consecutive groups"),
            (COLORS[3], {"flipped": 1}, "random signs"),
        ):
            draw_distribution(axis, data, "fastfood", changes, color=color, label=label)
        axis.legend(loc="lower right")
    theory_line(axis, levels, reachable_loss_law(10, AT).cdf(levels))
    theory_line(axis, levels, fastfood_loss_law(1000, 10, AT).cdf(levels))
    label_line(axis, "Beta law", 0.08, 0.68)
    label_line(axis, "law of\nrandom groups", 0.6, 0.42)
    axis.set(
        xlabel="best loss / initial loss", ylabel="share of projections below", xlim=(0, 1), ylim=(0, 1.02)
    )


def draw_condition(axis, data):
    panel_label(axis, "e", "conditioning of the group sums")
    for color, kind, label in (
        (COLORS[0], "dense", "dense"),
        (COLORS[2], "signed_one_hot", "signed one-hot"),
        (COLORS[4], "one_hot", "one-hot"),
    ):
        if has(data, kind):
            dims, values = cells(data, "condition", projection=kind)
            used = dims > 0
            axis.plot(dims[used], np.median(values[:, used], axis=0), color=color, marker="o", label=label)
    dims, dense = cells(data, "condition", projection="dense")
    above = dims >= 15
    predicted = [condition_ratio(1000, 10, int(d)) for d in dims[above]]
    theory_line(axis, dims[above], np.median(dense[:, above], axis=0) * predicted)
    label_line(
        axis,
        r"dense $\times\ \sqrt{D/k}/(1+\sqrt{d/k})$",
        26,
        1.05,
        horizontalalignment="right",
        xytext=(0, 0),
    )
    log_axes(axis, "y")
    axis.set(xlabel="subspace dimension $d$", ylabel="condition number, median", ylim=(0.8, 3000))
    axis.legend(loc="upper right")


def draw_success(axis, data):
    panel_label(axis, "f", "success of training, dense")
    lines = [
        ({"ambient": 100}, "D = 100"),
        ({}, "D = 1000"),
        ({"ambient": 10_000}, "D = 10,000"),
        ({"free": 0.8}, "80% free"),
        ({"groups": 20}, "k = 20"),
    ]
    for color, (changes, label) in zip(COLORS, lines, strict=False):
        if all(value in data[name] for name, value in changes.items()):
            dims, performance = cells(data, "performance", **changes)
            axis.plot(dims, np.median(performance, axis=0), color=color, marker="o", label=label)
    for codimension in (10, 20):
        theory_line(axis, (codimension, codimension), (0, 1))
    label_line(axis, "$d = k$", 10.2, 0.1)
    axis.set(
        xlabel="subspace dimension $d$", ylabel=r"performance $e^{-\mathrm{loss}}$, median", xlim=(0.5, 41)
    )
    axis.legend(loc="center right", handlelength=1.2)


def draw_law(axis, dims, laws):
    for quantile in QUANTILES:
        theory_line(axis, dims, [law.ppf(quantile) for law in laws], linewidth=0.7)


def draw_distribution(axis, data, kind, changes, **line):
    if has(data, kind):
        dims, ratios = cells(data, "best_ratio", projection=kind, **changes)
        values = np.sort(ratios[:, dims == AT].ravel())
        axis.plot(values, (np.arange(len(values)) + 0.5) / len(values), **line)


def has(data, kind):
    return kind in data["projection"]


def cells(data, name, **changes):
    """Return the dimensions that were computed at some cells, and the metric there as [seeds, dims]."""
    chosen = computed(data.sel({**ONE, "projection": "dense", **changes}))
    return chosen["dim"].to_numpy(), by_seed(chosen, name, "dim")
