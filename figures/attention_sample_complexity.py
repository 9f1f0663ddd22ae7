"""Sample complexity: maps of success with learnt and uniform attention, and the error that samples cannot remove."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from theory_sim import by_seed
from theory_sim.attention import mean_token_error, mean_token_samples
from theory_sim.plotting import COLORS, band, figure, label_line, log_axes, panel_label, theory_line

SUCCESS = 0.05
NAMES = {"--": "dashed", ":": "dotted"}
SHADES = LinearSegmentedColormap.from_list("success", ["white", COLORS[5], COLORS[0]])


def draw(data):
    data = data.isel(
        confusion_fraction=0, token_noise=0, query_key_scale=0, value_scale=0, step_size=0, step=-1
    )
    fig, (learnt, uniform, error) = figure(panels=(1, 3), height=2.5)
    draw_map(learnt, data.sel(score_scale=1.0), 2, "a", "learnt attention", "--")
    mesh = draw_map(uniform, data.sel(score_scale=0.0), 4, "b", "uniform attention", ":")
    tokens, noise = 16, float(data["token_noise"])
    fraction = np.linspace(*data.relevant_fraction.to_numpy()[[0, -1]], 100)
    least = mean_token_error(fraction, tokens, noise)
    edge = float(np.interp(-SUCCESS, -least, fraction))
    uniform.axvline(edge, color="0.6", linewidth=0.8)
    right = np.linspace(edge * 1.001, fraction[-1], 200)
    need = mean_token_samples(right, tokens, noise, patterns=tokens, dim=tokens, error=SUCCESS)
    theory_line(uniform, right, np.where(need < data.train_samples.max().item(), need, np.nan))
    label_line(uniform, "mean tokens\n(derived)", 0.13, 180, xytext=(8, 4), color="white")
    label_line(uniform, "no $N$", edge, 300, xytext=(-4, 0), ha="right")
    fig.colorbar(mesh, ax=[learnt, uniform], label="share of successes", shrink=0.85, ticks=[0, 0.5, 1])

    for color, scale, label in ((COLORS[0], 1.0, "learnt"), (COLORS[1], 0.0, "uniform")):
        cell = data.sel(score_scale=scale)
        for count, style in ((-1, "-"), (len(cell.train_samples) // 2, ":")):
            runs = by_seed(cell.isel(train_samples=count), "test_error", "relevant_fraction")
            name = f"{label}, N = {int(cell.train_samples[count])}"
            band(error, cell.relevant_fraction, runs, color=color, linestyle=style, label=name)
    theory_line(error, fraction, least)
    label_line(error, "least of the\nmean token\n(derived)", fraction[15], 0.09, xytext=(3, 3))
    error.axhline(SUCCESS, color="0.6", linewidth=0.8, zorder=0)
    log_axes(error, "x")
    ticks(error)
    error.set(xlabel=r"$\alpha_*$", ylabel="test error", ylim=(0, 0.3))
    error.legend()
    panel_label(error, "c", "what samples cannot buy")
    return fig


def draw_map(axis, data, power, letter, title, line):
    found = by_seed(data, "test_error", "relevant_fraction", "train_samples") <= SUCCESS
    fractions, samples = data.relevant_fraction.to_numpy(), data.train_samples.to_numpy()
    share = found.mean(axis=0)
    mesh = axis.pcolormesh(fractions, samples, share.T, cmap=SHADES, vmin=0, vmax=1, shading="nearest")
    log_axes(axis)
    ticks(axis)
    axis.set(xlabel=r"$\alpha_*$", ylabel="samples $N$", ylim=axis.get_ylim())
    axis.set_yticks([10, 30, 100, 300], ["10", "30", "100", "300"])
    # Through the middle row that a boundary crosses: the slope is the prediction, the level is not.
    crossed = np.flatnonzero((share[:, 0] < 0.5) & (share[:, -1] >= 0.5))
    if len(crossed):
        row = crossed[len(crossed) // 2]
        level = samples[np.argmax(share[row] >= 0.5)] / np.sqrt(samples[1] / samples[0])
        theory_line(axis, fractions, level * (fractions[row] / fractions) ** power, linestyle=line)
        axis.text(
            0.04,
            0.04,
            rf"{NAMES[line]}: $N \propto \alpha_*^{{-{power}}}$",
            transform=axis.transAxes,
            fontsize=6.5,
        )
    panel_label(axis, letter, title)
    return mesh


def ticks(axis):
    axis.set_xticks([0.1, 0.2, 0.3], ["0.1", "0.2", "0.3"])
