"""Width: how often runs fail, against the chance that a class starts without an active neuron."""

import numpy as np

from theory_sim import bootstrap, by_seed, crossing
from theory_sim.attention import dead_start, failing_share, sufficient_width
from theory_sim.plotting import COLORS, figure, interval, label_line, log_axes, panel_label, theory_line

TOKENS, SAMPLES, DIM, SUCCESS = 12, 256, 16, 0.01


def draw(data):
    data = data.isel(max_width=0) if "max_width" in data.dims else data
    data = data.isel(relevant_fraction=0, confusion_fraction=0, token_noise=0, step=-1)
    fig, (failures, needed) = figure(panels=(1, 2), height=2.6)
    patterns, widths = data.patterns.to_numpy(), data.width.to_numpy()
    fine = np.geomspace(widths[0], widths[-1], 100)
    dead = [
        dead_start(
            int(count),
            float(data.relevant_fraction),
            float(data.confusion_fraction),
            tokens=TOKENS,
            samples=SAMPLES,
            dim=DIM,
            token_noise=float(data.token_noise),
        )
        for count in patterns
    ]
    for color, count, chance in zip(COLORS, patterns, dead, strict=False):
        runs = failed(data.sel(patterns=count, label_noise=0.0))
        theory_line(failures, fine, failing_share(fine, chance), color=color)
        interval(failures, widths, bootstrap(runs), color=color, label=f"M = {int(count)}")
        wide = crossing(widths, 1 - runs, 0.9)
        interval(needed, [count], wide, color=color)
    log_axes(failures, "y")
    failures.set(xlabel="width $m$", ylabel="share of runs that fail", ylim=(1e-4, 1))
    failures.legend(loc="lower left")
    panel_label(failures, "a", "no active neuron, no learning (dashed: derived)")

    at_nine_of_ten = [2 * np.log(1 - 0.9**0.5) / np.log(chance) for chance in dead]
    theory_line(needed, patterns, at_nine_of_ten)
    label_line(needed, "derived", patterns[1], at_nine_of_ten[1], xytext=(0, -14))
    theory_line(needed, patterns, sufficient_width(patterns, SAMPLES), linestyle=":")
    label_line(
        needed, r"$M^2 \log N$ (sufficient)", patterns[1], sufficient_width(8, SAMPLES), xytext=(-95, 4)
    )
    log_axes(needed)
    needed.set(xlabel="patterns $M$", ylabel="$m$ at which 9 of 10 runs succeed", ylim=(1, 2000))
    needed.set_xticks(patterns, [str(int(count)) for count in patterns])
    panel_label(needed, "b", "more patterns need no more neurons")
    return fig


def failed(data):
    """Return which runs fail, `[seeds, widths]`."""
    return (by_seed(data, "test_error", "width") > SUCCESS).astype(float)
