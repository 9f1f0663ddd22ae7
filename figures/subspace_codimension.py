"""What a subspace can reach in the problem of known codimension, and where training succeeds."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import by_seed, computed
from theory_sim.plotting import COLORS, band, figure, label_line, panel_label, theory_line
from theory_sim.subspace import reachable_loss_law


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(step=-1)
    fig, (reach, success) = figure(columns=2, panels=(1, 2))
    draw_reach(reach, data)
    draw_success(success, data)
    return fig


def draw_reach(axis, data):
    panel_label(axis, "a", "best reachable loss")
    places = ((0.6, 0.02), (15.2, 0.6))
    for color, codimension, place in zip(COLORS, (10, 20), places, strict=False):
        dims, ratios = cells(data.sel(dim=slice(1, codimension - 1)), "best_ratio", codimension, "dense")
        band(axis, dims, ratios, color=color, marker="o", linestyle="none")
        label_line(axis, f"codimension\n{codimension}", *place, color=color)
        laws = [reachable_loss_law(codimension, int(d)) for d in dims]
        for quantile in (0.025, 0.5, 0.975):
            theory_line(axis, dims, [law.ppf(quantile) for law in laws], linewidth=0.7)
    label_line(axis, "Beta law: median,\n2.5% and 97.5%", 10.5, 0.85)
    axis.set(xlabel="subspace dimension $d$", ylabel="best loss / initial loss", ylim=(0, 1.02))


def draw_success(axis, data):
    panel_label(axis, "b", "success of training")
    for color, codimension in zip(COLORS, (10, 20), strict=False):
        dims, performance = cells(data, "performance", codimension, "dense")
        band(axis, dims, performance, color=color, marker="o")
        theory_line(axis, (codimension, codimension), (0, 1))
    label_line(axis, "$d = k$", 10, 0.5)
    axis.set(xlabel="subspace dimension $d$", ylabel=r"performance $e^{-\mathrm{loss}}$")


def cells(data, name, groups, projection):
    """Return the dimensions that were computed, and the metric as [seeds, dims]."""
    chosen = computed(data.sel(groups=groups, projection=projection))
    return chosen["dim"].to_numpy(), by_seed(chosen, name, "dim")
