"""K classes: spectra that end at K, the angle of the leading K directions, and the losses."""

import numpy as np

from theory_sim import at_last, by_seed
from theory_sim.attention import key_angle, mean_token_angle
from theory_sim.plotting import COLORS, band, figure, log_axes, panel_label, theory_line

PATTERNS = 16
MATRICES = {"query": "W_Q", "key": "W_K", "value": "W_V", "output": "W_O"}


def draw(data):
    data = data.isel(relevant_fraction=0, confusion_fraction=0, step_size=0).sel(query_key_scale=0.3)
    data = data.isel(max_width=0) if "max_width" in data.dims else data
    true = data.sel(label_noise=0.0)
    fig, ((query, value), (angles, losses)) = figure(panels=(2, 2))
    draw_spectra(query, true, "query", "a", data.sel(label_noise=1.0))
    draw_spectra(value, true, "value", "b")
    draw_angles(angles, true)
    for color, count in zip(COLORS, true["classes"].to_numpy(), strict=False):
        runs = by_seed(true.sel(classes=count), "test_loss", "step")
        band(losses, true.step, runs, color=color, label=f"K = {count}")
    losses.set(xlabel="step", ylabel="test loss", ylim=(0, 1.05))
    losses.legend()
    panel_label(losses, "d", "one class against the rest")
    return fig


def draw_spectra(axis, data, matrix, letter, random=None):
    for color, count in zip(COLORS, data["classes"].to_numpy(), strict=False):
        for cells, style in ((data, "-"), (random, ":")):
            if cells is None:
                continue
            values = by_seed(
                cells.sel(classes=count, matrix=matrix).isel(step=-1), "singular_values", "singular_value"
            )
            share = values / values[:, :1]
            label = f"K = {count}" if style == "-" else None
            band(axis, data.singular_value, share, color=color, linestyle=style, marker="o", label=label)
        theory_line(axis, [count + 0.5] * 2, [1e-6, 2], color=color, linewidth=0.8)
    log_axes(axis, "y")
    axis.set(xlabel="singular value", ylabel="relative to the first", ylim=(1e-6, 2))
    axis.legend(loc="lower right", ncols=2)
    note = "; dotted: random labels" if random is not None else ""
    panel_label(axis, letter, rf"$\Delta {MATRICES[matrix]}$; dashed: after the K-th{note}")


def draw_angles(axis, data):
    classes = data["classes"].to_numpy()
    then = data.assign(angle=at_last(data.angle.sel(direction=1), data.train_loss >= 0.5))
    for color, (matrix, symbol), marker in zip(COLORS, MATRICES.items(), "osDv", strict=False):
        runs = by_seed(then.sel(matrix=matrix), "angle", "classes")
        band(axis, classes, runs, color=color, marker=marker, label=f"${symbol}$")
    fractions = float(data["relevant_fraction"]), float(data["confusion_fraction"])
    fine = np.linspace(classes[0], classes[-1], 50)
    theory_line(axis, fine, mean_token_angle(PATTERNS, *fractions, fine), label="derived")
    theory_line(axis, fine, key_angle(PATTERNS, *fractions, fine))
    axis.set(xlabel="classes $K$", ylabel="angle to span($\\mu_1 .. \\mu_K$), degrees", ylim=(0, None))
    axis.set_xticks(classes)
    axis.legend(ncols=2)
    panel_label(axis, "c", "leading K directions, training loss 1/2")
