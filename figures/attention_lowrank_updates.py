"""Low-rank updates and sparse neurons of the one-layer transformer: spectra, angles, row norms, pruning."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim.attention import key_angle, mean_token_angle
from theory_sim.plotting import COLORS, band, figure, label_line, log_axes, panel_label, theory_line

BASE = {"width": 64, "patterns": 16, "relevant_fraction": 0.4, "label_noise": 0.0, "output_scale": 0.01}
MATRICES = {"query": "W_Q", "key": "W_K", "value": "W_V", "output": "W_O"}


def runs(values: xr.DataArray, *dims: str) -> np.ndarray:
    """Return the runs of some cells as [runs, *dims]."""
    stacked = values.stack(run=("problem_seed", "run_seed")).dropna("run", how="all")
    return stacked.transpose("run", *dims).to_numpy()


def draw(data: xr.Dataset) -> Figure:
    """Four panels at the base cell: what the updates span, and what becomes of the neurons."""
    data = data.isel(max_width=0)
    base, random = data.sel(**BASE), data.sel(**{**BASE, "label_noise": 1.0})
    large = data.sel(**{**BASE, "output_scale": float(data.output_scale.max())})
    fig, ((spectrum, angle), (norms, pruned)) = figure(panels=(2, 2))

    for color, (name, symbol) in zip(COLORS, MATRICES.items(), strict=False):
        for cells, style in ((base, "-"), (random, ":")):
            last = cells.singular_values.sel(matrix=name).isel(step=-1)
            share = runs(last / last.isel(singular_value=0), "singular_value")
            label = f"${symbol}$" if style == "-" else None
            band(spectrum, data.singular_value, share, color=color, linestyle=style, marker="o", label=label)
        later = base.isel(step=slice(1, None))
        band(angle, later.step, runs(later.angle.sel(matrix=name), "step"), color=color, label=f"${symbol}$")
    log_axes(spectrum, "y")
    spectrum.set(xlabel="singular value", ylabel="relative to the first", ylim=(1e-4, 1.5))
    spectrum.legend(ncols=2)
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

    for cells, label in ((base, "small start"), (large, "large start"), (random, "random labels")):
        band(norms, data["quantile"], runs(cells.row_norm, "quantile"), label=label)
    log_axes(norms, "y")
    norms.set(xlabel="quantile", ylabel="norm of a row of $W_O$")
    norms.legend(loc="center right")
    panel_label(norms, "c", "neurons in order")

    for order in data.order.to_numpy():
        loss = runs(base.pruned_loss.sel(order=order), "fraction")
        band(pruned, data.fraction, loss, label=str(order).replace("_", " "))
    pruned.axvline(float(base.small_fraction.mean()), color="0.6", linewidth=0.8, zorder=0)
    label_line(pruned, "small group", float(base.small_fraction.mean()), 0.95, color="0.4")
    pruned.set(xlabel="fraction of neurons pruned", ylabel="test loss")
    pruned.legend()
    panel_label(pruned, "d", "pruning")
    return fig
