"""Direction, norm and residual of attention weights by normalised steps, in the log domain and as published."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed
from theory_sim.attention import direction_error_curve, normalized_norm, stall_norm
from theory_sim.plotting import COLORS, band, figure, log_axes, panel_label, theory_line

NAMES = {"normalized": "log domain", "published": "as published"}
COLOR = dict(zip(NAMES, COLORS, strict=False))


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(inputs=0, tokens=0, dim=0, run_seed=0).sel(step=slice(1, None))
    data = data.sel(step_size=0.3 if 0.3 in data["step_size"] else data["step_size"][0])
    fig, axes = figure(columns=2, panels=(2, 2))
    logistic = data.sel(variant="logistic")
    draw_direction(axes[0, 0], logistic)
    draw_norm(axes[0, 1], logistic)
    draw_residual(axes[1, 0], logistic)
    draw_variants(axes[1, 1], data.sel(rule="normalized", score_spread=0.0))
    return fig


def draw_direction(axis, data):
    panel_label(axis, "a", "direction")
    for name, words in NAMES.items():
        for spread, line in ((0.0, "-"), (1.0, ":")):
            runs = data.sel(rule=name, score_spread=spread)
            label = words if spread == 0 else None
            values = by_seed(runs, "direction_error", "step")
            band(axis, runs["step"], values, color=COLOR[name], linestyle=line, label=label)
    runs = data.sel(rule="normalized", score_spread=0.0)
    steps, residual = runs["step"].to_numpy(), np.median(by_seed(runs, "residual_limit"))
    later = steps > 30 * residual
    curve = direction_error_curve(normalized_norm(steps[later], runs["step_size"]), residual)
    theory_line(axis, steps[later], curve, label=r"bound $|r_\infty|\,/\,\eta t$")
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"$\|W/\|W\| - W^{mm}/\|W^{mm}\|\|_F$", ylim=(3e-5, 3))
    axis.legend(loc="lower left", title="equal scores (dotted: as drawn)", title_fontsize=6, fontsize=6)


def draw_norm(axis, data):
    panel_label(axis, "b", "norm")
    for name in NAMES:
        runs = data.sel(rule=name, score_spread=0.0)
        band(axis, runs["step"], by_seed(runs, "norm", "step"), color=COLOR[name])
    steps = runs["step"].to_numpy()
    late = steps[steps >= 10]
    theory_line(axis, late, normalized_norm(late, runs["step_size"]), label=r"$\eta t$")
    stalled = np.median(stall_norm(by_seed(runs, "margin_norm")))
    theory_line(
        axis, late, np.full(len(late), stalled), label=r"$\|W^{mm}\|\,\ln(1/\varepsilon)$", linestyle=":"
    )
    log_axes(axis)
    axis.set(xlabel="step $t$", ylabel=r"$\|W\|_F$")
    axis.legend(loc="upper left")


def draw_residual(axis, data):
    panel_label(axis, "c", "across the margin direction")
    for name in NAMES:
        runs = data.sel(rule=name, score_spread=0.0)
        share = by_seed(runs, "residual", "step") / by_seed(runs, "residual_limit")[:, None]
        band(axis, runs["step"], share, color=COLOR[name])
    theory_line(axis, runs["step"][[0, -1]], (1, 1), label="from the multipliers")
    log_axes(axis, "x")
    axis.set(xlabel="step $t$", ylabel=r"$|r_t|\,/\,|r_\infty|$", ylim=(0, 2))
    axis.legend(loc="upper left")


def draw_variants(axis, data):
    panel_label(axis, "d", "other losses, other queries")
    for name, line in zip(data["variant"].to_numpy(), ("-", "--", ":", "-"), strict=True):
        runs = data.sel(variant=name)
        late = runs["step"].to_numpy() >= 100
        steps, norm = runs["step"].to_numpy()[late], normalized_norm(runs["step"], runs["step_size"])[late]
        share = (
            by_seed(runs, "direction_error", "step")[:, late]
            * norm
            / by_seed(runs, "residual_limit")[:, None]
        )
        label = "self-attention, logistic" if name == "self-attention" else f"{name} loss"
        if name == "logistic":  # the bands of all four lie on each other
            band(axis, steps, share, label=label)
        else:
            axis.plot(steps, np.median(share, axis=0), linestyle=line, label=label)
    theory_line(axis, (steps[0], steps[-1]), (1, 1), label="at least (derived)", linestyle="-.")
    log_axes(axis, "x")
    axis.set(xlabel="step $t$", ylabel=r"error of the direction $\times\,\eta t\,/\,|r_\infty|$", ylim=(0, 3))
    axis.legend(loc="upper right", fontsize=6)
