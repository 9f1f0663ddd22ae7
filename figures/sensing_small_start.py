"""Least error against the scale of the start, its exponent against the measurements, and the delays."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import Estimate, by_seed, exponent, time_to
from theory_sim.plotting import COLORS, figure, interval, log_axes, panel_label, theory_line
from theory_sim.sensing import (
    asymmetric_small_start_error,
    noise_edge,
    small_start_exponent_bound,
    steps_per_decade,
    symmetric_small_start_error,
)

BOUNDS = {"symmetric": (21 / 16, "21/16"), "asymmetric": (4 / 3, "4/3")}


def draw(data: xr.Dataset) -> Figure:
    data = data.squeeze(["dim", "true_rank", "condition_number", "step_size"]).isel(rank=-1)
    fig, axes = figure(columns=2, panels=(2, 2))
    for axis, letter, form in zip(axes[0], "ab", BOUNDS, strict=True):
        draw_errors(axis, letter, form, data.sel(form=form))
    draw_exponents(axes[1, 0], data)
    draw_delays(axes[1, 1], data.sel(form="symmetric", coverage="None"))
    return fig


def coverages(data):
    """Return the coverages computed, as labels in increasing order, all seen last."""
    labels = data["coverage"].to_numpy()
    computed = data["complete"].any([d for d in data["complete"].dims if d != "coverage"]).to_numpy()
    return sorted(labels[computed], key=lambda label: np.inf if label == "None" else float(label))


def draw_errors(axis, letter, form, data):
    panel_label(axis, letter, f"{form}, n = {int(data['dim'])}, k = n")
    scales = data["init_scale"].to_numpy()
    for color, label in zip(COLORS, reversed(coverages(data)), strict=False):
        least = by_seed(data.sel(coverage=label), "error", "init_scale", "step").min(axis=-1)
        name = "all seen" if label == "None" else f"m = {label} N"
        axis.plot(scales, np.exp(np.log(least).mean(axis=0)), "o-", color=color, linewidth=0.7, label=name)
    power, words = BOUNDS[form]
    theory_line(axis, scales, scales**power, rf"$\alpha^{{{words}}}$ (bound, unconfirmed)", linestyle=":")
    sizes = [int(data[name]) for name in ("dim", "rank", "true_rank")]
    if form == "symmetric":
        tail = symmetric_small_start_error(scales, *sizes)
    else:
        tail = asymmetric_small_start_error(scales, 1.0, sizes[0], *sizes)
    theory_line(axis, scales, tail, r"Gaussian tail, $\alpha^2$")
    log_axes(axis)
    axis.set(xlabel=r"scale of the start $\alpha$", ylabel="least error, Frobenius norm", ylim=(1e-15, 1))
    axis.legend(loc="lower right", fontsize=5.5)


def draw_exponents(axis, data):
    panel_label(axis, "c", "exponent of the least error")
    scales, size = data["init_scale"].to_numpy(), int(data["dim"])
    values = np.linspace(1.0, 1.0 / float(data["condition_number"]), int(data["true_rank"]))
    for color, form in zip(COLORS, BOUNDS, strict=False):
        cell = data.sel(form=form)
        entries = size * (size + 1) // 2 if form == "symmetric" else size**2
        finite = [label for label in coverages(cell) if label != "None"]
        errors = [by_seed(cell.sel(coverage=c), "error", "init_scale", "step").min(axis=-1) for c in finite]
        fits = [exponent(scales, least, window=(scales[0], scales[-1])) for least in errors]
        together = Estimate(*(np.array([fit[part] for fit in fits]) for part in range(3)))
        interval(axis, [float(label) for label in finite], together, color=color, label=form)
        shares = np.geomspace(0.9, 50, 60)
        edge = noise_edge(shares * entries, size, None if form == "symmetric" else size)
        name = "first order, at least" if form == "asymmetric" else None
        theory_line(axis, shares, small_start_exponent_bound(edge, values), name, color=color)
        power, words = BOUNDS[form]
        theory_line(
            axis, (0.2, 50), (power, power), f"bound {words}, unconfirmed", linestyle=":", color=color
        )
    theory_line(axis, (0.2, 50), (2, 2), "all seen")
    log_axes(axis, "x")
    axis.set(xlabel="measurements over entries, m / N", ylabel=r"exponent in $\alpha$", ylim=(-0.1, 2.15))
    axis.legend(loc="lower right", fontsize=5.5)


def draw_delays(axis, data):
    panel_label(axis, "d", "steps until learnt, all seen")
    steps, scales = data["step"].to_numpy(), data["init_scale"].to_numpy()
    learned = by_seed(data, "learned", "init_scale", "direction", "step")
    times = np.minimum(time_to(steps, (1 - learned) / np.maximum(learned, 1e-300), 1.0), steps[-1])
    for place, color in zip(range(times.shape[2]), COLORS, strict=False):
        mean = times[:, :, place].mean(axis=0)
        value = 1.0 if place == 0 else 1.0 / float(data["condition_number"])
        decade = float(steps_per_decade(float(data["step_size"]), value))
        axis.plot(scales, mean, "o", color=color, label=rf"$\sigma_{place + 1} = {value:.3g}$")
        name = r"$\ln 10\,/\ln(1 + \mu\sigma_s)$ a decade" if place else None
        theory_line(axis, scales, mean[-1] + decade * np.log10(scales[-1] / scales), name)
    axis.set(xlabel=r"scale of the start $\alpha$", ylabel="step", xscale="log", ylim=(0, None))
    axis.legend(loc="upper right")
