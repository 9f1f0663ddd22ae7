"""Norm and direction of a prompt by two rules on their curves, and the lead of an input by the scale of its scores."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed
from theory_sim.attention import gradient_norm_slope, normalized_norm, score_lead
from theory_sim.plotting import COLORS, band, figure, interval, log_axes, panel_label, theory_line

RULES = {1.0: ("normalised steps", COLORS[0], 0.3), 0.0: ("gradient descent", COLORS[2], 10.0)}
LOSSES = {0.0: ("linear loss", COLORS[1]), 1.0: ("logistic loss", COLORS[4])}


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(score_spread=0, run_seed=0)
    fig, axes = figure(columns=2, panels=(1, 3), height=2.4)
    random = data.sel(instance="sphere", score_scale=1.0, sharpness=1.0, step=slice(1, None))
    draw_norm(axes[0], random)
    draw_direction(axes[1], random)
    draw_lead(axes[2], data.sel(instance="pair", power=1.0, step_size=0.3))
    return fig


def draw_norm(axis, data):
    panel_label(axis, "a", "norm of the prompt")
    steps = data["step"].to_numpy()
    for power, (name, color, size) in RULES.items():
        runs = data.sel(power=power, step_size=size)
        norms = by_seed(runs, "norm", "step")
        band(axis, steps, norms, color=color, label=name)
        if power == 1.0:
            theory_line(axis, steps, normalized_norm(steps, size))
        else:
            late = steps >= steps[-1] / 30
            slope = gradient_norm_slope(np.median(by_seed(runs, "margin_norm")))
            theory_line(axis, steps[late], np.median(norms[:, -1]) + slope * np.log(steps[late] / steps[-1]))
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"$\|p\|$")
    place = {"transform": axis.transAxes, "ha": "right", "fontsize": 6.5}
    axis.text(0.8, 0.83, r"$\eta t$", **place)
    axis.text(0.98, 0.36, r"slope $\|p^{mm}\|$ in $\ln t$", **place)
    axis.legend(loc="upper left")


def draw_direction(axis, data):
    panel_label(axis, "b", "error of the direction")
    steps = data["step"].to_numpy()
    for power, (_, color, size) in RULES.items():
        errors = by_seed(data.sel(power=power, step_size=size), "direction_error", "step")
        band(axis, steps, errors, color=color)
        if power == 1.0:
            late = steps >= steps[-1] / 30
            line = np.median(errors[:, -1]) * steps[-1] / steps[late]
            theory_line(axis, steps[late], line, label="slope $-1$")
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"$\|p/\|p\| - p^{mm}/\|p^{mm}\|\|$")
    axis.legend(loc="lower left")


def draw_lead(axis, data):
    panel_label(axis, "c", "a pair of inputs")
    scales = data["score_scale"].to_numpy()
    fine = np.geomspace(scales[0], scales[-1], 200)
    for number, (sharpness, (name, color)) in enumerate(LOSSES.items()):
        found = bootstrap(by_seed(data.sel(sharpness=sharpness), "lead", "score_scale"))
        interval(axis, scales, found, color=color, label=name)
        theory_line(axis, fine, score_lead(fine, sharpness), label=None if number else "derived")
    axis.set_yscale("symlog", linthresh=1)
    log_axes(axis, "x")
    axis.set(xlabel="scale $C$ of scores", ylabel=r"lead $a_2\cdot p - a_1\cdot p$")
    axis.legend(loc="lower left")
