"""Joint training: which max margin prompt is reached at which ratio of the steps, the head, the loss, and the norms."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed
from theory_sim.attention import joint_log_loss, path_norm_slope
from theory_sim.plotting import COLORS, band, figure, interval, log_axes, panel_label, theory_line

TARGETS = {
    "plain_error": ("equal margins", COLORS[1]),
    "relaxed_error": ("relaxed", COLORS[2]),
    "paced_error": ("from the ratio of the steps", COLORS[0]),
}
FAST = 2.0


def draw(data: xr.Dataset) -> Figure:
    data = data.sel(alignment=0.3).isel(step_size=0, run_seed=0).sel(step=slice(1, None))
    started = data.sel(head_scale=0.0)
    fig, axes = figure(columns=2, panels=(2, 2))
    ratios = [ratio for ratio in data["head_ratio"].to_numpy() if ratio > 0]
    draw_targets(axes[0, 0], started.sel(decay=0.0, together=0, head_ratio=ratios))
    draw_errors(axes[0, 1], started.sel(decay=0.0, together=0, head_ratio=FAST))
    draw_loss(axes[1, 0], started.sel(together=0, head_ratio=FAST))
    draw_path(axes[1, 1], started.sel(decay=0.0, head_ratio=1.0))
    return fig


def draw_targets(axis, data):
    panel_label(axis, "a", "prompt after the last step")
    ratios = data["head_ratio"].to_numpy()
    for name, (label, color) in TARGETS.items():
        found = bootstrap(by_seed(data.isel(step=-1), name, "head_ratio"))
        interval(axis, ratios, found, color=color, label=label, linestyle="-")
    theory_line(axis, ratios[[0, -1]], [0, 0])
    log_axes(axis, "x")
    axis.set(
        xlabel=r"ratio of the steps $\eta_v/\eta_p$",
        ylabel="distance from the direction of",
        ylim=(-0.04, 1.05),
    )
    axis.legend(loc="upper left")


def draw_errors(axis, data):
    panel_label(axis, "b", rf"directions, $\eta_v = {FAST:g}\,\eta_p$")
    steps = data["step"].to_numpy()
    for name, label, color in (
        ("plain_error", "prompt, equal margins", COLORS[1]),
        ("relaxed_error", "prompt, relaxed", COLORS[2]),
        ("head_error", "head", COLORS[3]),
    ):
        band(axis, steps, by_seed(data, name, "step"), color=color, label=label)
    late = steps >= steps[-1] / 30
    middle = np.median(by_seed(data, "relaxed_error", "step")[:, -1])
    theory_line(axis, steps[late], middle * steps[-1] / steps[late], label="slope $-1$")
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel="error of the direction")
    axis.legend(loc="lower left")


def draw_loss(axis, data):
    panel_label(axis, "c", "loss")
    steps = data["step"].to_numpy()
    size = float(data["step_size"]) * FAST
    for number, (decay, label) in enumerate(
        ((0.0, "constant steps"), (2 / 3, r"steps $\propto (t+1)^{-2/3}$"))
    ):
        runs = data.sel(decay=decay, method="nearest")
        logs = -by_seed(runs, "log_loss", "step")
        band(axis, steps, logs, color=COLORS[number], label=label)
        margin = np.median(by_seed(runs, "head_margin"))
        curve = -joint_log_loss(steps, size, margin, decay)
        theory_line(axis, steps, curve, label=None if number else r"$m\,\eta_v \sum_s s^{-\mathrm{decay}}$")
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"$-\ln L$")
    axis.legend(loc="upper left")


def draw_path(axis, data):
    panel_label(axis, "d", "norms")
    for number, (together, label) in enumerate(((1, "along the gradient of both"), (0, "normalised apart"))):
        runs = data.sel(together=together)
        heads, norms = (by_seed(runs, name, "step") for name in ("head_norm", "norm"))
        shares = norms / path_norm_slope(by_seed(runs, "relaxed_norm"))[:, None]
        for i, (head, share) in enumerate(zip(heads, shares, strict=True)):
            axis.plot(head, share, color=COLORS[number], alpha=0.5, lw=0.8, label=None if i else label)
        if together:
            end = np.median(heads[:, -1]), np.median(shares[:, -1])
            along = np.geomspace(end[0] / 30, end[0], 20)
            theory_line(axis, along, end[1] + np.log(along / end[0]), label="slope 1")
    log_axes(axis, "x")
    axis.set(xlabel=r"$\|v\|$", ylabel=r"$\|p\|\,/\,2\|p_{relaxed}\|$", xlim=(1, None), ylim=(0, 12))
    axis.legend(loc="upper right")
