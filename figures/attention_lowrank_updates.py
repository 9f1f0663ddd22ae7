"""Low-rank updates of the one-layer transformer: spectra, responses, directions, where it ends, late training."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from theory_sim import at_last, bootstrap, by_seed
from theory_sim.attention import Setting, key_angle, mean_token_angle
from theory_sim.plotting import COLORS, band, figure, interval, label_line, log_axes, panel_label, theory_line
from theory_sim.study import load_module

BASE = load_module(Path(__file__).parents[1] / "sweeps" / Path(__file__).name).BASE
SHADES = LinearSegmentedColormap.from_list("share", ["white", COLORS[4], COLORS[1]])
MATRICES = {"query": "W_Q", "key": "W_K", "value": "W_V", "output": "W_O"}
ALONG = {
    "relevant_fraction": (r"$\alpha_*$", "o"),
    "patterns": ("$M$", "s"),
    "token_noise": ("noise", "D"),
    "train_samples": ("$N$", "v"),
    "value_error": (r"$\sigma$", "x"),
    "correlation": (r"$\rho$", "P"),
}
"""The axes of the angles, and their symbols and markers."""


def runs(values: xr.DataArray, *dims: str) -> np.ndarray:
    """Return the runs of some cells as [runs, *dims]."""
    stacked = values.stack(run=("problem_seed", "run_seed")).dropna("run", how="all")
    return stacked.transpose("run", *dims).to_numpy()


def draw(data: xr.Dataset) -> Figure:
    """Six panels: at the base cell what the updates span, answer to and leave out; what changes along the axes."""
    data = data.isel(max_width=0) if "max_width" in data.dims else data
    base, random = data.sel(BASE), data.sel({**BASE, "label_noise": 1.0})
    fig, ((spectrum, response, angle), (angles, regime, late)) = figure(panels=(2, 3))
    draw_spectra(spectrum, base, random)
    draw_responses(response, base, random)
    draw_angle(angle, base)
    draw_angles(angles, data)
    plain = {name: BASE[name] for name in BASE if name not in ("token_noise", "query_key_scale")}
    draw_regime(regime, data.sel(plain).isel(step=-1))
    draw_late(late, base)
    return fig


def draw_spectra(axis: Axes, base: xr.Dataset, random: xr.Dataset) -> None:
    """Draw the singular values of the four updates, also with random labels."""
    for color, (name, symbol) in zip(COLORS, MATRICES.items(), strict=False):
        # It does not tell random labels apart: under them too one direction is by far the largest.
        ranks = " / ".join(
            f"{runs(cells.stable_rank.sel(matrix=name).isel(step=-1)).mean():.1f}" for cells in (base, random)
        )
        for cells, style in ((base, "-"), (random, ":")):
            last = cells.singular_values.sel(matrix=name).isel(step=-1)
            share = runs(last / last.isel(singular_value=0), "singular_value")
            label = f"${symbol}$: {ranks}" if style == "-" else None
            band(axis, last.singular_value, share, color=color, linestyle=style, marker="o", label=label)
    log_axes(axis, "y")
    axis.set(xlabel="singular value", ylabel="relative to the first", ylim=(1e-6, 1.5))
    axis.legend(title="stable rank / random labels", title_fontsize=6, loc="lower left")
    panel_label(axis, "a", "spectra; dotted: random labels")


def draw_responses(axis: Axes, base: xr.Dataset, random: xr.Dataset) -> None:
    """Draw what each update does to each pattern."""
    for color, (name, symbol) in zip(COLORS, MATRICES.items(), strict=False):
        response = runs(base.response.sel(matrix=name), "pattern")
        band(axis, base.pattern, response, color=color, marker="o", markersize=2.5, label=f"${symbol}$")
        if name in ("query", "key"):
            mean = runs(random.response.sel(matrix=name), "pattern").mean(axis=0)
            axis.plot(base.pattern, mean, color=color, linestyle=":")
    axis.set_xticks([1, 2, 5, 10, 15])
    axis.set(
        xlabel="pattern $j$ (1, 2: discriminative)",
        ylabel=r"$\Vert\Delta W \mu_j\Vert$, relative",
        ylim=(0, 1.3),
    )
    axis.legend(ncols=2, loc="upper right")
    panel_label(axis, "b", "response; dotted: random labels")


def draw_angle(axis: Axes, base: xr.Dataset) -> None:
    """Draw both angles of each update along training."""
    later = base.isel(step=slice(1, None))
    for color, (name, symbol) in zip(COLORS, MATRICES.items(), strict=False):
        for direction, style in ((1, "-"), (2, ":")):
            both = runs(later.angle.sel(matrix=name, direction=direction), "step")
            label = f"${symbol}$" if style == "-" else None
            band(axis, later.step, both, color=color, linestyle=style, label=label)
    for value in derived(BASE).values():
        theory_line(axis, later.step[[0, -1]], [value, value])
    label_line(axis, "derived, of the larger", float(later.step[0]), derived(BASE)["key"], xytext=(2, -9))
    axis.set(xlabel="step", ylabel="angle to span($\\mu_1, \\mu_2$)", ylim=(0, 70))
    axis.legend(ncols=2)
    panel_label(axis, "c", "angles; dotted: smaller")


def draw_angles(axis: Axes, data: xr.Dataset) -> None:
    """Draw the largest angles against the derived ones, along each axis: early in training, and small at its end."""
    largest = data.angle.sel(direction=1)
    then = data.assign(then=at_last(largest, data.train_loss >= 0.5), last=largest.isel(step=-1))
    for name, (symbol, marker) in ALONG.items():
        along = then.sel({axis: value for axis, value in BASE.items() if axis != name})
        for value in along[name].to_numpy():
            cell = along.sel({name: value})
            for color, (matrix, predicted) in zip(
                COLORS, derived({**BASE, name: value}).items(), strict=False
            ):
                if (name, matrix) == ("value_error", "key"):
                    continue
                angles = by_seed(cell.sel(matrix=matrix), "then")
                style = {"fmt": marker, "color": color, "markerfacecolor": "none", "markersize": 4}
                interval(axis, predicted, bootstrap(angles[np.isfinite(angles)]), **style)
                last = by_seed(cell.sel(matrix=matrix), "last").mean()
                axis.plot(predicted, last, ".", color=color, markersize=3, zorder=1)
        axis.plot([], [], marker, color="0.4", markerfacecolor="none", markersize=4, label=f"along {symbol}")
    axis.plot([], [], ".", color="0.4", markersize=3, label="last step")
    theory_line(axis, [0, 85], [0, 85])
    for color, symbol, place in zip(COLORS, ("W_Q", "W_K", "W_V"), (0.9, 0.8, 0.7), strict=False):
        axis.text(0.04, place, f"${symbol}$", color=color, transform=axis.transAxes)
    axis.set(
        xlabel="derived angle, degrees",
        ylabel="angle at training loss 1/2, or last",
        xlim=(0, 85),
        ylim=(0, 85),
    )
    axis.legend(loc="lower right")
    panel_label(axis, "d", "leading planes, early and last")


def derived(cell: dict[str, float]) -> dict[str, float]:
    """Return the derived largest angles of the updates of queries, keys and values; confusion is the default."""
    known = cell["patterns"], cell["relevant_fraction"], Setting().confusion_fraction
    of_tokens, of_keys = (
        angle(*known, correlation=cell["correlation"]) for angle in (mean_token_angle, key_angle)
    )
    return {"query": float(of_tokens), "key": float(of_keys), "value": float(of_tokens)}


def draw_late(axis: Axes, base: xr.Dataset) -> None:
    """Draw the energy outside two directions along training."""
    later = base.isel(step=slice(1, None))
    for color, (name, symbol) in zip(COLORS, MATRICES.items(), strict=False):
        energy = runs(later.outside_energy.sel(matrix=name), "step")
        band(axis, later.step, energy, color=color, label=f"${symbol}$")
    band(axis, later.step, runs(later.test_loss, "step"), color=COLORS[6], linestyle=":", label="test loss")
    log_axes(axis, "y")
    axis.set(xlabel="step", ylabel="energy outside two directions", ylim=(1e-8, 3))
    axis.legend(ncols=2, loc="lower left")
    panel_label(axis, "f", "outside, as the loss falls")


def draw_regime(axis: Axes, data: xr.Dataset) -> None:
    """Draw the energy of dW_Q outside two directions, and the line at which the effective rank leaves 2."""
    share = data.outside_energy.sel(matrix="query").mean(("problem_seed", "run_seed"))
    share = share.transpose("query_key_scale", "token_noise").to_numpy()
    noise, scale = data.token_noise.to_numpy(), data.query_key_scale.to_numpy()
    columns, rows = np.arange(len(noise)), np.arange(len(scale))
    mesh = axis.pcolormesh(columns, rows, share, cmap=SHADES, vmin=0, vmax=0.5, shading="nearest")
    for (row, column), value in np.ndenumerate(share):
        text = f"{value:.2f}" if value >= 0.01 else f"{value:.3f}"
        axis.text(column, row, text, ha="center", va="center", fontsize=5)
    if min(share.shape) > 1:
        axis.contour(columns, rows, share, levels=[0.05], colors="black", linewidths=1)
    axis.set_xticks(columns, [f"{x:g}" for x in noise])
    axis.set_yticks(rows, [f"{x:g}" for x in scale])
    axis.set(xlabel="token noise", ylabel=r"$W_Q(0) = W_K(0) = \delta I$, $\delta$")
    axis.figure.colorbar(mesh, ax=axis, ticks=[0, 0.25, 0.5], label="share")
    panel_label(axis, "e", r"$\Delta W_Q$ outside two; line: 5%")
