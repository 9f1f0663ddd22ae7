"""One style for all figures: page sizes, theory lines, interval bands, direct labels, provenance.

A figure draws what was measured, with its interval, under what theory predicts. It computes nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from theory_sim.errors import RequestError

COLUMN_WIDTH = {1: 3.35, 2: 6.9}
"""Widths in inches of one and of two columns of a paper."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
"""Okabe and Ito's colours, told apart by readers with any kind of colour vision."""

THEORY = {"color": "black", "linestyle": (0, (4, 1.6)), "linewidth": 1.0, "zorder": 4}

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.prop_cycle": plt.cycler(color=COLORS),
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "svg.hashsalt": "theory_sim",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw and save in the project's style, and leave the caller's settings alone."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


def figure(*, columns: int = 2, panels: tuple[int, int] = (1, 1), height: float = 2.3) -> tuple[Figure, Any]:
    """Return a figure of one or two columns' width and its axes, `height` inches for each row of panels.

    The axes come as `plt.subplots` gives them: one, a row, or an array `[rows, columns]`.
    """
    with style():
        return plt.subplots(
            *panels, figsize=(COLUMN_WIDTH[columns], height * panels[0]), layout="constrained"
        )


def theory_line(axis: Axes, x: Any, y: Any, label: str | None = None, **changes: Any) -> None:
    """Draw a prediction: a dashed black line over the data."""
    axis.plot(x, y, label=label, **{**THEORY, **changes})


def band(
    axis: Axes, x: Any, samples: Any, *, color: str | None = None, label: str | None = None, **line: Any
) -> None:
    """Draw runs `[seeds, x]` as their median, and as a band from the 2.5% to the 97.5% quantile.

    Nothing is drawn where fewer than half of the runs are finite: the rest does not stand for all.
    """
    samples = np.asarray(samples, dtype=float)
    most = np.isfinite(samples).mean(axis=0) >= 0.5
    finite = np.where(np.isfinite(samples), samples, np.nan)
    quantiles = np.nanquantile(np.where(most, finite, 0.0), [0.025, 0.5, 0.975], axis=0)
    low, middle, high = np.where(most, quantiles, np.nan)
    (drawn,) = axis.plot(x, middle, color=color, label=label, **line)
    axis.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)


