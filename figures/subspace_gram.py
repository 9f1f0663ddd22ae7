"""Column norms and overlaps of every projection, and the size of adapters at their start in one-hot ones."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, figure, label_line, log_axes, panel_label, theory_line
from theory_sim.subspace import adapter_spread, gram_moments

D = 1000
KINDS = {
    "dense": "dense",
    "sparse": "sparse",
    "fastfood": "Fastfood",
    "one_hot": "one-hot",
    "signed_one_hot": "signed\none-hot",
    "vera": "VeRA",
}
ONE = {"cols": 100, "start": 0.02, "projected": 1}
ROUNDING = 1e-17


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(step=-1)
    fig, (norms, overlaps, start) = figure(columns=2, panels=(1, 3))
    draw_norms(norms, data)
    draw_overlaps(overlaps, data)
    draw_start(start, data)
    return fig


def draw_norms(axis, data):
    panel_label(axis, "a", "squared column norms")
    shown = [kind for kind in KINDS if kind in data["projection"]]
    for place, kind in enumerate(shown):
        spread = np.sqrt(values(data, "norm_square_error", kind)[:, -1].mean())
        axis.plot(place, max(spread, ROUNDING), marker="o", color=color_of(kind))
        predicted = [kind_law(kind, "norm_variance")]
        if predicted[0]:
            theory_line(axis, (place - 0.35, place + 0.35), np.sqrt(predicted * 2))
    label_line(axis, r"$\sqrt{2(1/D-1/L)}$", 2.5, 4e-3) if "fastfood" in shown else None
    label_line(axis, "unit norm, but for rounding", 0, 1e-14, xytext=(-4, 0))
    name_kinds(axis, shown)
    log_axes(axis, "y")
    axis.set(xlabel="projection", ylabel="rms of (squared norm - 1)", ylim=(ROUNDING / 3, 30))


def draw_overlaps(axis, data):
    panel_label(axis, "b", "overlap of columns")
    for kind, label in KINDS.items():
        if kind in data["projection"] and kind_law(kind, "inner_product_variance"):
            dims, overlap = data["dim"].to_numpy(), np.sqrt(values(data, "overlap", kind))
            low, high = np.quantile(overlap, [0.025, 0.975], axis=0)
            middle = np.median(overlap, axis=0)
            axis.plot(dims, middle, marker="o", color=color_of(kind), label=label.replace("\n", " "))
            axis.fill_between(dims, low, high, color=color_of(kind), alpha=0.2, linewidth=0)
            theory_line(axis, dims, [np.sqrt(kind_law(kind, "inner_product_variance"))] * len(dims))
    label_line(axis, "$1/\\sqrt{D}$", 62, 0.0316, xytext=(0, 3))
    label_line(axis, "$\\sqrt{1/D+1/L}$", 62, 0.0445, xytext=(0, 3))
    axis.set(xlabel="subspace dimension $d$", ylabel="rms overlap of two columns", ylim=(0.02, 0.066))
    axis.legend(loc="upper right")


def draw_start(axis, data):
    panel_label(axis, "c", "adapters at the start")
    dims = data["dim"].to_numpy()
    for kind in ("one_hot", "signed_one_hot"):
        if kind in data["projection"]:
            rms = np.sqrt(values(data, "update_square", kind).mean(axis=0))
            label = KINDS[kind].replace("\n", " ")
            size = {"markersize": 6 if kind == "one_hot" else 3}
            axis.plot(dims, rms, marker="o", linestyle="none", color=color_of(kind), label=label, **size)
    fine = np.linspace(dims.min(), dims.max(), 50)
    theory_line(axis, fine, [adapter_spread(D, d, rank=4, start=0.02) for d in fine])
    label_line(axis, r"$\sqrt{r}\,(0.02^2/3)\,d/D$", 58, 1.2e-5, xytext=(4, -4))
    axis.set(xlabel="subspace dimension $d$", ylabel="rms entry of $\\Delta W = BA$")
    axis.legend(loc="upper left")


def kind_law(kind, name):
    """Return a predicted variance; VeRA's columns have none of their own."""
    return 0.0 if kind == "vera" else getattr(gram_moments(kind, D), name)


def color_of(kind):
    return COLORS[list(KINDS).index(kind)]


def name_kinds(axis, shown):
    axis.set_xticks(range(len(shown)), [KINDS[kind] for kind in shown], rotation=60)


def values(data, name, kind):
    """Return a metric of one projection as [seeds, dims]."""
    return by_seed(computed(data.sel({**ONE, "projection": kind})), name, "dim")
