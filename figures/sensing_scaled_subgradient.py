"""Error against step with and without the preconditioner, and the steps needed against the condition number."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed, time_to
from theory_sim.plotting import COLORS, band, figure, interval, label_line, log_axes, panel_label, theory_line
from theory_sim.sensing import polyak_steps_exponent

HIGH, LOW = 1e-3, 1e-9


def draw(data: xr.Dataset) -> Figure:
    data = data.squeeze(
        ["dim", "true_rank", "measurements", "step_size", "init_scale", "run_seed"], drop=True
    )
    fraction = 0.2 if 0.2 in data["outlier_fraction"] else data["outlier_fraction"].to_numpy()[0]
    data = data.sel(outlier_fraction=fraction)
    fig, (plain, scaled, needed) = figure(columns=2, panels=(1, 3))
    draw_curves(plain, data.sel(form="plain"))
    draw_curves(scaled, data.sel(form="scaled"))
    panel_label(plain, "a", f"plain, p = {float(fraction):g}")
    panel_label(scaled, "b", "scaled")
    panel_label(needed, "c", f"steps for {np.log10(HIGH / LOW):.0f} digits")
    kappas = data["condition_number"].to_numpy()
    for color, form in zip(COLORS, ("plain", "scaled"), strict=False):
        errors = by_seed(data.sel(form=form), "error", "condition_number", "step")
        steps = time_to(data["step"].to_numpy(), errors, LOW) - time_to(data["step"].to_numpy(), errors, HIGH)
        estimate = bootstrap(steps)
        interval(needed, kappas, estimate, color=color, label=form)
        power = polyak_steps_exponent(scaled=form == "scaled")
        line = estimate.value[-1] * (kappas / kappas[-1]) ** power
        theory_line(needed, kappas, line)
        label_line(needed, rf"$\propto\kappa^{power:.0f}$", kappas[2], line[2], va="top", xytext=(4, -4))
    log_axes(needed)
    needed.set_xticks(kappas, [f"{kappa:g}" for kappa in kappas])
    needed.minorticks_off()
    needed.set(xlabel=r"condition number $\kappa_M$", ylabel="steps", ylim=(10, None))
    needed.legend(loc="upper left")
    return fig


def draw_curves(axis, data):
    for color, kappa in zip(COLORS, data["condition_number"].to_numpy(), strict=False):
        errors = by_seed(data.sel(condition_number=kappa), "error", "step")
        band(axis, data["step"], np.maximum(errors, 1e-15), color=color, label=rf"$\kappa$ = {kappa:g}")
    log_axes(axis, "y")
    axis.set(xlabel="step $t$", ylabel=r"error $\|UU^T - M_\star\|_F$", ylim=(1e-12, 3), xlim=(0, 400))
    axis.legend(loc="upper right")
