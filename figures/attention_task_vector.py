"""The task-vector form: what the updates have outside rank one, along M and along training; the rows of dV."""

import numpy as np

from theory_sim import at_last, by_seed
from theory_sim.attention import (
    EARLY_LOSS,
    attention_residual,
    dead_fraction,
    residual_bound,
    value_residual,
)
from theory_sim.plotting import COLORS, band, figure, label_line, log_axes, panel_label, theory_line

BASE = {"patterns": 16, "token_noise": 0.05, "label_noise": 0.0, "width": 64}
BASE |= {"value_scale": 0.01, "score_scale": 1.0}
NEURONS = {**BASE, "patterns": 4, "value_scale": 0.04}
FEW, SHARE = 6, "share of norm outside rank one"
TOKENS = 10
"""Tokens of a sequence, which are no axis of the data."""


def cells(data, base, free="", **changes):
    """Return the cells of a base along one free axis."""
    return data.sel({name: value for name, value in {**base, **changes}.items() if name != free})


def draw(data):
    for name in ("max_width", "dim", "samples", "relevant_fraction", "confusion_fraction", "step_size"):
        data = data.isel({name: 0}) if name in data.dims else data
    along = cells(data, BASE, "patterns").sel(patterns=slice(FEW, None))
    uniform = cells(data, BASE, "patterns", score_scale=0.0).sel(patterns=slice(FEW, None))
    fig, ((value, attention, training), (rows, fraction, pruned)) = figure(panels=(2, 3))
    draw_value(value, along, uniform)
    draw_attention(attention, along)
    draw_training(training, cells(data, BASE))
    draw_rows(rows, cells(data, NEURONS, "width"), cells(data, BASE, value_scale=0.04))
    draw_fraction(fraction, cells(data, NEURONS, "patterns"))
    draw_pruned(pruned, cells(data, NEURONS))
    return fig


def irrelevant(data):
    """Return M, the numbers of irrelevant patterns."""
    return np.atleast_1d(data.patterns.to_numpy()) - 2


def along_patterns(axis, data, which):
    """Make the axis of M logarithmic, with a tick at each value."""
    log_axes(axis, which)
    axis.minorticks_off()
    axis.set_xticks(irrelevant(data), [f"{count:g}" for count in irrelevant(data)])
    axis.set(xlabel="irrelevant patterns $M$")


def fractions(data):
    """Return the fractions of relevant and of confusion tokens."""
    return float(data.relevant_fraction), float(data.confusion_fraction)


def many(data):
    """Return a fine range of M for predictions."""
    count = irrelevant(data)
    return np.geomspace(count[0], max(count[-1], count[0] + 1), 50)


def draw_value(axis, along, uniform):
    styles = ((uniform, COLORS[1], "uniform attention"), (along, COLORS[0], "attention trained"))
    for cell, color, label in styles:
        last = by_seed(cell.sel(matrix="V").isel(step=-1), "relative_residual", "patterns")
        band(axis, irrelevant(cell), last, color=color, marker="o", label=label)
    theory_line(axis, many(along), value_residual(many(along) + 2, *fractions(along)), "derived, uniform")
    along_patterns(axis, along, "x")
    axis.set(ylabel=SHARE, ylim=(0, 0.8))
    axis.legend(loc="lower left")
    panel_label(axis, "a", r"$\Delta V$, end of training")


