"""Shares of runs that keep the tokens they start around, and of those that end at the optimal ones, by the start."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, cellwise, proportion
from theory_sim.plotting import COLORS, figure, interval, panel_label, theory_line


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(inputs=0, tokens=0, dim=0, step_size=0).sel(place=1)
    fig, axes = figure(columns=2, panels=(1, 4), height=2.3)
    for axis, letter, title in zip(
        axes,
        "abcd",
        ("locally optimal", "not locally optimal", r"equal scores, $\rho < 1$", r"equal scores, $\rho > 1$"),
        strict=True,
    ):
        panel_label(axis, letter, title)
        axis.set(xlabel="$1 - $ cosine of the start", ylim=(-0.03, 1.08), xlim=(-0.05, 1.05))
    for color, radius in zip(COLORS, data["radius"].to_numpy(), strict=False):
        drawn, equal = (data.sel(score_spread=spread, radius=radius) for spread in (1.0, 0.0))
        for axis, runs, name, kept in (
            (axes[0], drawn, "captured", lambda cell: by_seed(cell, "target_local") == 1),
            (axes[1], drawn, "captured", lambda cell: by_seed(cell, "target_local") == 0),
            (axes[2], equal, "global", lambda cell: by_seed(cell, "push") < 1),
            (axes[3], equal, "global", lambda cell: by_seed(cell, "push") >= 1),
        ):
            share = cellwise(lambda cell, name=name, kept=kept: proportion(by_seed(cell, name)[kept(cell)]))
            label = rf"$\|W(0)\| = {radius:g}$"
            interval(axis, runs["opening"].to_numpy(), share(runs), color=color, linestyle="-", label=label)
    theory_line(axes[2], [0, 1], [1, 1])
    theory_line(axes[3], [0, 1], [1, 1], label="Theorem 4")
    for axis in axes[:2]:
        axis.set_ylabel("share that keeps them")
    for axis in axes[2:]:
        axis.set_ylabel("share at the optimal tokens")
    axes[1].legend(loc="upper right")
    axes[3].legend(*(part[:1] for part in axes[3].get_legend_handles_labels()), loc="lower left")
    return fig
