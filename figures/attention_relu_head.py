"""What attention weights under ReLU neurons tend to: solutions by dimension, problem by problem, and what is kept."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed
from theory_sim.attention import PUBLISHED_ERRORS, untouched_start
from theory_sim.plotting import COLORS, figure, interval, log_axes, panel_label, theory_line

LABELS = {
    "one_token": "one token a sequence",
    "margin": r"$W^{mm}$, all margins",
    "finite_and_margin": r"$W_{fin} + c\,W^{mm}$",
    "live": r"$W_{fin} + c\,W_{live}$ (derived)",
}
COLOR = dict(zip(LABELS, COLORS, strict=False))


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(inputs=0, tokens=0, max_dim=0, run_seed=0).sel(leak=0.0)
    fig, axes = figure(columns=2, panels=(1, 3), height=2.4)
    draw_errors(axes[0], data)
    draw_problems(axes[1], data)
    draw_shares(axes[2], data)
    return fig


def draw_errors(axis, data):
    panel_label(axis, "a", "accepted problems")
    for name, label in LABELS.items():
        axis.plot([], [], "o", color=COLOR[name], label=label)
        for dim in data["dim"].to_numpy():
            cell = data.sel(dim=dim, solution=name)
            values = by_seed(cell, "error")[by_seed(cell, "accepted") == 1]
            if len(values) > 1:
                interval(axis, [dim], bootstrap(values[:, None]), color=COLOR[name])
        if name in PUBLISHED_ERRORS:
            axis.plot([4, 6, 8, 10], PUBLISHED_ERRORS[name], "x", color=COLOR[name], markersize=5)
    log_axes(axis, "y")
    axis.set(xlabel="dimension $d$", ylabel="$1 -$ corr with the solution", ylim=(1e-4, 300), xlim=(3, 11))
    axis.legend(loc="upper left", title=r"mean; $\times$ published", title_fontsize=6, fontsize=6)


def draw_problems(axis, data):
    panel_label(axis, "b", "several tokens selected")
    for name in ("finite_and_margin", "live"):
        points = []
        for dim in data["dim"].to_numpy():
            cell = data.sel(dim=dim, solution=name)
            kept = np.all([by_seed(cell, flag) == 1 for flag in ("accepted", "several", "pushed")], axis=0)
            points.append(np.stack([by_seed(cell, "norm")[kept], by_seed(cell, "error")[kept]]))
        axis.plot(*np.concatenate(points, axis=1), ".", color=COLOR[name], markersize=3, label=LABELS[name])
    norms = np.array([10.0, 200.0])
    least = untouched_start(4, int(data["inputs"]), int(data["tokens"]))
    theory_line(axis, norms, least / (2 * norms**2), label="what the start keeps, mean")
    log_axes(axis)
    axis.set(xlabel=r"$\|W\|_F$", ylabel="$1 -$ corr with the solution", ylim=(1e-8, 3))
    axis.legend(loc="lower left", fontsize=6)


def draw_shares(axis, data):
    panel_label(axis, "c", "what is kept")
    dims = data["dim"].to_numpy()
    for name, label, color in (
        ("accepted", "accepted", COLORS[0]),
        ("between", "attention in between", COLORS[1]),
    ):
        shares = [
            bootstrap(by_seed(data.sel(dim=d), name)[by_seed(data.sel(dim=d), "mixed") == 1][:, None])
            for d in dims
        ]
        for place, (dim, share) in enumerate(zip(dims, shares, strict=True)):
            interval(axis, [dim], share, color=color, label=None if place else label)
    axis.set(xlabel="dimension $d$", ylabel="share of problems", ylim=(0, 1.3), xlim=(3, 11))
    axis.legend(loc="upper right")
