"""Low-rank updates of the one-layer transformer: spectra, directions, where the regime ends, and late training."""

import numpy as np
import xarray as xr
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from theory_sim.attention import key_angle, mean_token_angle, stable_rank
from theory_sim.plotting import COLORS, band, figure, label_line, log_axes, panel_label, theory_line

BASE = {
    "patterns": 16,
    "relevant_fraction": 0.4,
    "token_noise": 0.1,
    "label_noise": 0.0,
    "query_key_scale": 0.3,
}
SHADES = LinearSegmentedColormap.from_list("share", ["white", COLORS[4], COLORS[1]])
MATRICES = {"query": "W_Q", "key": "W_K", "value": "W_V", "output": "W_O"}


def runs(values: xr.DataArray, *dims: str) -> np.ndarray:
    """Return the runs of some cells as [runs, *dims]."""
    stacked = values.stack(run=("problem_seed", "run_seed")).dropna("run", how="all")
    return stacked.transpose("run", *dims).to_numpy()


def draw(data: xr.Dataset) -> Figure:
    """Four panels at the base cell: what the updates span, and what becomes of the neurons."""
    data = data.isel(max_width=0) if "max_width" in data.dims else data
    base, random = data.sel(**BASE), data.sel(**{**BASE, "label_noise": 1.0})
    fig, ((spectrum, angle), (regime, late)) = figure(panels=(2, 2))

    for color, (name, symbol) in zip(COLORS, MATRICES.items(), strict=False):
        # No claim rests on the stable rank: under random labels too one direction is by far the largest.
        ranks = " / ".join(f"{final_stable_rank(cells, name).mean():.1f}" for cells in (base, random))
        for cells, style in ((base, "-"), (random, ":")):
            last = cells.singular_values.sel(matrix=name).isel(step=-1)
            share = runs(last / last.isel(singular_value=0), "singular_value")
            label = f"${symbol}$: {ranks}" if style == "-" else None
            band(spectrum, data.singular_value, share, color=color, linestyle=style, marker="o", label=label)
        later = base.isel(step=slice(1, None))
        band(angle, later.step, runs(later.angle.sel(matrix=name), "step"), color=color, label=f"${symbol}$")
    log_axes(spectrum, "y")
    spectrum.set(xlabel="singular value", ylabel="relative to the first", ylim=(1e-6, 1.5))
    spectrum.legend(ncols=2, title="stable rank / with random labels", title_fontsize=6)
    panel_label(spectrum, "a", "updates; dotted: random labels")

    predicted = (
        mean_token_angle(BASE["patterns"], BASE["relevant_fraction"], 0.1),
        key_angle(BASE["patterns"]),
    )
    for value in np.unique(np.round(predicted, 6)):
        theory_line(angle, data.step[[1, -1]], [value, value])
    label_line(
        angle, "derived, before the hinge saturates", float(data.step[1]), float(predicted[0]), xytext=(2, -8)
    )
    angle.set(xlabel="step", ylabel="angle to span($\\mu_1, \\mu_2$), degrees", ylim=(0, None))
    angle.legend(ncols=2)
    panel_label(angle, "b", "leading plane of the updates")

    draw_regime(regime, data.sel(patterns=16, relevant_fraction=0.4, label_noise=0.0).isel(step=-1))
    for color, (name, symbol) in zip(COLORS, MATRICES.items(), strict=False):
        later = base.isel(step=slice(1, None))
        energy = runs(later.outside_energy.sel(matrix=name), "step")
        band(late, later.step, energy, color=color, label=f"${symbol}$")
    band(late, later.step, runs(later.test_loss, "step"), color=COLORS[6], linestyle=":", label="test loss")
    log_axes(late, "y")
    late.set(xlabel="step", ylabel="energy outside two directions", ylim=(1e-8, 2))
    late.legend(ncols=2, loc="lower left")
    panel_label(late, "d", "what is outside, as the loss falls")
    return fig


def final_stable_rank(cells: xr.Dataset, matrix: str) -> np.ndarray:
    """Return the stable rank of one matrix's update after the last step, [runs]."""
    last = cells.sel(matrix=matrix).isel(step=-1)
    first = runs(last.singular_values.isel(singular_value=slice(0, 2)), "singular_value")
    return stable_rank(first, runs(last.outside_energy))


def draw_regime(axis, data: xr.Dataset) -> None:
    """Draw the energy of dW_Q outside two directions, and the line at which the effective rank leaves 2."""
    share = data.outside_energy.sel(matrix="query").mean(("problem_seed", "run_seed"))
    share = share.transpose("query_key_scale", "token_noise").to_numpy()
    noise, scale = data.token_noise.to_numpy(), data.query_key_scale.to_numpy()
    columns, rows = np.arange(len(noise)), np.arange(len(scale))
    mesh = axis.pcolormesh(columns, rows, share, cmap=SHADES, vmin=0, vmax=0.5, shading="nearest")
    for (row, column), value in np.ndenumerate(share):
        text = f"{value:.2f}" if value >= 0.01 else f"{value:.3f}"
        axis.text(column, row, text, ha="center", va="center", fontsize=6)
    if min(share.shape) > 1:
        axis.contour(columns, rows, share, levels=[0.05], colors="black", linewidths=1)
    axis.set_xticks(columns, [f"{x:g}" for x in noise])
    axis.set_yticks(rows, [f"{x:g}" for x in scale])
    axis.set(xlabel="token noise", ylabel=r"$W_Q(0) = W_K(0) = \delta I$, $\delta$")
    axis.figure.colorbar(mesh, ax=axis, label="energy outside")
    panel_label(axis, "c", r"$\Delta W_Q$; line: effective rank leaves 2")
