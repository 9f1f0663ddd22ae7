r"""Robust matrix recovery: the sub-gradient method on `f(U) = (1/m) ||y - A(U U^T)||_1`, with `U` of any rank.

The model of Ma, Fattahi (arXiv:2202.08788): some measurements are outliers or all are noisy, and `U` has more columns
than the target has rank. `<A_i, X>` has unit variance for `||X||_F = 1` there; the operator here carries `1/sqrt(m)`,
so that outliers and noise are scaled by it, and the loss is `(1/sqrt(m)) ||y - A(U U^T)||_1`: the same number.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = subgradient(dim=5, true_rank=1, max_rank=5, measurements=200)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting._replace(outlier_fraction=0.3))
>>> hyper = simulation.hyper._replace(decay=0.97)
>>> error = trajectory(simulation, [0, 500])(jax.random.key(1), problem, hyper)["error"]
>>> bool(error[-1] < 1e-3 < 0.9 < error[0])
True
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.decompositions import leading_directions, orthonormal_rows, solve_spd
from theory_sim.draws import normal
from theory_sim.sensing import problems
from theory_sim.sensing.measurements import Operator, adjoint, measure
from theory_sim.sensing.problems import INFINITY, SPECTRA, check_choice, check_sizes, settled
from theory_sim.simulation import Metrics, Simulation, Variable

LOSSES = ("l1", "l2")
STARTS = ("spectral", "orthogonal")
RULES = ("geometric", "polyak")
MEAN_ABSOLUTE = np.sqrt(2 / np.pi)
WARM_UP = 12
"""Rounds of subspace iteration before the first step; each step makes one more."""


class Setting(NamedTuple):
    """What a problem is drawn with.

    `condition_number` is `kappa_M = sigma_1(M*) / sigma_r(M*)`. A measurement is an outlier with probability
    `outlier_fraction`, and then has N(0, outlier_std^2) added; all have N(0, noise_std^2) added. Both are the
    deviations of a measurement by a matrix of unit variance (SE-2-M4).
    """

    condition_number: float = 1.0
    outlier_fraction: float = 0.0
    outlier_std: float = 10.0
    noise_std: float = 0.0


class Hyper(NamedTuple):
    """What a run is made with.

    Columns of the factor in use, step size `eta_0` (a multiple of Polyak's under that rule), its decay `rho` a
    step, the scale `alpha = ||U_0||_2` of the start, and how many of the measurements are used.
    """

    rank: int = 1
    step_size: float = 0.15
    decay: float = 0.98
    init_scale: float = 1e-3
    samples: int = 1


class Problem(NamedTuple):
    """A target `M* = V diag(sigma) V^T` with the basis `V` of its range, and what is observed of it.

    `corruption` is all that was added to `A(M*)`, divided by `sqrt(m)` as the operator is.
    """

    operator: Operator
    observed: Float[Array, "..."]
    corruption: Float[Array, "..."]
    target: Float[Array, "dim dim"]
    basis: Float[Array, "dim true_rank"]
    singular_values: Float[Array, " true_rank"]


class State(NamedTuple):
    """The factor `U`, `rho^t`, and two orthonormal vectors that follow the leading directions of the sign field."""

    factor: Float[Array, "dim max_rank"]
    shrinkage: Float[Array, ""]
    directions: Float[Array, "dim 2"]


def subgradient(
    *,
    dim: int,
    true_rank: int,
    max_rank: int,
    measurements: int | None = None,
    loss: str = "l1",
    start: str = "spectral",
    rule: str = "geometric",
    scaled: bool = False,
    spectrum: str = "linear",
) -> Simulation:
    """Return the sub-gradient method for robust recovery, for ranks from 1 up to `max_rank` (SE-2-U1).

    With `Q = (1/m) sum_i sign(<A_i, U U^T> - y_i) A_i`, the sign field for unit-variance `A_i`, a step goes along
    `D = 2 Q U`. `loss="l2"` puts the residuals in place of their signs: the same method on `(1/2m) ||y - A(U U^T)||^2`.
    `measurements=None` is the population case, where `Q = sqrt(2/pi) X / ||X||_F` with `X = U U^T - M*` (for l2, `X`),
    without outliers or noise.

    Rules for the step:

    - `geometric`: `U - eta_0 rho^t D / ||Q||_2` (SE-2-U2, SE-2-U3). `||Q||_2` is a Ritz value of two vectors that are
      followed from step to step, two because the leading direction changes when one is learnt: exact to 1% while the
      signal grows, and some percent below once `U U^T` only jumps around `M*` and `Q` changes at every step.
    - `polyak`: `U - eta_0 (f(U) - f(V*)) D / ||D||_F^2`, where `V* V*^T = M*`, zero when that is not positive.

    `scaled` puts `D (U^T U)^{-1}` in place of `D`, and `<D, D (U^T U)^{-1}>` in place of `||D||_F^2`; the geometric
    rule then divides by its root (ScaledSM, arXiv:2010.13364, on PSD targets; SE-3f). It needs `rank = true_rank`: the
    Gram matrix of further columns is nearly singular.

    The start is `alpha Q~` with random orthonormal columns, or `spectral`: `alpha W (Lambda_+ / lambda_1)^{1/2}` of the
    leading eigenpairs of `(1/m) sum_i sign(y_i) A_i` (SE-2-U4). A column of a negative eigenvalue is zero and stays so:
    `spectral` leaves r columns in the population and about `(r + dim) / 2` with measurements, half of the eigenvalues
    of the noise being positive; a larger rank adds nothing, and a smaller one has the first of the same columns. Only
    the first `samples` measurements are used.

    Metrics: `error = ||U U^T - M*||_F`, `excess_loss = f(U) - f(V*)`, and `learned_s`, the share of each direction of
    the target that is learnt.

    Raises ValueError when a size is not a whole number or below 1, or `dim` below 2, a rank is above `dim`, or
    `max_rank` below the rank that `scaled` needs, or when a word is unknown.
    """
    check_sizes(dim=dim, true_rank=true_rank, max_rank=max_rank, measurements=measurements)
    if dim < 2:
        raise ValueError(f"dim must be at least 2, got {dim}")
    if scaled and max_rank < true_rank:
        raise ValueError(
            f"max_rank must be at least true_rank = {true_rank}, the rank of a scaled run, got {max_rank}"
        )
    for name, value, choices in (
        ("loss", loss, LOSSES),
        ("start", start, STARTS),
        ("rule", rule, RULES),
        ("spectrum", spectrum, SPECTRA),
    ):
        check_choice(name, value, choices)
    corrupted = INFINITY if measurements else 0.0
    step = partial(_step, loss=loss, rule=rule, scaled=scaled)
    return Simulation(
        sample=partial(_sample, dim=dim, true_rank=true_rank, measurements=measurements, spectrum=spectrum),
        init=partial(_init, max_rank=max_rank, start=start, loss=loss),
        step=step,
        observe=partial(_observe, loss=loss),
        setting=Setting(),
        hyper=Hyper(rank=true_rank if scaled else max_rank, samples=measurements or 1),
        conclude=lambda problem, hyper, records, state: {
            "converged": settled(step, _estimate, problem, hyper, state)
        },
        variables={
            "error": Variable("recovery error, Frobenius norm"),
            "excess_loss": Variable("loss above that of the target"),
            "learned": Variable("learnt share of a direction of the target", dims={"direction": None}),
        },
        limits={
            **problems.setting_limits(true_rank, measurements),
            "outlier_fraction": (0.0, float(np.nextafter(1.0, 0.0)) if measurements else 0.0),
            "outlier_std": (0.0, INFINITY),
            "noise_std": (0.0, corrupted),
            "rank": (true_rank, true_rank) if scaled else (1, max_rank),
            "step_size": (0.0, INFINITY),
            "decay": (float(np.nextafter(0.0, 1.0)), 1.0),
            "init_scale": (float(np.nextafter(0.0, 1.0)), INFINITY),
            "samples": (1, measurements or 1),
        },
        caution=partial(_caution, loss, rule, scaled),
    )


def _caution(loss: str, rule: str, scaled: bool, setting: Setting, hyper: Hyper) -> dict[str, Any]:
    """Polyak's step changes `||U - V*||^2` by `c^2 gap^2 / ||D||^2 - 2 c gap <D, U - V*> / ||D||^2`.

    Near V* the l1 gap is of degree 1 in `U - V*`, so that `<D, U - V*> = gap`, and the change is negative for c < 2;
    the l2 gap is of degree 2: for c < 4. Both hold in the metric of `scaled` too. The geometric rule multiplies a
    factor that is too large by `1 - 2 eta_0 rho^t` along the leading direction, which makes it larger above 1. Scaled,
    it takes `s = u^2` to `s +- 2 eta_0 rho^t + (eta_0 rho^t)^2 / s`: to `(eta_0 / alpha)^2` from a small start at once,
    and then down by `2 eta_0 / (1 - rho)` in all.
    """
    if rule == "polyak":
        bound = 2 if loss == "l1" else 4
        message = f"step_size >= {bound}: unstable at the solution under Polyak's rule with the {loss} loss"
        return {message: np.asarray(hyper.step_size >= bound)}
    if scaled:
        message = (
            "step_size * (1 - decay) > 2 init_scale^2: the first step leads further than the others lead back"
        )
        return {message: np.asarray(hyper.step_size * (1 - hyper.decay) > 2 * hyper.init_scale**2)}
    message = "step_size >= 1: a factor that is too large grows until step_size * decay^t is below 1"
    return {message: np.asarray(hyper.step_size >= 1)}


def _sample(
    key: PRNGKeyArray,
    setting: Setting,
    *,
    dim: int,
    true_rank: int,
    measurements: int | None,
    spectrum: str,
) -> Problem:
    clean = problems.sample_psd(
        key,
        problems.Setting(setting.condition_number, setting.noise_std),
        dim=dim,
        true_rank=true_rank,
        measurements=measurements,
        spectrum=spectrum,
    )
    operator, observed = clean.operator, clean.observed
    if operator is not None:
        # A*A tells nothing of the signs of a residual.
        operator, count = replace(operator, gram=None), len(observed)
        # The first three of the keys are those that `sample_psd` draws with.
        place_key, size_key = jax.random.split(key, 5)[3:]
        hit = jax.random.uniform(place_key, (count,)) < setting.outlier_fraction
        sizes = setting.outlier_std / jnp.sqrt(count) * jax.random.normal(size_key, (count,))
        observed = observed + jnp.where(hit, sizes, 0.0)
    corruption = observed - measure(operator, clean.target)
    return Problem(operator, observed, corruption, clean.target, clean.basis, clean.singular_values)


def _init(
    key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, max_rank: int, start: str, loss: str
) -> State:
    dim = len(problem.target)
    columns_key, directions_key = jax.random.split(key)
    if start == "spectral":
        columns = _spectral(problem, hyper, max_rank)
    else:
        columns = orthonormal_rows(normal(columns_key, (max_rank, dim))).T
    factor = jnp.where(jnp.arange(max_rank) < hyper.rank, hyper.init_scale * columns, 0.0)
    field = _field(problem, hyper, _residual(problem, factor), loss)
    directions = orthonormal_rows(normal(directions_key, (2, dim))).T

    def follow(_: Array, directions: Float[Array, "dim 2"]) -> Float[Array, "dim 2"]:
        return _orthonormal_pair(field @ directions, directions)

    directions = jax.lax.fori_loop(0, WARM_UP, follow, directions)
    return State(factor, jnp.ones((), factor.dtype), directions)


def _spectral(problem: Problem, hyper: Hyper, max_rank: int) -> Float[Array, "dim max_rank"]:
    """Return the leading eigenvectors of the sign field at zero, weighted by the roots of their eigenvalues."""
    field = _field(problem, hyper, problem.observed, "l1")
    # Shifted to be positive, so that its singular values are its eigenvalues in decreasing order.
    shift = jnp.linalg.norm(field)
    values, vectors = leading_directions(field + shift * jnp.eye(len(field), dtype=field.dtype))
    share = jnp.maximum(values - shift, 0.0) / _nonzero(values[0] - shift)
    kept = jnp.where(share > 0, share, 1.0)
    return jnp.where(share > 0, vectors.T * jnp.sqrt(kept), 0.0)[:, :max_rank]


def _step(
    key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State, *, loss: str, rule: str, scaled: bool
) -> State:
    factor, columns = state.factor, state.factor.shape[1]
    residual = _residual(problem, factor)
    field = _field(problem, hyper, residual, loss)
    # One product gives the descent direction and a round of subspace iteration.
    image = field @ jnp.concatenate([factor, state.directions], axis=1)
    descent, image = 2 * image[:, :columns], image[:, columns:]
    direction = _precondition(factor, descent, hyper) if scaled else descent
    if rule == "polyak":
        gap = _loss(problem, hyper, residual, loss) - _loss(problem, hyper, problem.corruption, loss)
        length = hyper.step_size * jnp.maximum(gap, 0.0) / _nonzero(jnp.sum(descent * direction))
        return state._replace(factor=factor - length * direction)
    norm = jnp.sqrt(_nonzero(jnp.sum(descent * direction))) if scaled else _largest_value(image)
    length = hyper.step_size * state.shrinkage / _nonzero(norm)
    directions = _orthonormal_pair(image, state.directions)
    return State(factor - length * direction, state.shrinkage * hyper.decay, directions)


def _estimate(state: State) -> Float[Array, "dim dim"]:
    return state.factor @ state.factor.T


def _observe(problem: Problem, hyper: Hyper, state: State, *, loss: str) -> Metrics:
    value = _loss(problem, hyper, _residual(problem, state.factor), loss)
    signal = problem.basis.T @ state.factor
    return {
        "error": jnp.linalg.norm(_estimate(state) - problem.target),
        "excess_loss": value - _loss(problem, hyper, problem.corruption, loss),
        "learned": jnp.sum(signal**2, axis=1) / problem.singular_values,
    }


def _residual(problem: Problem, factor: Float[Array, "dim max_rank"]) -> Float[Array, "..."]:
    return measure(problem.operator, factor @ factor.T) - problem.observed


def _weights(residual: Float[Array, " m"], hyper: Hyper) -> Float[Array, " m"]:
    """Return `m / samples` for the measurements in use, and zero for the others: sums become means over those used."""
    count = len(residual)
    used = jnp.arange(count) < hyper.samples
    return jnp.where(used, jnp.asarray(count / hyper.samples, residual.dtype), 0.0)


def _field(
    problem: Problem, hyper: Hyper, residual: Float[Array, "..."], loss: str
) -> Float[Array, "dim dim"]:
    """Return the sub-gradient of the loss with respect to `U U^T`: the sign field `Q`."""
    if problem.operator is None:
        return residual if loss == "l2" else MEAN_ABSOLUTE * residual / _nonzero(jnp.linalg.norm(residual))
    if loss == "l2":
        return adjoint(problem.operator, _weights(residual, hyper) * residual)
    signs = _weights(residual, hyper) * jnp.sign(residual)
    return adjoint(problem.operator, signs / np.sqrt(len(residual)))


def _loss(problem: Problem, hyper: Hyper, residual: Float[Array, "..."], loss: str) -> Float[Array, ""]:
    if problem.operator is None:
        norm = jnp.linalg.norm(residual)
        return norm**2 / 2 if loss == "l2" else MEAN_ABSOLUTE * norm
    weights = _weights(residual, hyper)
    if loss == "l2":
        return jnp.sum(weights * residual**2) / 2
    return jnp.sum(weights * jnp.abs(residual)) / np.sqrt(len(residual))


def _precondition(
    factor: Float[Array, "dim max_rank"], descent: Float[Array, "dim max_rank"], hyper: Hyper
) -> Float[Array, "dim max_rank"]:
    unused = jnp.diag((jnp.arange(factor.shape[1]) >= hyper.rank).astype(factor.dtype))
    return solve_spd(factor.T @ factor + unused, descent.T).T


def _largest_value(image: Float[Array, "dim 2"]) -> Float[Array, ""]:
    """Return the largest singular value of a matrix of two columns: of `Q V`, at most `||Q||_2`, to second order it."""
    a, b, c = jnp.sum(image[:, 0] ** 2), jnp.sum(image[:, 0] * image[:, 1]), jnp.sum(image[:, 1] ** 2)
    half = (a - c) / 2
    return jnp.sqrt((a + c) / 2 + jnp.sqrt(_nonzero(half**2 + b**2)))


def _orthonormal_pair(image: Float[Array, "dim 2"], previous: Float[Array, "dim 2"]) -> Float[Array, "dim 2"]:
    """Return the two columns orthonormalised; a column that vanishes is left as it was."""
    first, second = _unit(image[:, 0], previous[:, 0]), image[:, 1]
    for _ in range(2):
        second = second - jnp.sum(first * second) * first
    return jnp.stack([first, _unit(second, previous[:, 1])], axis=1)


def _unit(vector: Float[Array, " dim"], otherwise: Float[Array, " dim"]) -> Float[Array, " dim"]:
    square = jnp.sum(vector**2)
    return jnp.where(square > 0, vector / jnp.sqrt(_nonzero(square)), otherwise)


def _nonzero(value: Float[Array, ""]) -> Float[Array, ""]:
    """Return the value, or the smallest positive number in place of zero: to divide by, and to take roots of."""
    return jnp.maximum(value, jnp.finfo(value.dtype).tiny)
