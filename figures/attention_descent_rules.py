"""Direction, norm and loss of attention weights by three rules, on the curves that the max margin problem predicts."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed
from theory_sim.attention import (
    direction_error_curve,
    gradient_excess_loss,
    normalized_loss_rate,
    normalized_norm,
    polyak_loss_rate,
    polyak_norm,
)
from theory_sim.plotting import COLORS, band, figure, log_axes, panel_label, theory_line

NAMES = {1.0: "normalised steps", 0.0: "gradient descent", 2.0: "Polyak's steps"}
COLOR = {1.0: COLORS[0], 0.0: COLORS[2], 2.0: COLORS[3]}


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(inputs=0, tokens=0, dim=0, longest_step=0, score_spread=0, run_seed=0)
    data = data.sel(step=slice(1, None), init_scale=0)
    cells = {power: data.sel(power=power, step_size=10.0 if power == 0 else 0.3) for power in NAMES}
    fig, axes = figure(columns=2, panels=(2, 2))
    draw_direction(axes[0, 0], cells)
    draw_norm(axes[0, 1], cells)
    draw_loss(axes[1, 0], cells)
    draw_path(axes[1, 1], cells)
    return fig


def draw_direction(axis, cells):
    panel_label(axis, "a", "direction")
    for power, runs in cells.items():
        values = by_seed(runs, "direction_error", "step")
        band(axis, runs["step"], values, color=COLOR[power], label=NAMES[power])
    for power, label in ((1.0, r"bounds $|r_\infty|\,/\,\|W_t\|$"), (2.0, None)):
        runs = cells[power]
        steps, residual = runs["step"].to_numpy(), np.median(by_seed(runs, "residual_limit"))
        norm = polyak_norm if power == 2 else normalized_norm
        given = (np.median(by_seed(runs, "margin_norm")),) if power == 2 else ()
        norms = norm(steps, runs["step_size"], *given)
        later = norms > 10 * residual
        theory_line(axis, steps[later], direction_error_curve(norms[later], residual), label=label)
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"$\|W/\|W\| - W^{mm}/\|W^{mm}\|\|_F$", ylim=(3e-6, 3))
    axis.legend(loc="lower left")


def draw_norm(axis, cells):
    panel_label(axis, "b", "norm")
    for power, runs in cells.items():
        band(axis, runs["step"], by_seed(runs, "norm", "step"), color=COLOR[power])
    steps = runs["step"].to_numpy()
    margin = np.median(by_seed(cells[2.0], "margin_norm"))
    late = steps[steps >= 30]
    theory_line(axis, late, normalized_norm(late, cells[1.0]["step_size"]))
    theory_line(axis, late, polyak_norm(late, cells[2.0]["step_size"], margin))
    slow = np.median(by_seed(cells[0.0], "norm", "step"), axis=0)
    later = steps >= steps[-1] / 100
    theory_line(axis, steps[later], slow[-1] + margin * np.log(steps[later] / steps[-1]))
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"$\|W\|_F$")
    place = {"transform": axis.transAxes, "va": "bottom", "ha": "right", "fontsize": 6.5}
    axis.text(0.72, 0.84, r"$\theta\,\|W^{mm}\|\,t$", **place)
    axis.text(0.99, 0.66, r"$\eta t$", **place)
    axis.text(0.97, 0.3, r"$\|W^{mm}\|\,\ln t$", **place)


def draw_loss(axis, cells):
    panel_label(axis, "c", "loss over its prediction")
    steps = cells[0.0]["step"].to_numpy()
    for power in (1.0, 2.0):
        runs = cells[power]
        size, margin = float(runs["step_size"]), by_seed(runs, "margin_norm")[:, None]
        slope = polyak_loss_rate(size) if power == 2 else normalized_loss_rate(size, margin)
        band(axis, steps, by_seed(runs, "log_excess_loss", "step") / (slope * steps), color=COLOR[power])
    runs = cells[0.0]
    curve = gradient_excess_loss(steps, runs["step_size"], by_seed(runs, "margin_norm")[:, None])
    band(axis, steps, np.exp(by_seed(runs, "log_excess_loss", "step")) / curve, color=COLOR[0.0])
    theory_line(axis, steps[[0, -1]], (1, 1))
    log_axes(axis, "x")
    axis.set(xlabel="step $t$", ylabel="ratio to the prediction", ylim=(0, 2), xlim=(10, None))
    words = "gradient descent: $(L-L_\\star)\\,\\eta t/\\|W^{mm}\\|^2$\n"
    words += "others: $\\log(L-L_\\star)$ / (rate $\\times\\,t$)"
    axis.text(0.97, 0.05, words, transform=axis.transAxes, va="bottom", ha="right", fontsize=6)


def draw_path(axis, cells):
    panel_label(axis, "d", "one path")
    for power, runs in cells.items():
        norms, errors = (by_seed(runs, metric, "step") for metric in ("norm", "direction_error"))
        for norm, error in zip(norms, errors, strict=True):
            axis.plot(norm, error, color=COLOR[power], alpha=0.5, linewidth=0.8)
    runs = cells[1.0]
    norms = np.geomspace(30, 3000, 20)
    curve = direction_error_curve(norms, np.median(by_seed(runs, "residual_limit")))
    theory_line(axis, norms, curve, label=r"bound $|r_\infty|\,/\,\|W\|$")
    log_axes(axis)
    axis.set(xlabel=r"$\|W\|_F$", ylabel="direction error", xlim=(0.3, 1e4), ylim=(3e-5, 3))
    axis.legend(loc="lower left")