def interval(
    axis: Axes, x: Any, estimate: Any, *, color: str | None = None, label: str | None = None, **line: Any
) -> None:
    """Draw an `Estimate` with an array of values: points, and bars for their intervals, to the edge if without end."""
    x, value = np.atleast_1d(x), np.atleast_1d(np.asarray(estimate.value, dtype=float))
    ends = np.abs(np.stack([value - estimate.low, estimate.high - value]))
    options = {"fmt": "o", "capsize": 1.5, "elinewidth": 0.8, **line}
    points = axis.errorbar(
        x, value, yerr=np.where(np.isfinite(ends), ends, 0), color=color, label=label, **options
    )
    bar = {"arrowstyle": "-", "color": points[0].get_color(), "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
    for edge, place in zip(*np.nonzero(np.isinf(ends) & np.isfinite(value)), strict=True):
        # An annotation, which unlike a long bar leaves the limits of the axis alone.
        axis.annotate(
            "",
            (x[place], edge),
            (x[place], value[place]),
            xycoords=axis.get_xaxis_transform(),
            textcoords="data",
            arrowprops=bar,
        )


def label_line(axis: Axes, text: str, x: float, y: float, *, color: str = "black", **options: Any) -> None:
    """Write a label next to a line, which reads better than a legend far from it."""
    axis.annotate(
        text,
        (x, y),
        **{"xytext": (2, 2), "textcoords": "offset points", "color": color, "fontsize": 6.5, **options},
    )


def panel_label(axis: Axes, letter: str, title: str = "") -> None:
    """Head a panel with its letter and what it shows."""
    axis.set_title(f"({letter}) {title}" if title else f"({letter})")


def log_axes(axis: Axes, which: str = "both") -> None:
    """Make axes logarithmic, without labels at minor ticks, which collide in small panels."""
    for name in ("x", "y"):
        if which in (name, "both"):
            getattr(axis, f"set_{name}scale")("log")
            getattr(axis, f"{name}axis").set_minor_formatter(NullFormatter())


def default_figure(data: xr.Dataset) -> Figure:
    """Return a figure of every scalar metric against the step, one line for each value of the longest axis.

    Lines are medians and bands quantiles over seeds. Steps at equal distances, as in a record of every step, show a
    rate on a plain axis, others a power law on a logarithmic one. Other axes are held at their first value, which
    the title says. For studies that bring no figure of their own.
    """
    seeds = ("problem_seed", "run_seed")
    cells = data["status"].dims
    names = [n for n, v in data.items() if v.dims == (*cells, "step")][:4]
    finals = [
        n for n, v in data.items() if v.dims == cells and n not in ("status", "complete", "diverged_at")
    ][:4]
    if not names and not finals:
        raise RequestError("the results hold no scalar metric to draw; give the study a figure of its own")
    others = [str(d) for d in cells if d not in seeds]
    longest = max(others, key=lambda d: data.sizes[d]) if others else None
    fixed = {d: 0 for d in others if d != longest}
    chosen = data.isel(fixed)
    shown = names or finals
    fig, axes = figure(columns=2 if len(shown) > 1 else 1, panels=(-(-len(shown) // 2), min(len(shown), 2)))
    for name, axis in zip(shown, np.atleast_1d(axes).flat, strict=False):
        values = chosen[name].transpose(*seeds, ...)
        if name in finals:
            flat = values.to_numpy().reshape(-1, values.shape[-1] if longest else 1)
            x = chosen[longest].to_numpy() if longest else np.zeros(1)
            band(axis, x, flat, marker="o")
            axis.set_xlabel(longest or "")
        else:
            _draw_steps(axis, chosen, values, longest)
        axis.set_ylabel(data[name].attrs.get("long_name", name))
    for axis in list(np.atleast_1d(axes).flat)[len(shown) :]:
        axis.set_visible(False)
    held = ", ".join(f"{d} = {data[d].to_numpy()[0]}" for d in fixed if data.sizes[d] > 1)
    if held:
        fig.suptitle(f"at {held}", fontsize=7)
    return fig


def _draw_steps(axis: Axes, data: xr.Dataset, values: xr.DataArray, longest: str | None) -> None:
    steps = data["step"].to_numpy()
    count = data.sizes[longest] if longest else 1
    # At most six lines: more cannot be told apart.
    for number, i in enumerate(np.unique(np.linspace(0, count - 1, min(count, 6)).astype(int))):
        runs = (values.isel({longest: i}) if longest else values).to_numpy().reshape(-1, len(steps))
        runs = runs[~np.isnan(runs).all(axis=1)]
        if len(runs):
            value = data[longest].to_numpy()[i] if longest else ""
            number_or_word = value if isinstance(value, str) else f"{value:.4g}"
            label = f"{longest} = {number_or_word}" if longest else None
            band(axis, steps[steps > 0], runs[:, steps > 0], color=COLORS[number % len(COLORS)], label=label)
    spread = np.diff(steps)
    if not (spread == spread[:1]).all():
        axis.set_xscale("log")
    drawn = values.to_numpy()[..., steps > 0]
    drawn = drawn[np.isfinite(drawn)]
    # An exact zero, where a run has arrived, must not hide the decay of the others.
    if len(drawn) and np.mean(drawn > 0) > 0.5 and not (drawn < 0).any():
        axis.set_yscale("log")
    axis.set_xlabel("step")
    if longest:
        axis.legend()


def save(fig: Figure, stem: str | os.PathLike, metadata: dict[str, str] | None = None) -> list[Path]:
    """Write a figure as PDF and PNG, the provenance in the files' metadata, and return their paths.

    Files hold no date: the same data give the same bytes.
    """
    stem = Path(stem)
    words = "; ".join(f"{key}={value}" for key, value in (metadata or {}).items())
    paths = []
    with style():
        stem.parent.mkdir(parents=True, exist_ok=True)
        for ending, stamp in (
            (".pdf", {"Creator": "theory_sim", "Subject": words, "CreationDate": None}),
            (".png", {"Software": "theory_sim", "Description": words}),
        ):
            path, temporary = stem.with_suffix(ending), stem.with_name(f".{stem.name}{ending}")
            fig.savefig(temporary, metadata=stamp, format=ending[1:])
            os.replace(temporary, path)
            paths.append(path)
            # Laid out once: the second file takes the places that were found for the first.
            fig.set_layout_engine("none")
    plt.close(fig)
    return paths
