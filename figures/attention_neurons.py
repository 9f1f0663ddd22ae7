"""Neurons: row norms at all widths, their pruning, and the pruning of test tokens."""

import numpy as np

from theory_sim import by_seed
from theory_sim.plotting import COLORS, band, figure, label_line, log_axes, panel_label

BASE = {"token_noise": 0.1, "relevant_fraction": 0.4}
NOISY = {"token_noise": 0.3, "relevant_fraction": 0.3}
TOKEN_ORDERS = {"irrelevant_first": "irrelevant first", "noisy_first": "noisy first", "at_random": "random"}


def draw(data):
    data = data.isel(max_width=0) if "max_width" in data.dims else data
    small, large = data.sel(output_scale=0.01), data.sel(output_scale=float(data.output_scale.max()))
    fig, (norms, pruned, tokens) = figure(panels=(1, 3), height=2.6)
    draw_norms(norms, small.sel(**BASE), large.sel(**BASE))
    draw_pruned(pruned, small.sel(**BASE).sel(width=64, method="nearest"))

    cell = small.sel(**NOISY).sel(width=64, method="nearest")
    for order, label in TOKEN_ORDERS.items():
        loss = by_seed(cell.sel(token_order=order), "token_pruned_loss", "removed")
        band(tokens, data.removed, loss, marker="o", label=label)
    tokens.set(xlabel="test tokens removed, of 12", ylabel="test loss", ylim=(0, None))
    tokens.legend()
    panel_label(tokens, "c", "pruning of tokens (noise 0.3)")
    return fig


def draw_norms(axis, small, large):
    wide = [int(m) for m in small.width.to_numpy()]
    for color, count in zip(COLORS, wide, strict=False):
        scaled = np.sqrt(count) * by_seed(small.sel(width=count), "row_norm", "quantile")
        band(axis, small["quantile"], scaled, color=color, label=f"m = {count}")
    count = wide[-1]
    start = np.sqrt(count) * by_seed(large.sel(width=count), "row_norm", "quantile")
    band(axis, small["quantile"], start, color=COLORS[6], linestyle=":", label=f"m = {count}, large start")
    split = float(np.sqrt(count) * by_seed(small.sel(width=count), "threshold").mean())
    axis.axhline(split, color="0.6", linewidth=0.8, zorder=0)
    label_line(axis, "split", 0.02, split, color="0.4")
    log_axes(axis, "y")
    axis.set(xlabel="quantile of the rows of $W_O$", ylabel=r"$\sqrt{m}\,\times$ row norm")
    axis.legend(loc="lower right")
    panel_label(axis, "a", r"two groups; large rows like $m^{-1/2}$")


def draw_pruned(axis, cell):
    for order in cell.order.to_numpy():
        loss = by_seed(cell.sel(order=order), "pruned_loss", "fraction")
        band(axis, cell.fraction, loss, label=str(order).replace("_", " "))
    place = float(cell.small_fraction.mean())
    axis.axvline(place, color="0.6", linewidth=0.8, zorder=0)
    label_line(axis, "small group", place, 0.95, color="0.4")
    axis.set(xlabel="fraction of neurons pruned", ylabel="test loss")
    axis.legend(loc="lower right")
    panel_label(axis, "b", f"pruning of neurons, m = {int(cell.width)}")
