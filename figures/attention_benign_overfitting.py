"""Noisy labels: maps of what is fitted and what is selected, over signal norm and dimension, and their boundaries."""

import numpy as np
import xarray as xr
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed, computed, first_reach
from theory_sim.attention import mean_field
from theory_sim.plotting import COLORS, figure, interval, label_line, log_axes, panel_label, theory_line

INPUTS, TOKENS = 20, 8
"""The published size, which the study runs."""
FINE = np.geomspace(2.5, 600, 120)


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(test_inputs=0, rho=0, step_size=0, step=-1)
    steps, size = int(data["step"]), float(data["step_size"])
    main = computed(data.sel(label_noise=[0.1], init_scale=[0.0]))
    dims = np.geomspace(*np.asarray(main["dim"], float)[[0, -1]], 12)
    field = mean_field(
        FINE, dims[:, None], inputs=INPUTS, tokens=TOKENS, label_noise=0.1, step_size=size, steps=steps
    )
    fig, (fitted, selected, cut, noise) = figure(panels=(1, 4), height=2.5)
    for axis, letter, title, name, color in (
        (fitted, "a", "training: attention\nof noisy inputs", "noisy_attention", COLORS[1]),
        (selected, "b", "new inputs: selection", "test_selected", COLORS[0]),
    ):
        shades = LinearSegmentedColormap.from_list(name, ["white", color])
        shown = by_seed(main, name, "dim", "signal_norm").mean(axis=0)
        mesh = axis.pcolormesh(
            main["signal_norm"], main["dim"], shown, cmap=shades, vmin=0, vmax=1, shading="nearest"
        )
        log_axes(axis)
        axis.set(xlabel=r"signal norm $|\mu|$", ylabel="dimension $d$", xlim=axis.get_xlim())
        for curves in (field.noisy_attention, field.test_selected):
            theory_line(axis, np.exp(first_reach(np.log(FINE), curves, 0.5)), dims)
        bar = fig.colorbar(mesh, ax=axis, location="bottom", ticks=[0, 0.5, 1], shrink=0.9)
        bar.ax.set_xlabel("of the relevant token", fontsize=6.5)
        bar.ax.set_ylabel(" ")
        panel_label(axis, letter, title)
    for axis in (fitted, selected):
        for name, x, y, turn in (
            ("not benign", 0.03, 0.45, 90),
            ("benign", 0.36, 0.55, 0),
            ("no overfitting", 0.86, 0.06, 90),
        ):
            axis.text(x, y, name, transform=axis.transAxes, fontsize=6, rotation=turn, va="bottom")

    last = main.isel(dim=[-1])
    for metric, color, label in (
        ("noisy_error", COLORS[1], "noisy labels"),
        ("test_error", COLORS[0], "new inputs"),
    ):
        found = bootstrap(by_seed(last, metric, "signal_norm"))
        interval(cut, last["signal_norm"], found, color=color, label=label, markersize=2)
    theory_line(cut, FINE, field.test_error[-1], label="mean field")
    log_axes(cut, "x")
    fitted_below = np.exp(first_reach(np.log(FINE), field.noisy_attention[-1], 0.5))
    cut.axvline(fitted_below, color="black", linewidth=0.8, linestyle=":")
    cut.set(xlabel=r"signal norm $|\mu|$", ylabel="error", ylim=(-0.03, 1.08))
    cut.legend(loc="center left", bbox_to_anchor=(0.12, 0.6))
    panel_label(cut, "c", f"errors, $d$ = {int(last['dim'][0])}")

    for color, amount in zip((COLORS[1], COLORS[3], COLORS[2]), data["label_noise"].to_numpy(), strict=False):
        runs = computed(data.isel(dim=[0]).sel(label_noise=[amount], init_scale=[0.0]))
        found = bootstrap(by_seed(runs, "noisy_attention", "signal_norm"))
        interval(noise, runs["signal_norm"], found, color=color, label=f"{amount:g}", markersize=2)
        expected = mean_field(
            FINE,
            float(data["dim"][0]),
            inputs=INPUTS,
            tokens=TOKENS,
            label_noise=amount,
            step_size=size,
            steps=steps,
        )
        theory_line(noise, FINE, expected.noisy_attention, color=color)
    log_axes(noise, "x")
    noise.set(
        xlabel=r"signal norm $|\mu|$",
        ylabel="attention of noisy inputs",
        ylim=(-0.03, 1.08),
    )
    label_line(noise, "label noise:", 3, 1.0)
    noise.legend(loc="upper left", bbox_to_anchor=(0, 0.93))
    panel_label(noise, "d", f"noise, $d$ = {int(data['dim'][0])}")
    return fig
