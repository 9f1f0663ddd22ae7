"""Numbers of selected tokens under a quadratic head, on the prediction, and distances from optimum and direction."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed
from theory_sim.attention import PUBLISHED_COUNTS
from theory_sim.plotting import COLORS, figure, interval, panel_label, theory_line


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(tokens=0, run_seed=0, step_size=-1)
    places = np.arange(data.sizes["penalty"])
    penalties = data["penalty"].to_numpy()
    fig, axes = figure(columns=2, panels=(1, 2), height=2.3)
    panel_label(axes[0], "a", "ten tokens" if data["tokens"] == 10 else "tokens")
    interval(
        axes[0], places, bootstrap(by_seed(data, "selected", "penalty")), color=COLORS[0], label="selected"
    )
    theory_line(
        axes[0], places, by_seed(data, "predicted", "penalty").mean(axis=0), label="projection on the simplex"
    )
    shown = [(place, PUBLISHED_COUNTS[p]) for place, p in enumerate(penalties) if p in PUBLISHED_COUNTS]
    axes[0].plot(*zip(*shown, strict=True), "x", color=COLORS[1], markersize=5, label="published")
    axes[0].set(ylabel="selected tokens, mean", ylim=(0, 11))
    axes[0].legend(loc="upper left")
    panel_label(axes[1], "b", "errors")
    count = data["tokens"].item()
    for color, name, label, everywhere in (
        (COLORS[0], "attention_error", "attention, from the optimal one", True),
        (COLORS[2], "direction_error", "direction of the logits, from Gen-SVM", False),
    ):
        errors = by_seed(data, name, "penalty")
        # Where all tokens are optimal in every problem no direction separates any.
        kept = everywhere | (by_seed(data, "predicted", "penalty") < count).any(axis=0)
        interval(axes[1], places[kept], bootstrap(errors[:, kept], np.median), color=color, label=label)
    theory_line(axes[1], places[[0, -1]], np.sqrt([0.1, 0.1]), label="published: corr above 0.95")
    axes[1].set(ylabel="median error", yscale="log", ylim=(1e-6, 100))
    axes[1].legend(loc="upper left")
    for axis in axes:
        axis.set_xticks(places, [f"{p:g}" for p in penalties])
        axis.set_xlabel(r"penalty $\lambda$")
    return fig
