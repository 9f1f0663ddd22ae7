"""Attention weights turn to the max margin direction like 1/t by normalised steps, and stall as published."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from theory_sim import (
    AtLeast,
    AtMost,
    Claim,
    Equals,
    Estimate,
    Simulation,
    Sweep,
    bootstrap,
    by_seed,
    exponent,
    log_spaced,
)
from theory_sim.attention import (
    gradient_excess_loss,
    gradient_norm_slope,
    normalized_loss_rate,
    normalized_norm,
    polyak_loss_rate,
    polyak_norm,
    stall_norm,
    token_selection,
)


def selection(*, inputs: int, tokens: int, dim: int, training: str) -> Simulation:
    """Return `token_selection` by a rule, or by normalised steps on key and query; with the nuclear norm for these."""
    factors = training == "key_query"
    return token_selection(
        inputs=inputs,
        tokens=tokens,
        dim=dim,
        parameterization="key_query" if factors else "weights",
        rule="normalized" if factors else training,
        nuclear=training in ("key_query", "normalized"),
    )


def wanted(*, training, step_size, score_spread, **_):
    """Select long steps for gradient descent and short ones for the rest; data as drawn for normalised steps alone."""
    sizes = np.where(training == "gradient", step_size >= 1, step_size < 1)
    as_drawn = np.isin(training, ["normalized", "published", "key_query"])
    equal_scores = training != "key_query"
    return sizes & np.where(score_spread == 1, as_drawn, equal_scores)


SWEEP = Sweep(
    simulation=selection,
    shape={
        "inputs": [6],
        "tokens": [8],
        "dim": [10],
        "training": ["normalized", "published", "gradient", "polyak", "key_query"],
    },
    problem={"score_spread": [0.0, 1.0]},
    run={"step_size": [0.3, 10.0], "longest_step": [2.0]},
    problem_seeds=12,
    steps=log_spaced(30_000, per_decade=12),
    presets={
        "smoke": {"problem_seeds": 3, "steps": log_spaced(1_000, per_decade=12)},
        "quick": {},
        "paper": {
            "step_size": [0.1, 0.3, 10.0],
            "problem_seeds": 64,
            "steps": log_spaced(100_000, per_decade=12),
        },
    },
    where=wanted,
)


def decade(data: xr.Dataset) -> xr.Dataset:
    """Return the last decade of the record."""
    return data.sel(step=slice(int(data["step"][-1]) / 10, None))


def window(data: xr.Dataset) -> str:
    """Return the steps of a record in words."""
    return f"steps {int(data['step'][0])} to {int(data['step'][-1])}"


def direction_exponent(data: xr.Dataset) -> Estimate:
    """Fit the exponent of the error of the direction over the last decade."""
    steps = data["step"].to_numpy()
    return exponent(steps, by_seed(data, "direction_error", "step"), window=(steps[-1] / 10, steps[-1]))


def last(data: xr.Dataset, name: str) -> np.ndarray:
    """Return a metric of each seed at the last step."""
    return by_seed(data, name, "step")[:, -1]


def mean_exponent(data: xr.Dataset) -> Estimate:
    """Return the mean slope of the log error in the log of the step over the last decade, a power law or not.

    The error of key and query is that from the nuclear norm's direction.
    """
    name = "nuclear_error" if data["training"].item() == "key_query" else "direction_error"
    logs = data.assign(log_error=np.log(data[name].where(data[name] > 0)))
    return bootstrap(slopes(logs, "log_error", logarithmic=True), window=window(decade(data)))


def at_the_end(name: str) -> Callable[[xr.Dataset], Estimate]:
    """Measure a metric at the last step."""
    return lambda data: bootstrap(last(data, name), window=f"step {int(data['step'][-1])}")


def norm_share(predicted: Callable[..., np.ndarray], *names: str) -> Callable[[xr.Dataset], Estimate]:
    """Measure the norm at the last step, in units of a prediction from the step size and other metrics of a run."""

    def measure(data: xr.Dataset) -> Estimate:
        given = [by_seed(data, name) for name in names]
        curve = predicted(data["step"][-1], data["step_size"], *given)
        return bootstrap(last(data, "norm") / curve, window=f"step {int(data['step'][-1])}")

    return measure


def stalled_norm(data: xr.Dataset) -> Estimate:
    """Divide the norm at the start of the last decade by `||W^mm|| log(1/epsilon)`."""
    later = decade(data)
    share = by_seed(later, "norm", "step")[:, 0] / stall_norm(by_seed(data, "margin_norm"))
    return bootstrap(share, window=f"step {int(later['step'][0])}")


def slopes(data: xr.Dataset, name: str, *, logarithmic: bool) -> np.ndarray:
    """Return each run's mean slope over the last decade, in the step or in its logarithm."""
    later = decade(data)
    x = later["step"].to_numpy().astype(float)
    x = np.log(x) if logarithmic else x
    values = by_seed(later, name, "step")
    return (values[:, -1] - values[:, 0]) / (x[-1] - x[0])


