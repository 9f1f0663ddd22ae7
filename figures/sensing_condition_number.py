"""Iterations against the condition number, with the population's prediction, and one learning curve of each method."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from theory_sim import by_seed, time_to
from theory_sim.plotting import COLORS, band, figure, log_axes, panel_label, theory_line
from theory_sim.sensing import (
    gauss_newton_rate,
    gradient_learning_curve,
    initial_share,
    prec_learning_curve,
    scaled_learning_curve,
)

FIXED = ("dim", "true_rank", "max_rank", "step_size", "init_scale")
LABELS = {
    "GD": "gradient descent",
    "ScaledGD(lambda)": r"ScaledGD($\lambda$)",
    "PrecGD": "PrecGD",
    "AGN": "AGN",
}
ACCURACY = 1e-4


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(dict.fromkeys(FIXED, 0))
    fig, (population, gaussian, curves) = figure(columns=2, panels=(1, 3))
    seen, measured = data["oversampling"].to_numpy()
    draw_iterations(population, data.sel(oversampling=seen), "population")
    draw_iterations(gaussian, data.sel(oversampling=measured), f"$m = {measured}\\,nr$")
    panel_label(population, "a", "population")
    panel_label(gaussian, "b", f"$m = {measured}\\,nr$")
    population.legend(loc="upper left", title=None)
    draw_curves(curves, data.sel(oversampling=seen).isel(condition_number=-1))
    return fig


def curve_of(algorithm, data, condition_number):
    """Return the predicted errors at all steps, from the mean log start; None for the method without a prediction."""
    values = np.linspace(1.0, 1.0 / condition_number, int(data["true_rank"]))
    start = initial_share(
        1.0,
        entry_variance=float(data["init_scale"]) ** 2 / int(data["dim"]),
        rank=int(data["max_rank"]),
        direction=np.arange(int(data["true_rank"])),
    )
    steps, step_size = int(data["step"][-1]), float(data["step_size"])
    return {
        "GD": lambda: gradient_learning_curve(steps, start, values, step_size),
        "ScaledGD(lambda)": lambda: scaled_learning_curve(steps, start, values, step_size, values[-1]),
        "PrecGD": lambda: prec_learning_curve(steps, start, values, step_size),
        "AGN": lambda: None,
    }[algorithm]()


def draw_iterations(axis, data, operator):
    kappa = np.sqrt(data["condition_number"].to_numpy())
    for color, algorithm in zip(COLORS, data["algorithm"].to_numpy(), strict=False):
        cell = data.sel(algorithm=algorithm)
        errors = by_seed(cell, "error", "condition_number", "step")
        times = time_to(cell["step"].to_numpy(), errors, ACCURACY)
        band(axis, kappa, times, color=color, label=LABELS[algorithm], marker="o")
        curves = [curve_of(algorithm, data, value) for value in data["condition_number"].to_numpy()]
        if operator == "population" and curves[0] is not None:
            label = "predicted" if algorithm == "PrecGD" else None
            theory_line(
                axis,
                kappa,
                [time_to(np.arange(curve.shape[-1]), curve, ACCURACY) for curve in curves],
                label=label,
            )
    if operator != "population":
        curves = [curve_of("GD", data, value) for value in data["condition_number"].to_numpy()]
        times = [time_to(np.arange(len(curve)), curve, ACCURACY) for curve in curves]
        theory_line(axis, kappa, times, label="(a) predicted")
        axis.legend(loc="upper left")
    log_axes(axis)
    axis.xaxis.set_major_locator(FixedLocator(kappa))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.minorticks_off()
    axis.set(
        xlabel=r"condition number $\kappa_X$ of the factor",
        ylabel="iterations to $10^{-4}$",
        ylim=(12, 1.5e4),
    )


def draw_curves(axis, data):
    kappa = float(data["condition_number"])
    panel_label(axis, "c", rf"population, $\kappa_X$ = {np.sqrt(kappa):g}")
    for color, algorithm in zip(COLORS, data["algorithm"].to_numpy(), strict=False):
        cell = data.sel(algorithm=algorithm)
        errors = np.maximum(by_seed(cell, "error", "step"), 1e-16)
        band(axis, data["step"], errors, color=color)
        curve = curve_of(algorithm, data, kappa)
        if curve is not None:
            visible = curve > 1e-13
            theory_line(axis, np.flatnonzero(visible), curve[visible])
        else:
            late = data["step"].to_numpy()
            late = late[late >= 15]
            middle = np.median(errors, axis=0)[data["step"].to_numpy() >= 15]
            slope = gauss_newton_rate(float(data["step_size"]))
            theory_line(axis, late, middle[0] * np.exp(slope * (late - late[0])))
    log_axes(axis)
    axis.set(xlabel="iteration $t$", ylabel=r"error $\|\cdot - M_\star\|_F$", ylim=(1e-9, 3), xlim=(5, None))
