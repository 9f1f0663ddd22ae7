"""Error against step from few and many measurements, and what they do to the rate, at every scale of the start."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed, decay
from theory_sim.plotting import COLORS, band, figure, interval, label_line, log_axes, panel_label, theory_line
from theory_sim.sensing import asymmetric_linear_rate, finite_rate_edge, finite_rate_factor

LATE = (1e-4, 1e-7)
BETA = 0.5


def draw(data: xr.Dataset) -> Figure:
    data = data.squeeze(("dim", "true_rank", "max_rank", "condition_number", "step_size"))
    fig, (curves, factors, starts) = figure(columns=2, panels=(1, 3))
    finite = [value for value in data["oversampling"].to_numpy() if value != "None"]
    draw_curves(curves, data.sel(init_scale=0.6), finite)
    draw_factors(factors, data.sel(init_scale=0.6), finite)
    draw_starts(starts, data.sel(rebalance=BETA), finite)
    return fig


def relative(cell):
    """Return each seed's rate over the population's from the same curvature."""
    rates = decay(cell["step"].to_numpy(), by_seed(cell, "error", "step"), between=LATE)
    curvature = by_seed(cell, "tail_curvature") if float(cell["rebalance"]) == 0 else BETA**2
    return rates / -asymmetric_linear_rate(float(cell["step_size"]), curvature)


def names(finite):
    """Return the operators with their labels, from the population to the fewest measurements."""
    return {"None": "population"} | {count: f"$m$ = {count} $nr$" for count in reversed(finite)}


def draw_curves(axis, data, finite):
    panel_label(axis, "a", r"$\alpha = 0.6$; dotted: one change")
    for color, (count, label) in zip(COLORS, names(finite).items(), strict=False):
        for rebalance, line in ((0.0, "-"), (BETA, ":")):
            cell = data.sel(oversampling=count, rebalance=rebalance)
            errors = np.maximum(by_seed(cell, "error", "step"), 1e-16)
            band(axis, cell["step"], errors, color=color, linestyle=line, label=None if rebalance else label)
    log_axes(axis, "y")
    axis.set(xlabel="step $t$", ylabel=r"error $\|FG^T - M_\star\|_F$", ylim=(1e-12, 1e5))
    axis.legend(loc="upper right", ncols=2)


def draw_factors(axis, data, finite):
    panel_label(axis, "b", "rate over the population's")
    counts = np.array([float(count) for count in finite])
    sizes = [int(data[name]) for name in ("dim", "dim", "true_rank")]
    fine = np.geomspace(counts[0] * 0.9, counts[-1] * 1.1, 60)
    measurements = fine * sizes[0] * sizes[2]
    mean = finite_rate_factor(measurements, *sizes)
    theory_line(axis, fine, mean)
    label_line(axis, "mean curvature", fine[25], mean[25], ha="right", va="bottom", xytext=(0, 2))
    edge = finite_rate_edge(measurements, *sizes, int(data["max_rank"]))
    theory_line(axis, fine, edge)
    label_line(axis, "least", fine[-14], edge[-14], ha="left", va="top", xytext=(2, -3))
    for color, (rebalance, label) in zip(
        COLORS[1:], ((0.0, "no change"), (BETA, "one change")), strict=False
    ):
        cells = [relative(data.sel(oversampling=count, rebalance=rebalance)) for count in finite]
        interval(axis, counts, bootstrap(np.stack(cells, axis=1)), color=color, label=label)
    axis.axhline(1, color="0.7", linewidth=0.6)
    log_axes(axis, "x")
    axis.set_xticks(counts, finite)
    axis.minorticks_off()
    axis.set(xlabel="$m/(nr)$", ylabel="relative rate", ylim=(0, 1.4))
    axis.legend(loc="upper left")


def draw_starts(axis, data, finite):
    panel_label(axis, "c", "one change: any start")
    scales = data["init_scale"].to_numpy()
    for color, (count, label) in zip(COLORS, names(finite).items(), strict=False):
        cells = [relative(data.sel(oversampling=count, init_scale=scale)) for scale in scales]
        estimate = bootstrap(np.stack(cells, axis=1))
        interval(axis, scales, estimate, color=color, label=label)
        flat = np.full(len(scales), estimate.value.mean())
        theory_line(axis, scales, flat, label="flat" if count == finite[0] else None)
    log_axes(axis, "x")
    axis.set_xticks(scales, [f"{scale:g}" for scale in scales])
    axis.minorticks_off()
    axis.set(xlabel=r"scale of the start $\alpha$", ylabel="relative rate", ylim=(0, 1.6))
    axis.legend(loc="upper right", ncols=2)
