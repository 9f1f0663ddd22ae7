"""The error under Gaussian noise over the floor of the l1 loss, and in units of it."""

import xarray as xr
from matplotlib.figure import Figure

from theory_sim import bootstrap, by_seed
from theory_sim.plotting import COLORS, figure, interval, log_axes, panel_label, theory_line
from theory_sim.sensing import absolute_loss_floor, minimax_floor


def draw(data: xr.Dataset) -> Figure:
    data = data.isel(dict.fromkeys(("dim", "true_rank", "max_rank", "measurements", "condition_number"), 0))
    data = data.isel(step=-1).squeeze(["step_size", "decay", "run_seed"])
    fig, (errors, shares) = figure(columns=2, panels=(1, 2))
    small, large = data.isel(init_scale=0), data.isel(init_scale=-1, rank=-1)
    samples = data["samples"].to_numpy()
    panel_label(errors, "a", "last error")
    panel_label(shares, "b", "in units of the floor")
    for color, noise in zip(COLORS, data["noise_std"].to_numpy(), strict=False):
        floor = absolute_loss_floor(noise, data["dim"].item(), data["true_rank"].item(), samples)
        theory_line(errors, samples, floor)
        runs = [
            (small.sel(noise_std=noise).isel(rank=i), f"$r'$ = {r}")
            for i, r in enumerate(small["rank"].to_numpy())
        ]
        runs.append((large.sel(noise_std=noise), f"$r'$ = {int(large['rank'])}, large start"))
        for shift, marker, (cell, name) in zip(
            (0.94, 1, 1.06, 1.03), "osDx", runs[:3] + runs[-1:], strict=True
        ):
            values = by_seed(cell, "error", "samples")
            label = name if color == COLORS[0] else None
            interval(errors, shift * samples, bootstrap(values), color=color, fmt=marker, label=label)
            interval(shares, shift * samples, bootstrap(values / floor), color=color, fmt=marker)
        shares.plot([], [], color=color, label=rf"$\nu$ = {noise:g}")
    theory_line(shares, samples[[0, -1]], (1, 1), label=r"$\sqrt{\pi\nu^2 q/2m}$")
    order = minimax_floor(1, data["dim"].item(), data["true_rank"].item(), samples)
    theory_line(
        shares, samples, order / absolute_loss_floor(1, data["dim"].item(), data["true_rank"].item(), samples),
        label=r"$\sqrt{\nu^2 d r/m}$", linestyle=":",
    )  # fmt: skip
    for axis in (errors, shares):
        log_axes(axis, "both" if axis is errors else "x")
        axis.set_xticks(samples, [str(s) for s in samples])
        axis.minorticks_off()
        axis.set(xlabel="measurements $m$", xlim=(samples[0] / 1.3, samples[-1] * 1.3))
    errors.set(ylabel=r"error $\|UU^T - M_\star\|_F$", ylim=(2e-4, 0.1))
    shares.set(ylabel="error / floor", ylim=(0, 2.6))
    errors.legend(loc="lower left", ncols=2)
    shares.legend(loc="upper center", ncols=3)
    return fig