def normalized_fall(data: xr.Dataset) -> Estimate:
    """Divide the slope of the log excess loss by `-eta / ||W^mm||`."""
    predicted = normalized_loss_rate(data["step_size"], by_seed(data, "margin_norm"))
    found = slopes(data, "log_excess_loss", logarithmic=False)
    return bootstrap(found / predicted, window=window(decade(data)))


def polyak_fall(data: xr.Dataset) -> Estimate:
    """Divide the slope of the log excess loss by `-theta`."""
    found = slopes(data, "log_excess_loss", logarithmic=False)
    return bootstrap(found / polyak_loss_rate(data["step_size"]), window=window(decade(data)))


def loss_exponent(data: xr.Dataset) -> Estimate:
    """Return the mean slope of the log excess loss in the log of the step."""
    return bootstrap(slopes(data, "log_excess_loss", logarithmic=True), window=window(decade(data)))


def loss_constant(data: xr.Dataset) -> Estimate:
    """Divide the last excess loss by `||W^mm||^2 / (eta t)`."""
    curve = gradient_excess_loss(data["step"][-1], data["step_size"], by_seed(data, "margin_norm"))
    return bootstrap(np.exp(last(data, "log_excess_loss")) / curve, window=f"step {int(data['step'][-1])}")


def norm_slope(data: xr.Dataset) -> Estimate:
    """Divide the slope of the norm in the log of the step by `||W^mm||`."""
    predicted = gradient_norm_slope(by_seed(data, "margin_norm"))
    return bootstrap(slopes(data, "norm", logarithmic=True) / predicted, window=window(decade(data)))


def residual_share(data: xr.Dataset) -> Estimate:
    """Divide the residual at the last step by its predicted limit."""
    share = last(data, "residual") / by_seed(data, "residual_limit")
    return bootstrap(share, window=f"step {int(data['step'][-1])}")


def along_the_path(data: xr.Dataset) -> Estimate:
    """Divide the first training's direction error by that of the second at the same norm, the last both reach."""
    first, second = (data.sel(training=[name]) for name in data["training"].to_numpy())
    norms, errors = (
        by_seed(first, "norm", "step_size", "step"),
        by_seed(first, "direction_error", "step_size", "step"),
    )
    reached, reference = (by_seed(second, name, "step_size", "step") for name in ("norm", "direction_error"))
    shares = []
    for norm, error, path, at in zip(norms[:, 0], errors[:, 0], reached[:, 0], reference[:, 0], strict=True):
        place = np.flatnonzero(norm <= path[-1])[-1]
        expected = np.interp(np.log(norm[place]), np.log(path[1:]), np.log(at[1:]))
        shares.append(error[place] / np.exp(expected))
    return bootstrap(np.array(shares), window="last norm reached by both")


