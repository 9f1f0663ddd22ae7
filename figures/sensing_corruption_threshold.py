"""Success against the number of measurements, and the threshold against the share of good ones."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed, computed
from theory_sim.plotting import COLORS, figure, interval, label_line, log_axes, panel_label, theory_line
from theory_sim.sensing import corrupted_measurements
from theory_sim.study import load_module

STUDY = load_module(Path(__file__).parents[1] / "sweeps" / Path(__file__).name)
SUCCESS = STUDY.SUCCESS


def draw(data: xr.Dataset) -> Figure:
    whole = data
    data = data.isel(dict.fromkeys(("dim", "true_rank", "max_rank", "measurements", "init_scale"), 0)).isel(
        step=-1
    )
    data = data.squeeze(["step_size", "decay", "run_seed"])
    fig, (curves, collapse, points) = figure(columns=2, panels=(1, 3))
    draw_thresholds(points, whole)
    large = data.sel(outlier_std=data["outlier_std"].to_numpy().max())
    tiny = computed(data.sel(outlier_std=[data["outlier_std"].to_numpy().min()]))
    panel_label(curves, "a", f"recovery to {SUCCESS:g}, $d = r' = {int(data['dim'])}$")
    panel_label(collapse, "b", "in units of the prediction")
    for color, fraction in zip(COLORS, large["outlier_fraction"].to_numpy(), strict=False):
        cell = computed(large.sel(outlier_fraction=[fraction]))
        share = bootstrap((by_seed(cell, "error", "samples") < SUCCESS).astype(float))
        samples = cell["samples"].to_numpy()
        for axis, x in ((curves, samples), (collapse, samples / corrupted_measurements(1, fraction))):
            interval(axis, x, share, color=color, label=f"p = {fraction:g}", fmt="o-", linewidth=0.8)
    # The two lie on each other: what outliers that are smaller than the accuracy take does not matter.
    styles = (("-", "0.7", 3.0), (":", "black", 1.2))
    for (line, shade, width), fraction in zip(styles, tiny["outlier_fraction"].to_numpy(), strict=False):
        cell = tiny.sel(outlier_fraction=fraction)
        share = (by_seed(cell, "error", "samples") < SUCCESS).mean(axis=0)
        label = f"tiny, p = {fraction:g}"
        curves.plot(cell["samples"], share, color=shade, linestyle=line, linewidth=width, label=label)
    theory_line(collapse, (1, 1), (0, 0))
    label_line(collapse, r"one curve for all p", 0.04, 0.95, xycoords="axes fraction", xytext=(0, 0))
    for axis in (curves, collapse):
        log_axes(axis, "x")
        axis.set(ylabel="share of successes", ylim=(-0.03, 1.05))
    curves.set(xlabel="measurements $m$", xlim=(0.08, 4000))
    collapse.set(xlabel=r"$m\,(1-p)^2$", xlim=(10, 110))
    curves.legend(loc="upper left", fontsize=5.5)
    collapse.set_xticks([10, 20, 50, 100], ["10", "20", "50", "100"])
    return fig


def draw_thresholds(axis, data):
    panel_label(axis, "c", "where half succeed")
    deviations = data["outlier_std"].to_numpy()
    for color, name, deviation in zip(
        COLORS, ("large", "tiny"), (deviations.max(), deviations.min()), strict=False
    ):
        cells = computed(data.sel(outlier_std=[deviation]))
        fractions, found, _ = STUDY.thresholds(cells)
        interval(axis, 1 - fractions, found, color=color, label=f"{name} outliers")
        if name == "large":
            # The constant, which is not predicted, is that of the geometric mean.
            clean = np.exp(np.mean(np.log(found.value / corrupted_measurements(1, fractions))))
            line = np.array([fractions[0], fractions[-1]])
            theory_line(axis, 1 - line, corrupted_measurements(clean, line), label="$(1 - p)^{-2}$")
    log_axes(axis)
    ticks = 1 - data["outlier_fraction"].to_numpy()
    axis.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axis.minorticks_off()
    axis.set(xlabel="share of good measurements $1 - p$", ylabel="measurements $m$", ylim=(5, 3000))
    axis.legend(loc="lower left")
