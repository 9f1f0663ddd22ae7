"""Three descents from one start, the rate on its curvature, and what scales and step sizes do to it."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, decay, time_to
from theory_sim.plotting import COLORS, band, figure, label_line, log_axes, panel_label, theory_line
from theory_sim.sensing import asymmetric_linear_rate, symmetric_error_curve

SHAPE = ("dim", "true_rank", "max_rank", "condition_number")
LATE = (1e-6, 1e-10)
POINT = {"marker": "o", "markersize": 2.2, "linestyle": "none"}


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(dict.fromkeys(SHAPE, 0))
    fig, axes = figure(columns=2, panels=(2, 3))
    asymmetric = data.sel({"algorithm": "asymmetric", "rank": 4})
    eta = float(data["step_size"][-1])
    draw_descents(axes[0, 0], data.sel(step_size=eta, init_scale=0.3, right_scale=1 / 3, rank=4))
    draw_curvatures(axes[0, 1], asymmetric.sel(step_size=eta))
    draw_times(axes[0, 2], asymmetric.sel(step_size=eta, right_scale=1 / 3))
    draw_drift(axes[1, 0], asymmetric.sel(init_scale=0.6, right_scale=1 / 3, rebalance=0))
    draw_changed(axes[1, 1], asymmetric.sel(step_size=eta, right_scale=1 / 3))
    draw_ratios(axes[1, 2], asymmetric.sel(step_size=eta, init_scale=0.6, rebalance=0))
    return fig


def rates(cell):
    return decay(cell["step"].to_numpy(), by_seed(cell, "error", "step"), between=LATE)


def computed(data, axis):
    """Yield the values of an axis that were computed, and their cells."""
    for value in data[axis].to_numpy():
        cell = data.sel({axis: value})
        if cell["complete"].any():
            yield value, cell


def draw_descents(axis, data):
    panel_label(axis, "a", "over-specified, three descents")
    steps = data["step"].to_numpy()
    shown = steps > 0
    cells = {
        "symmetric": {"algorithm": "symmetric", "rebalance": 0},
        "asymmetric": {"algorithm": "asymmetric", "rebalance": 0},
        "one change": {"algorithm": "asymmetric", "rebalance": 0.5},
    }
    for color, (label, where) in zip(COLORS, cells.items(), strict=False):
        cell = data.sel(where)
        band(axis, steps[shown], by_seed(cell, "error", "step")[:, shown], color=color, label=label)
    eta = float(data["step_size"])
    symmetric = by_seed(data.sel(cells["symmetric"]), "tail_start", "mode")
    later = steps > 30 / eta
    curve = np.median(symmetric_error_curve(steps[later], symmetric[:, None], eta), axis=0)
    theory_line(axis, steps[later], curve, label="theory")
    for where, first in (("asymmetric", 2000), ("one change", 300)):
        cell = data.sel(cells[where])
        error = np.median(by_seed(cell, "error", "step"), axis=0)
        at = np.argmin(np.abs(steps - first))
        line = (steps >= steps[at]) & (error > 1e-14)
        curvature = 0.25 if where == "one change" else np.median(by_seed(cell, "tail_curvature"))
        slope = asymmetric_linear_rate(eta, curvature)
        theory_line(axis, steps[line], error[at] * np.exp(slope * (steps[line] - steps[at])))
    medians = [
        np.median(by_seed(data.sel(cells[name]), "error", "step"), axis=0)
        for name in ("asymmetric", "symmetric")
    ]
    last = np.flatnonzero(medians[0] > medians[1])[-1]
    axis.plot(steps[last], medians[1][last], marker="o", markersize=4, color="black", fillstyle="none")
    label_line(axis, f"crossover, step {steps[last]}", steps[last], medians[1][last], xytext=(6, 6))
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"error $\|FG^T - M_\star\|_F$", ylim=(1e-15, 3))
    axis.legend(loc="lower left")


def draw_curvatures(axis, data):
    panel_label(axis, "b", "rate and least curvature")
    for color, scale in zip(COLORS, (0.0, 1 / 3, 0.5, 1.0), strict=False):
        cells = [cell for _, cell in computed(data.sel(right_scale=scale, rebalance=0), "init_scale")]
        curvature = "tail_curvature" if scale else "right_curvature"
        x = np.concatenate([by_seed(cell, curvature) for cell in cells])
        rate = np.concatenate([slope_per_step(cell) for cell in cells])
        axis.plot(x, rate, color=color, label=f"$c$ = {scale:.2g}", **POINT)
    for beta in (0.4, 0.5, 0.6):
        changed = data.sel(right_scale=1 / 3, rebalance=beta)
        rate = np.concatenate([slope_per_step(cell) for _, cell in computed(changed, "init_scale")])
        label = "one change" if beta == 0.4 else None
        axis.plot(np.full(len(rate), beta**2), rate, color=COLORS[4], label=label, **POINT)
    theory_line(axis, (5e-3, 1), (5e-3, 1), label="theory")
    log_axes(axis)
    axis.set(xlabel=r"curvature of the last $F$ ($G$ at $c=0$); $\beta^2$", ylabel=r"rate $/\,\eta$")
    axis.legend(loc="upper left")


def slope_per_step(cell):
    """Return the curvature that the measured rate stands for: `(1 - exp(-rate)) / eta`."""
    return -np.expm1(-rates(cell)) / float(cell["step_size"])


def draw_times(axis, data):
    panel_label(axis, "c", r"time to $10^{-10}$")
    for color, (label, beta) in zip(COLORS[1:], (("asymmetric", 0.0), ("one change", 0.5)), strict=False):
        points = []
        for value, cell in computed(data.sel(rebalance=beta), "init_scale"):
            times = time_to(cell["step"].to_numpy(), by_seed(cell, "error", "step"), 1e-10)
            if np.isinf(times).any():
                continue  # the small starts of the crossover, whose decay is longer than the record
            axis.plot(np.full(len(times), value), times, color=color, alpha=0.5, **POINT)
            points.append((value, np.exp(np.log(times).mean())))
        axis.plot(*np.transpose(points), color=color, label=label)
        scale, time = points[-1]
        power = -2 if beta == 0 else 0
        x = np.array([points[0][0], scale])
        theory_line(axis, x, time * (x / scale) ** power, label=rf"slope ${power}$" if power else "flat")
    log_axes(axis)
    axis.set(xlabel=r"scale of the start $\alpha$", ylabel="step", ylim=(250, 4e4))
    axis.legend(loc="upper right")


def draw_drift(axis, data):
    panel_label(axis, "d", "drift of the imbalance")
    ends = [(eta, by_seed(cell, "drift", "step")[:, -1]) for eta, cell in computed(data, "step_size")]
    for eta, drift in ends:
        axis.plot(np.full(len(drift), eta), drift, color=COLORS[1], alpha=0.5, **POINT)
    eta, mean = np.transpose([(eta, np.exp(np.log(drift).mean())) for eta, drift in ends])
    axis.plot(eta, mean, color=COLORS[1])
    theory_line(axis, eta, mean[0] * eta / eta[0], label="slope 1")
    log_axes(axis)
    axis.set(xlabel=r"step size $\eta$", ylabel=r"$\|\Delta_\infty - \Delta_0\|_F$")
    axis.legend(loc="upper left")


def draw_changed(axis, data):
    panel_label(axis, "e", "rate after one change")
    for color, scale in zip(COLORS, (0.05, 0.1, 0.3, 0.6), strict=False):
        points = [
            (beta, slope_per_step(cell)) for beta, cell in computed(data.sel(init_scale=scale), "rebalance")
        ]
        points = [(beta, slopes) for beta, slopes in points if beta]
        beta, mean = np.transpose([(beta, slopes.mean()) for beta, slopes in points])
        axis.plot(beta, mean, color=color, marker="o", label=rf"$\alpha = {scale:g}$")
    beta = np.linspace(0.35, 0.85, 80)
    sigma = 1 / float(data["condition_number"])
    theory_line(
        axis, beta, np.minimum(beta**2, sigma**2 / beta**2), label=r"$\min(\beta^2, \sigma_r^2/\beta^2)$"
    )
    axis.set(xlabel=r"$\beta$", ylabel=r"rate $/\,\eta$", ylim=(0.1, None))
    axis.legend(loc="lower right")


def draw_ratios(axis, data):
    panel_label(axis, "f", r"ratio of the starts, $\alpha = 0.6$")
    steps = data["step"].to_numpy()
    for color, (scale, cell) in zip(COLORS, computed(data, "right_scale"), strict=False):
        error = by_seed(cell, "error", "step")
        band(axis, steps, error, color=color, label=f"$c$ = {scale:.2g}")
        middle = np.median(error, axis=0)
        line = np.flatnonzero((middle < 1e-6) & (middle > 1e-13))
        curvature = np.median(by_seed(cell, "tail_curvature" if scale else "right_curvature"))
        slope = asymmetric_linear_rate(float(cell["step_size"]), curvature)
        theory_line(axis, steps[line], middle[line[0]] * np.exp(slope * (steps[line] - steps[line[0]])))
    axis.set(xlabel="step $t$", ylabel="error", yscale="log", ylim=(1e-13, 1e4), xlim=(0, 1500))
    axis.legend(loc="upper right", ncols=2)
