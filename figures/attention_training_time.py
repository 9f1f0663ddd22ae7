"""Training time: losses on one clock, its constancy, attention's mass, and how many confusion tokens are too many."""

from pathlib import Path

import numpy as np

from theory_sim import bootstrap, by_seed, computed, time_to
from theory_sim.attention import confusion_constant
from theory_sim.plotting import COLORS, band, figure, interval, label_line, log_axes, panel_label, theory_line
from theory_sim.study import load_module

STUDY = load_module(Path(__file__).parents[1] / "sweeps" / Path(__file__).name)
ARROW = {"arrowstyle": "->", "color": COLORS[6], "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}


def draw(data):
    data = data.isel(max_width=0) if "max_width" in data.dims else data
    fig, ((losses, clock), (mass, failure)) = figure(panels=(2, 2))
    clean = data.sel(confusion_fraction=0.0, label_noise=0.0)
    draw_losses(losses, clean.sel(token_noise=0.1, query_key_scale=0.3))
    draw_clock(clock, clean)
    draw_mass(mass, data.sel(label_noise=0.0, token_noise=0.1).isel(step_size=-1))
    draw_failure(failure, data.sel(relevant_fraction=0.45, token_noise=0.1).isel(step_size=-1))
    return fig


def draw_losses(axis, data):
    steps = data.step.to_numpy()
    for color, fraction in zip(COLORS, data.relevant_fraction.to_numpy(), strict=False):
        for size, style in zip(data.step_size.to_numpy(), ("-", ":"), strict=False):
            runs = by_seed(data.sel(relevant_fraction=fraction, step_size=size), "test_loss", "step")
            label = rf"$\alpha_*$ = {fraction:g}" if style == "-" else None
            axis.plot(steps * size * fraction, runs.mean(axis=0), color=color, linestyle=style, label=label)
    axis.axhline(0.1, color="0.6", linewidth=0.8, zorder=0)
    log_axes(axis, "x")
    axis.set(xlabel=r"$\eta\,\alpha_* t$", ylabel="test loss", xlim=(0.3, 60), ylim=(0, 1.05))
    axis.legend(
        title=rf"solid $\eta$ = {data.step_size.to_numpy()[0]:g}, dotted {data.step_size.to_numpy()[-1]:g}"
    )
    axis.get_legend().get_title().set_fontsize(6.5)
    panel_label(axis, "a", r"small start, low noise: one clock")


def draw_clock(axis, data):
    fractions, levels = data.relevant_fraction.to_numpy(), []
    for scale, marker in zip(data.query_key_scale.to_numpy(), ("o", "s"), strict=False):
        for noise, color in zip(data.token_noise.to_numpy(), COLORS, strict=False):
            for size, shift in zip(data.step_size.to_numpy()[[0, -1]], (0.98, 1.02), strict=True):
                cell = data.sel(query_key_scale=scale, token_noise=noise, step_size=size)
                if not cell["complete"].any():
                    continue
                runs = by_seed(cell, "test_loss", "relevant_fraction", "step")
                times = time_to(cell.step.to_numpy(), runs, 0.1) * size * fractions
                levels.append(times)
                finite = np.isfinite(times).all(axis=0)
                label = rf"noise {noise:g}, $W_{{Q,K}}(0)$ = {scale:g} I" if shift > 1 else None
                style = {"markerfacecolor": "white"} if shift < 1 else {}
                interval(
                    axis, shift * fractions[finite], bootstrap(times[:, finite]), color=color, label=label,
                    fmt=marker, **style,
                )  # fmt: skip
    for scale, style, marker in zip(data.query_key_scale.to_numpy(), (":", "-."), "os", strict=False):
        cell = data.sel(query_key_scale=scale, token_noise=0.1).isel(step_size=-1)
        steps, runs = cell.step.to_numpy(), by_seed(cell, "test_loss", "relevant_fraction", "step")
        reached = time_to(steps, runs, 1e-3)
        times = np.median(np.minimum(reached, steps[-1]), axis=0) * float(cell.step_size) * fractions
        label = f"to a loss of 0.001, {scale:g} I"
        whole = np.isfinite(reached).all(axis=0)
        shown = np.where(whole, times, np.nan)
        axis.plot(fractions, shown, color=COLORS[6], linestyle=style, marker=".", markersize=3, label=label)
        # Where a run does not get there only a lower bound is known.
        axis.plot(fractions[~whole], times[~whole], linestyle="", marker=marker, markersize=3.5,
                  color=COLORS[6], markerfacecolor="white")  # fmt: skip
        for place, time in zip(fractions[~whole], times[~whole], strict=True):
            axis.annotate("", (place, time + 3.5), (place, time + 0.6), arrowprops=ARROW)
            label_line(axis, "at least", place, time, xytext=(-4, -11))
    # The theorem gives the constancy, not the level, which is that of the cleanest cells.
    level = np.mean(levels[0])
    theory_line(axis, fractions[[0, -1]], [level, level])
    label_line(axis, "constant (Theorem 1)", 0.33, level, xytext=(0, -12))
    log_axes(axis, "x")
    axis.set_xticks([0.2, 0.3, 0.5, 0.9], ["0.2", "0.3", "0.5", "0.9"])
    axis.set(xlabel=r"$\alpha_*$", ylabel=r"$T \eta\,\alpha_*$", ylim=(0, 42))
    axis.legend(ncols=2, loc="upper right", fontsize=6, columnspacing=1.0)
    panel_label(axis, "b", "time to a test loss of 0.1, and to 0.001")


def draw_mass(axis, data):
    steps = data.step.to_numpy()[1:]
    lowest = float(data.relevant_fraction[0])
    most = float(data.confusion_fraction[-1])
    lines = [
        (lowest, 0.0, float(data.query_key_scale[-1]), rf"$\alpha_*$ = {lowest:g}, paper's start"),
        (lowest, 0.0, float(data.query_key_scale[0]), rf"$\alpha_*$ = {lowest:g}, small start"),
        (0.45, 0.0, float(data.query_key_scale[-1]), r"$\alpha_*$ = 0.45"),
        (0.45, most, float(data.query_key_scale[-1]), rf"$\alpha_*$ = 0.45, $\alpha_\#$ = {most:g}"),
    ]
    for color, (fraction, confusion, scale, label) in zip(COLORS, lines, strict=False):
        cell = data.sel(relevant_fraction=fraction, confusion_fraction=confusion, query_key_scale=scale)
        band(axis, steps, by_seed(cell, "attention_mass", "step")[:, 1:], color=color, label=label)
    log_axes(axis, "x")
    axis.set(xlabel="step $t$", ylabel="attention on relevant tokens", ylim=(0.15, 0.85))
    axis.legend(loc="upper left")
    panel_label(axis, "c", rf"where attention goes ($\eta$ = {float(data.step_size):g})")


def draw_failure(axis, data):
    ratios = data.confusion_fraction.to_numpy() / 0.45
    last = data.isel(step=-1)
    for color, scale in zip(COLORS, data.query_key_scale.to_numpy(), strict=False):
        cell = last.sel(query_key_scale=scale)
        runs = by_seed(cell.sel(label_noise=0.0), "test_error", "confusion_fraction")
        band(axis, ratios, runs, color=color, marker="o", label=rf"$W_{{Q,K}}(0)$ = {scale:g} I")
        random = computed(cell.sel(label_noise=1.0))
        if random.sizes["confusion_fraction"]:
            means = by_seed(random, "test_error", "confusion_fraction").mean(axis=0)
            axis.plot(random.confusion_fraction / 0.45, means, color=color, linestyle=":")
    fine = np.linspace(0, ratios[-1], 400)
    theory_line(axis, fine, [STUDY.count_error(0.45, 0.45 * ratio) for ratio in fine])
    axis.text(0.2, 0.05, "sloping dashed: least of\nany learner of counts", fontsize=6.5)
    for place, text, side in (
        (confusion_constant(), "1/(2e): c is below\n(Theorem 1, as recalled)", 3),
        (1.0, "as many", -34),
    ):
        axis.axvline(place, color="black", linestyle=(0, (4, 1.6)), linewidth=1)
        label_line(axis, text, place, 0.3 if side > 0 else 0.04, xytext=(side, 0))
    axis.set(xlabel=r"$\alpha_\# / \alpha_*$", ylabel="test error, last step", ylim=(-0.02, 0.7))
    axis.legend(loc="center left", bbox_to_anchor=(0.22, 0.33))
    panel_label(axis, "d", "confusion tokens; dotted: random labels")