def draw_attention(axis, along):
    share = at_last(along.relative_residual.sel(matrix="W"), along.train_loss >= EARLY_LOSS)
    first = along.assign(share=share)
    band(axis, irrelevant(along), by_seed(first, "share", "patterns"), marker="o", label="share, early")
    derived = attention_residual(many(along) + 2, *fractions(along), TOKENS)
    theory_line(axis, many(along), derived, "derived, early")
    last = along.sel(matrix="W").isel(step=-1)
    norm = by_seed(last, "residual", "patterns")
    band(axis, irrelevant(along), norm, color=COLORS[2], marker="s", label="norm, end")
    error = by_seed(last, "test_loss", "patterns").mean(axis=0)
    bound = residual_bound(irrelevant(along) + 2, error)
    theory_line(axis, irrelevant(along), bound, r"$M \epsilon + 1/\log M$", linestyle=":")
    along_patterns(axis, along, "both")
    axis.set(ylabel="outside rank one", ylim=(0.02, 4))
    axis.legend(loc="upper right", fontsize=5.5, ncols=2, handlelength=1.8, columnspacing=1.0)
    panel_label(axis, "b", r"$\Delta W$, early and at the end")


def draw_training(axis, base):
    later = base.isel(step=slice(1, None))
    loss = by_seed(later, "train_loss", "step").mean(axis=0)
    for color, name in ((COLORS[2], "W"), (COLORS[0], "V")):
        norm = by_seed(later.sel(matrix=name), "residual", "step")
        band(axis, loss, norm, color=color, marker="o", label=rf"$\Delta {name}$")
    span = np.array([loss[-1], 1.0])
    theory_line(axis, span, span)
    label_line(axis, r"$\propto \epsilon$", 0.03, 0.03, xytext=(10, 2))
    level = 1 / np.log(int(base.patterns) - 2)
    theory_line(axis, span, [level, level], linestyle=":")
    label_line(axis, r"$1/\log M$", float(loss[-1]), level)
    log_axes(axis)
    axis.invert_xaxis()
    axis.set(xlabel="training loss", ylabel="norm outside rank one")
    axis.legend(loc="lower center")
    panel_label(axis, "c", "along training, $M$ = 14")


def draw_rows(axis, few, many_patterns):
    for color, count in zip(COLORS, few.width.to_numpy(), strict=False):
        scaled = np.sqrt(count) * by_seed(few.sel(width=count), "row_norm", "quantile")
        band(axis, few["quantile"], scaled, color=color, label=f"m = {count:g}")
    count = float(many_patterns.width)
    scaled = np.sqrt(count) * by_seed(many_patterns, "row_norm", "quantile")
    band(axis, few["quantile"], scaled, color=COLORS[6], linestyle=":", label=f"M = 14, m = {count:g}")
    level = np.sqrt(float(few.width[-1])) * float(few.group_norm.sel(group="large").isel(width=-1).mean())
    theory_line(axis, [0.5, 1], [level, level])
    log_axes(axis, "y")
    axis.set(xlabel=r"quantile of the rows of $\Delta V$", ylabel=r"$\sqrt{m}\,\times$ row norm")
    axis.legend(loc="lower right", fontsize=5.5)
    panel_label(axis, "d", "large rows like $m^{-1/2}$, $M$ = 2")


def draw_fraction(axis, along):
    found = by_seed(along, "small_fraction", "patterns")
    band(axis, irrelevant(along), found, marker="o", label="measured")
    theory_line(axis, many(along), dead_fraction(many(along) + 2, *fractions(along)), "derived bound")
    along_patterns(axis, along, "x")
    axis.set(ylabel="fraction of small rows", ylim=(0, 0.75))
    axis.legend(loc="upper right")
    panel_label(axis, "e", "rows that stay small")


def draw_pruned(axis, cell):
    for order in cell.order.to_numpy():
        loss = by_seed(cell.sel(order=order), "pruned_loss", "fraction")
        band(axis, cell.fraction, loss, label=str(order).replace("_", " "))
    place = float(cell.small_fraction.mean())
    theory_line(axis, [0, place], [0, 0])
    axis.axvline(place, color="0.6", linewidth=0.8, zorder=0)
    label_line(axis, "small group", place, 0.95, color="0.4")
    axis.set(xlabel="rows of $\\Delta V$ set to zero", ylabel="test loss")
    axis.legend(loc="lower right", fontsize=5.5)
    panel_label(axis, "f", "pruning, $M$ = 2, $m$ = 64")
