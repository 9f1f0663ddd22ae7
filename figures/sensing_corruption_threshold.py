"""Success against the number of measurements, and the threshold against the share of good ones."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed, computed
from theory_sim.plotting import COLORS, figure, interval, label_line, log_axes, panel_label, theory_line
from theory_sim.sensing import corrupted_measurements

SUCCESS = 1e-2


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(dict.fromkeys(("dim", "true_rank", "max_rank", "measurements", "init_scale"), 0)).isel(
        step=-1
    )
    data = data.squeeze(["step_size", "decay", "run_seed"])
    fig, (curves, collapse) = figure(columns=2, panels=(1, 2))
    large = data.sel(outlier_std=data["outlier_std"].to_numpy().max())
    tiny = computed(data.sel(outlier_std=[data["outlier_std"].to_numpy().min()]))
    panel_label(curves, "a", f"recovery to {SUCCESS:g}, r' = d = {int(data['dim'])}")
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
        label = f"tiny outliers, p = {fraction:g}"
        curves.plot(cell["samples"], share, color=shade, linestyle=line, linewidth=width, label=label)
    theory_line(collapse, (1, 1), (0, 0))
    label_line(collapse, r"theory: one curve for all p", 0.04, 0.95, xycoords="axes fraction", xytext=(0, 0))
    for axis in (curves, collapse):
        log_axes(axis, "x")
        axis.set(ylabel="share of successes", ylim=(-0.03, 1.05))
    curves.set(xlabel="measurements $m$", xlim=(0.08, 4000))
    collapse.set(xlabel=r"$m\,(1-p)^2$", xlim=(10, 110))
    curves.legend(loc="upper left")
    collapse.set_xticks([10, 20, 50, 100], ["10", "20", "50", "100"])
    return fig
