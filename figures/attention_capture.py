"""What runs keep and end at, by the start, how far they end from W^mm, and at how many choices of tokens."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed, cellwise, proportion
from theory_sim.plotting import COLORS, figure, interval, log_axes, panel_label, theory_line


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(inputs=0, tokens=0, dim=0, step_size=0).sel(place=1)
    fig, axes = figure(columns=2, panels=(2, 3), height=2.2)
    local, free, unpushed, pushed, errors, choices = axes.flat
    for axis, letter, title in zip(
        axes.flat,
        "abcdef",
        (
            "locally optimal",
            "not locally optimal",
            r"equal scores, $\rho < 1$",
            r"equal scores, $\rho > 1$",
            r"equal scores, $\rho < 1$",
            rf"$\|W(0)\| = {data['radius'].to_numpy()[-1]:g}$, $\rho < 1$",
        ),
        strict=True,
    ):
        panel_label(axis, letter, title)
    for axis in axes.flat[:5]:
        axis.set(xlabel="$1 - $ cosine of the start", xlim=(-0.05, 1.05))
    for axis in axes.flat[:4]:
        axis.set_ylim(-0.03, 1.08)
    first = data.isel(run_seed=[0])
    for color, radius in zip(COLORS, data["radius"].to_numpy(), strict=False):
        drawn, equal = (first.sel(score_spread=spread, radius=radius) for spread in (1.0, 0.0))
        label = rf"$\|W(0)\| = {radius:g}$"
        for axis, runs, name, kept in (
            (local, drawn, "captured", lambda cell: by_seed(cell, "target_local") == 1),
            (free, drawn, "captured", lambda cell: by_seed(cell, "target_local") == 0),
            (unpushed, equal, "global", lambda cell: by_seed(cell, "push") < 1),
            (pushed, equal, "global", lambda cell: by_seed(cell, "push") >= 1),
        ):
            share = cellwise(lambda cell, name=name, kept=kept: proportion(by_seed(cell, name)[kept(cell)]))
            interval(axis, runs["opening"].to_numpy(), share(runs), color=color, linestyle="-", label=label)
        interval(errors, equal["opening"].to_numpy(), distance(equal), color=color, linestyle="-")
        draw_untouched(errors, data, radius, color)
    theory_line(unpushed, [0, 1], [1, 1])
    theory_line(pushed, [0, 1], [1, 1], label="Theorem 4")
    for axis in (local, free):
        axis.set_ylabel("share that keeps them")
    for axis in (unpushed, pushed):
        axis.set_ylabel("share at the optimal tokens")
    free.legend(loc="upper right")
    pushed.legend(*(part[:1] for part in pushed.get_legend_handles_labels()), loc="lower left")
    log_axes(errors, "y")
    errors.set(ylabel=r"median distance from $W^{mm}$", ylim=(2e-3, 0.3))
    errors.legend(loc="upper right")
    draw_choices(choices, data)
    return fig


@cellwise
def distance(cell):
    return bootstrap(by_seed(cell, "direction_error")[by_seed(cell, "push") < 1], np.median)


def draw_untouched(axis, data, radius, color):
    """Draw the part of a start across all gradients, which lie in a span of `n (T - 1)` dimensions of `d^2`."""
    inputs, tokens, dim = (data[name].item() for name in ("inputs", "tokens", "dim"))
    opening = np.linspace(0, 1, 101)[1:]
    across = radius * np.sqrt((1 - (1 - opening) ** 2) * (dim**2 - inputs * (tokens - 1)) / (dim**2 - 1))
    path = data["step_size"].item() * data["step"].to_numpy()[-1]
    last = radius == data["radius"].to_numpy()[-1]
    theory_line(axis, opening, across / path, color=color, label="part no gradient changes" if last else None)


def draw_choices(axis, data):
    afar = data.isel(radius=-1, opening=-1)
    starts = data.sizes["run_seed"]
    for color, spread, label in ((COLORS[3], 0.0, "equal scores"), (COLORS[4], 1.0, "scores as drawn")):
        runs = afar.sel(score_spread=spread)
        kept = (runs["push"].isel(run_seed=0) < 1) & runs["complete"].all("run_seed")
        selected = runs["selected"].transpose("problem_seed", "run_seed", "input").to_numpy()[kept.to_numpy()]
        counts = [len(np.unique(each, axis=0)) for each in selected]
        share = np.bincount(counts, minlength=starts + 1)[1:] / max(len(counts), 1)
        offset = 0.2 if spread else -0.2
        axis.bar(np.arange(1, starts + 1) + offset, share, 0.4, color=color, label=label)
    axis.set(xlabel=f"choices of tokens, of {starts} starts", ylabel="share of problems", ylim=(0, 1.08))
    axis.legend(loc="upper right")