def cells(training: str, score_spread: float = 0.0) -> dict:
    """Name the cells of a training at the step size of the quick preset."""
    return {
        "training": training,
        "score_spread": score_spread,
        "step_size": 10.0 if training == "gradient" else 0.3,
    }


MODEL = "arXiv:2308.16898, Theorem 4 (direction, without a rate)"
STALLED = (
    "the published rule stops once ||grad L|| is of the order of its epsilon, 36 ||W^mm|| from the start"
)
TAIL = "late in training L - L* = sum_k w_k exp(-a_k . W) and ||grad L|| ||W^mm|| = L - L*;"
OFFSET = (
    "the first steps are not parallel to W^mm: they leave an offset of the order of the residual, a few units"
)

CLAIMS = [
    *[
        Claim(
            ids=("AT-A2", "AT-A15", "AT-A-P2", "AT-D5"),
            statement=f"normalised steps in the log domain, {data}: the error of the direction falls like 1/t",
            source=MODEL,
            label="derived",
            derivation="W = ||W|| W^mm/||W^mm|| + a bounded residual, and ||W_t|| = eta t: the error is |r|/(eta t)",
            measure=direction_exponent,
            at=cells("normalized", spread),
            control=cells("published", spread),
            control_reason=STALLED,
            prediction=Equals(-1, tolerance=0.05),
            tolerance_reason=f"{OFFSET}\nof 900 at the start of the window, below 1%; the residual drifts by some"
            " percent more where a token's margin is within 1/100 of that of the support tokens, and fades late",
        )
        for spread, data in ((0.0, "equal scores of the other tokens"), (1.0, "data as drawn"))
    ],
    Claim(
        ids=("AT-A2", "AT-A-P2"),
        statement="normalised steps in the log domain: ||W_t|| = eta t",
        source=MODEL,
        label="derived",
        derivation="every step has length eta, and late steps are parallel",
        measure=norm_share(normalized_norm),
        at=cells("normalized"),
        control=cells("published"),
        control_reason=STALLED,
        prediction=Equals(1, tolerance=0.01),
        tolerance_reason=f"{OFFSET} of 9000",
    ),
    Claim(
        ids=("AT-A2", "AT-A-P2"),
        statement="normalised steps in the log domain: log(L - L*) falls by eta/||W^mm|| a step",
        source=MODEL,
        label="derived",
        derivation="a step of length eta along W^mm raises every margin a_k . W by eta/||W^mm||;\n"
        "L - L* = sum_k w_k exp(-a_k . W)",
        measure=normalized_fall,
        at=cells("normalized"),
        control=cells("published"),
        control_reason=STALLED,
        prediction=Equals(1, tolerance=0.01),
        tolerance_reason="a gradient at an angle to W^mm lowers the loss faster by half its square; the angle falls"
        " exponentially",
    ),
    Claim(
        ids=("AT-A15", "AT-A-F1"),
        statement="the published rule stalls at ||W|| = ||W^mm|| log(1/epsilon), epsilon = 2.22e-16",
        source="arXiv:2308.16898, official code (the rule)",
        label="derived",
        derivation="||grad L|| = exp(-||W||/||W^mm||) up to a factor; the step shrinks once it is epsilon",
        measure=stalled_norm,
        at=cells("published"),
        control=cells("normalized"),
        control_reason="steps in the log domain never shrink",
        prediction=Equals(1, tolerance=0.25),
        tolerance_reason="the logarithm of numbers of order one, 3 or so of 36, and of the growth by ln t left,\n"
        "2 or so, with what rounding errors in place of the gradient add",
    ),
    Claim(
        ids=("AT-A15",),
        statement="the published rule, once it has stalled, turns away from the max margin direction",
        source="conjectured here",
        label="unconfirmed",
        measure=mean_exponent,
        at=cells("published"),
        control=cells("normalized"),
        control_reason="in the log domain the error falls like 1/t",
        prediction=AtLeast(0),
    ),
    Claim(
        ids=("AT-A-P1", "AT-A14"),
        statement="normalised steps: the part of W across W^mm, in the span of the support tokens, tends to a constant"
        " that the multipliers give",
        source="derived from the stationarity of the direction",
        label="derived",
        derivation="the gradient is along W^mm = sum_k lambda_k a_k when w_k exp(-a_k . W) ~ lambda_k:\n"
        "a_k . r = log(w_k/lambda_k) + constant for all support tokens",
        measure=residual_share,
        at=cells("normalized"),
        control=cells("published"),
        control_reason="rounding turns the steps of the published rule away from the gradient, once they are small",
        prediction=Equals(1, tolerance=0.02),
        tolerance_reason="the residual settles exponentially; what is left is rounding in the multipliers of tokens"
        " that are almost no support tokens",
    ),
    Claim(
        ids=("AT-A3", "AT-A-P3"),
        statement="gradient descent on equal scores: the excess loss is ||W^mm||^2/(eta t)",
        source="arXiv:2308.16898, Theorem 4 (no rate)",
        label="derived",
        derivation=f"{TAIL}\ndL/dt = -eta ||grad L||^2 = -eta (L - L*)^2/||W^mm||^2",
        measure=loss_constant,
        at=cells("gradient"),
        control=cells("normalized"),
        control_reason="normalised steps lower the loss exponentially",
        prediction=Equals(1, tolerance=0.1),
        tolerance_reason="the loss is lower by the squared sine of the angle between gradient and W^mm, which falls"
        " only as a small power of t: at most (0.3)^2",
    ),
    Claim(
        ids=("AT-A3", "AT-A-P3"),
        statement="gradient descent on equal scores: the excess loss falls like 1/t",
        source="arXiv:2308.16898, Theorem 4 (no rate)",
        label="derived",
        derivation=f"{TAIL}\nthe solution of dL/dt = -eta (L - L*)^2/||W^mm||^2 is ||W^mm||^2/(eta t)",
        measure=loss_exponent,
        at=cells("gradient"),
        control=cells("polyak"),
        control_reason="Polyak's steps lower the loss exponentially",
        prediction=Equals(-1, tolerance=0.05),
        tolerance_reason="the constant is within 10% of its limit, and drifts by less than half that in a decade",
    ),
    Claim(
        ids=("AT-A3", "AT-A-P3"),
        statement="gradient descent on equal scores: ||W_t|| grows by ||W^mm|| for each unit of ln t",
        source="arXiv:2308.16898, Theorem 4 (no rate)",
        label="derived",
        derivation=f"{TAIL}\neta ||grad L|| = eta (L - L*)/||W^mm|| = ||W^mm||/t",
        measure=norm_slope,
        at=cells("gradient"),
        control=cells("normalized"),
        control_reason="normalised steps make the norm linear in t",
        prediction=Equals(1, tolerance=0.1),
        tolerance_reason="second order in the angles of W and of the gradient to W^mm, each 0.3 at most",
    ),
    Claim(
        ids=("AT-A3", "AT-A-P3"),
        statement="gradient descent: the direction converges only like 1/ln t, a local exponent above -0.3",
        source="arXiv:2308.16898, Theorem 4 (no rate)",
        label="derived",
        derivation="|r|/||W_t|| with ||W_t|| = ||W^mm|| (ln t + c) has the exponent -1/(ln t + c), and |r| still grows",
        measure=mean_exponent,
        at=cells("gradient"),
        control=cells("normalized"),
        control_reason="normalised steps reach 1/t",
        prediction=AtLeast(-0.3),
    ),
    Claim(
        ids=("AT-A14", "AT-A-P1"),
        statement="gradient descent goes along the path of normalised steps: at equal norms, equal direction errors",
        source="derived from the gradient flow",
        label="derived",
        derivation="both follow the flow dW = -grad L from W = 0, whose curve does not depend on the speed",
        measure=along_the_path,
        at={"training": ["gradient", "normalized"], "score_spread": 0.0},
        control={"training": ["key_query", "normalized"], "score_spread": 1.0},
        control_reason="the flow of key and query goes along another curve, to the nuclear norm's solution",
        prediction=Equals(1, tolerance=0.05),
        tolerance_reason="first steps of length 0.2 and 0.3, on a curve that turns by about a radian, end half a step"
        " apart: 0.05 to 0.1 of a residual of a few units",
    ),
    Claim(
        ids=("AT-A4", "AT-A-P4"),
        statement="Polyak's steps: ||W_t|| = theta ||W^mm|| t",
        source="arXiv:2402.05738 (Polyak steps; constants derived)",
        label="derived",
        derivation=f"{TAIL}\nthe step theta (L - L*)/||grad L|| has length theta ||W^mm||",
        measure=norm_share(polyak_norm, "margin_norm"),
        at=cells("polyak"),
        control=cells("normalized"),
        control_reason="normalised steps have length eta on any data",
        prediction=Equals(1, tolerance=0.01),
        tolerance_reason=f"{OFFSET} of several thousand",
    ),
    Claim(
        ids=("AT-A4", "AT-A-P4"),
        statement="Polyak's steps: log(L - L*) falls by theta a step, on any data",
        source="arXiv:2402.05738 (Polyak steps; constants derived)",
        label="derived",
        derivation="a step of length theta ||W^mm|| along W^mm raises every margin a_k . W by theta",
        measure=polyak_fall,
        at=cells("polyak"),
        control=cells("normalized"),
        control_reason="normalised steps lower the log loss by eta/||W^mm||, less than half as much",
        prediction=Equals(1, tolerance=0.01),
        tolerance_reason="the angle between gradient and W^mm falls exponentially",
    ),
    Claim(
        ids=("AT-A4", "AT-A-P4", "AT-D5"),
        statement="Polyak's steps: the error of the direction falls like 1/t, and 1 - corr like 1/t^2",
        source="arXiv:2402.05738 (Polyak steps; exponent derived)",
        label="derived",
        derivation="|r|/||W_t|| with a bounded residual and ||W_t|| = theta ||W^mm|| t",
        measure=direction_exponent,
        at=cells("polyak"),
        control=cells("gradient"),
        control_reason="gradient descent gains only like 1/ln t",
        prediction=Equals(-1, tolerance=0.05),
        tolerance_reason="as for normalised steps, from a larger norm on",
    ),
    Claim(
        ids=("AT-A1", "AT-A-P5"),
        statement="normalised steps on key and query end near the nuclear norm's direction: corr 0.99 or more",
        source="arXiv:2308.16898, Fig. 7 (corr about 0.99)",
        label="unconfirmed",
        measure=at_the_end("nuclear_error"),
        at=cells("key_query", 1.0),
        control=cells("normalized", 1.0),
        control_reason="trained weights tend to the Frobenius norm's direction, corr about 0.85 with this one",
        prediction=AtMost(np.sqrt(2 * 0.01)),
        tolerance_reason="a bound: |A/|A| - B/|B|| = sqrt(2 (1 - corr))",
    ),
    Claim(
        ids=("AT-A1", "AT-A-P5"),
        statement="normalised steps on key and query stay away from the Frobenius norm's direction: corr below 0.95",
        source="arXiv:2308.16898, Fig. 7 (corr about 0.86)",
        label="unconfirmed",
        measure=at_the_end("direction_error"),
        at=cells("key_query", 1.0),
        control=cells("normalized", 1.0),
        control_reason="trained weights tend to that direction",
        prediction=AtLeast(np.sqrt(2 * 0.05)),
    ),
    Claim(
        ids=("AT-A17", "AT-A-P5"),
        statement="the direction of key and query converges more slowly than that of weights: exponent above -0.75",
        source="conjectured here",
        label="unconfirmed",
        measure=mean_exponent,
        at=cells("key_query", 1.0),
        control=cells("normalized", 1.0),
        control_reason="the exponent of weights is -1",
        prediction=AtLeast(-0.75),
    ),
]
