"""Direction, norm and loss of attention weights by each rule, on the curves that the max margin problem predicts."""

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

NAMES = {
    "normalized": "normalised, log domain",
    "published": "normalised, published",
    "gradient": "gradient descent",
    "polyak": "Polyak",
}
COLOR = dict(zip((*NAMES, "key_query"), COLORS, strict=False))


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(inputs=0, tokens=0, dim=0, longest_step=0, run_seed=0).sel(step=slice(1, None))
    fig, axes = figure(columns=2, panels=(2, 3))
    equal = {name: cell(data, name, 0.0) for name in NAMES}
    draw_direction(axes[0, 0], equal)
    draw_norm(axes[0, 1], equal)
    draw_loss(axes[0, 2], equal)
    draw_path(axes[1, 0], equal)
    draw_residual(axes[1, 1], equal)
    draw_factors(axes[1, 2], data)
    return fig


def cell(data, training, spread):
    size = 10.0 if training == "gradient" else 0.3
    return data.sel(training=training, score_spread=spread, step_size=size)


def draw_direction(axis, cells):
    panel_label(axis, "a", "direction")
    for name, runs in cells.items():
        band(
            axis, runs["step"], by_seed(runs, "direction_error", "step"), color=COLOR[name], label=NAMES[name]
        )
    runs = cells["normalized"]
    steps, residual = runs["step"].to_numpy(), np.median(by_seed(runs, "residual_limit"))
    later = steps > 30 * residual
    curve = direction_error_curve(normalized_norm(steps[later], runs["step_size"]), residual)
    theory_line(axis, steps[later], curve, label=r"bound $|r_\infty|\,/\,\eta t$")
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"$\|W/\|W\| - W^{mm}/\|W^{mm}\|\|_F$", ylim=(3e-6, 3))
    axis.legend(loc="lower left")


def draw_norm(axis, cells):
    panel_label(axis, "b", "norm")
    for name, runs in cells.items():
        band(axis, runs["step"], by_seed(runs, "norm", "step"), color=COLOR[name])
    steps = runs["step"].to_numpy()
    margin = np.median(by_seed(cells["polyak"], "margin_norm"))
    late = steps[steps >= 30]
    theory_line(axis, late, normalized_norm(late, cells["normalized"]["step_size"]))
    theory_line(axis, late, polyak_norm(late, cells["polyak"]["step_size"], margin))
    slow = np.median(by_seed(cells["gradient"], "norm", "step"), axis=0)
    later = steps >= steps[-1] / 100
    theory_line(axis, steps[later], slow[-1] + margin * np.log(steps[later] / steps[-1]))
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"$\|W\|_F$")
    place = {"va": "bottom", "ha": "right", "fontsize": 6.5}
    axis.text(0.7, 0.84, r"$\theta\,\|W^{mm}\|\,t$", transform=axis.transAxes, **place)
    axis.text(0.97, 0.68, r"$\eta t$", transform=axis.transAxes, **place)
    axis.text(0.97, 0.3, r"$\|W^{mm}\|\,\ln t$", transform=axis.transAxes, **place)


def draw_loss(axis, cells):
    panel_label(axis, "c", "loss over its prediction")
    steps = cells["gradient"]["step"].to_numpy()
    for name, rate in (
        ("normalized", normalized_loss_rate),
        ("published", normalized_loss_rate),
        ("polyak", None),
    ):
        runs = cells[name]
        size, margin = float(runs["step_size"]), by_seed(runs, "margin_norm")[:, None]
        slope = polyak_loss_rate(size) if rate is None else rate(size, margin)
        band(axis, steps, by_seed(runs, "log_excess_loss", "step") / (slope * steps), color=COLOR[name])
    runs = cells["gradient"]
    curve = gradient_excess_loss(steps, runs["step_size"], by_seed(runs, "margin_norm")[:, None])
    band(axis, steps, np.exp(by_seed(runs, "log_excess_loss", "step")) / curve, color=COLOR["gradient"])
    theory_line(axis, steps[[0, -1]], (1, 1))
    log_axes(axis, "x")
    axis.set(xlabel="step $t$", ylabel="ratio to the prediction", ylim=(0, 2), xlim=(10, None))
    words = "gradient descent:\n$(L-L_\\star)\\,\\eta t/\\|W^{mm}\\|^2$\n\n"
    words += "others:\n$\\log(L-L_\\star)$ / (rate $\\times\\,t$)"
    axis.text(0.03, 0.05, words, transform=axis.transAxes, va="bottom", ha="left", fontsize=5.5)


def draw_path(axis, cells):
    panel_label(axis, "d", "one path")
    for name, runs in cells.items():
        norms, errors = (by_seed(runs, metric, "step") for metric in ("norm", "direction_error"))
        for norm, error in zip(norms, errors, strict=True):
            axis.plot(norm, error, color=COLOR[name], alpha=0.5, linewidth=0.8)
    runs = cells["normalized"]
    norms = np.geomspace(30, 3000, 20)
    curve = direction_error_curve(norms, np.median(by_seed(runs, "residual_limit")))
    theory_line(axis, norms, curve, label=r"bound $|r_\infty|\,/\,\|W\|$")
    log_axes(axis)
    axis.set(xlabel=r"$\|W\|_F$", ylabel="direction error", xlim=(0.3, 1e4), ylim=(3e-5, 3))
    axis.legend(loc="lower left")


def draw_residual(axis, cells):
    panel_label(axis, "e", "across the margin direction")
    for name, runs in cells.items():
        share = by_seed(runs, "residual", "step") / by_seed(runs, "residual_limit")[:, None]
        band(axis, runs["step"], share, color=COLOR[name])
    theory_line(axis, runs["step"][[0, -1]], (1, 1))
    log_axes(axis, "x")
    axis.set(xlabel="step $t$", ylabel=r"$|r_t|\,/\,|r_\infty|$", ylim=(0, 2))


def draw_factors(axis, data):
    panel_label(axis, "f", "weights, and key and query")
    weights, factors = cell(data, "normalized", 1.0), cell(data, "key_query", 1.0)
    for runs, name, words in ((weights, "normalized", "$W$"), (factors, "key_query", "$KQ^T$")):
        for metric, line, norm in (("direction_error", "-", "Frobenius"), ("nuclear_error", ":", "nuclear")):
            values = by_seed(runs, metric, "step")
            band(axis, runs["step"], values, color=COLOR[name], linestyle=line, label=f"{words} to {norm}")
    steps = weights["step"].to_numpy()
    residual = np.median(by_seed(weights, "residual_limit"))
    later = steps > 30 * residual
    theory_line(
        axis,
        steps[later],
        direction_error_curve(normalized_norm(steps[later], weights["step_size"]), residual),
    )
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel="direction error", ylim=(3e-5, 3))
    axis.legend(loc="lower left")
