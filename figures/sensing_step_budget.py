"""What is learnt of the last direction over decay and scale of the start, and the budget at the threshold."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed, computed, time_to
from theory_sim.plotting import COLORS, figure, interval, log_axes, panel_label, theory_line
from theory_sim.sensing import growth_budget, learning_budget

SHAPE = ("dim", "true_rank", "step_size", "run_seed")


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(dict.fromkeys(SHAPE, 0)).isel(step=-1)
    fig, (population, gaussian, slopes) = figure(columns=2, panels=(1, 3))
    count = next(m for m in data["oversampling"].to_numpy() if m != "None")
    panel_label(population, "a", "population")
    draw_map(fig, population, data.sel(oversampling="None", condition_number=2.0), bar=False)
    panel_label(gaussian, "b", f"m = {count} d")
    draw_map(fig, gaussian, data.sel(oversampling=count, condition_number=2.0), bar=True)
    panel_label(slopes, "c", "budget at the threshold")
    for color, (m, kappa) in zip(COLORS, ((count, 2.0), ("None", 2.0), ("None", 1.0)), strict=False):
        draw_thresholds(
            slopes, data.sel(oversampling=m, condition_number=kappa), color, "s" if m == count else "o"
        )
    slopes.set(
        xlabel=r"$\log(1/\alpha)$", ylabel=r"$\sum_t \log(1+2\eta_0\rho^t)$", xlim=(3, 20), ylim=(0, 32)
    )
    slopes.legend(loc="upper left")
    return fig


def spectrum(data):
    return np.linspace(1, 1 / float(data["condition_number"]), data.sizes["direction"])


def draw_map(fig, axis, data, *, bar):
    learned = data["learned"].where(data["complete"]).min("direction").mean("problem_seed")
    growth, rates = np.log(1 / data["init_scale"].to_numpy()), 1 - data["decay"].to_numpy()
    image = axis.pcolormesh(
        growth, rates, learned.transpose("decay", "init_scale"), vmin=0, vmax=1, cmap="viridis", shading="nearest",
        rasterized=True,
    )  # fmt: skip
    values = spectrum(data)
    needed = float(learning_budget(values))
    line = np.linspace(growth.min() - 2, growth.max() + 2, 50)
    for factor, name, style in (
        (1, r"$S = \log(1/\alpha)$", ":"),
        (needed, rf"$S = \Lambda\log(1/\alpha)$, $\Lambda$ = {needed:.2f}", (0, (4, 1.6))),
        (values[0] / values[-1], rf"$S = \kappa\log(1/\alpha)$, $\kappa$ = {values[0] / values[-1]:g}", "-."),
    ):
        rate = 2 * float(data["step_size"]) / (factor * line)
        theory_line(axis, line, rate, label=name, color="red", linestyle=style)
    log_axes(axis, "y")
    axis.set(xlabel=r"$\log(1/\alpha)$", ylabel=r"decay $1-\rho$", xlim=(line[0], line[-1]))
    axis.set_ylim(rates.min() * 0.97, rates.max() * 2.2)
    axis.set_yticks([0.005, 0.01, 0.02, 0.05], ["0.005", "0.01", "0.02", "0.05"])
    axis.legend(loc="upper right", fontsize=5.5)
    if bar:
        bar_axis = fig.colorbar(image, ax=axis).ax
        bar_axis.set(ylabel="learnt share of the last direction")


def draw_thresholds(axis, data, color, marker):
    growth = np.log(1 / data["init_scale"].to_numpy())
    crossed = []
    for scale in data["init_scale"].to_numpy():
        cell = computed(data.sel(init_scale=[scale]))
        shares = by_seed(cell, "learned", "decay", "direction").min(axis=-1)
        crossed.append(
            time_to(growth_budget(float(data["step_size"]), cell["decay"].to_numpy()), 1 / shares, 2.0)
        )
    estimate = bootstrap(np.stack(crossed, axis=1))
    name = (
        "population" if str(data["oversampling"].item()) == "None" else f"m = {data['oversampling'].item()} d"
    )
    label = rf"{name}, $\kappa$ = {float(data['condition_number']):g}"
    interval(axis, growth, estimate, color=color, label=label, fmt=marker)
    slope = float(learning_budget(spectrum(data)))
    centre = float(np.mean(estimate.value))
    theory_line(axis, growth, centre + slope * (growth - growth.mean()), color=color, linewidth=0.8)
