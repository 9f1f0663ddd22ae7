r"""One run of one algorithm on one random problem, as five pure functions.

A `Simulation` says how to draw a problem, where a run starts, what one step does and what is seen.
`trajectory` turns it into one compiled program: a `fori_loop` between recorded steps under a `scan`.

>>> import jax
>>> descent = Simulation(
...     sample=lambda key, setting: 1.0,
...     init=lambda key, problem, hyper: 8.0,
...     step=lambda key, problem, hyper, x: x - hyper.step_size * problem * x,
...     observe=lambda problem, hyper, x: {"distance": abs(x)},
...     setting=NamedTuple("Setting", [])(),
...     hyper=NamedTuple("Hyper", [("step_size", float)])(step_size=0.5),
... )
>>> trajectory(descent, [0, 1, 3])(jax.random.key(0), 1.0, descent.hyper)["distance"].tolist()
[8.0, 4.0, 1.0]
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

Metrics = dict[str, Array]


class Variable(NamedTuple):
    """What a metric is: the label of its axis in a figure, its units and its own dimensions.

    `dims` maps the dimensions that follow `step` to their coordinates (`None`: 0, 1, 2, ...). A result of
    `conclude` has no `step` dimension unless `dims` begins with `"step"`.
    """

    long_name: str
    units: str = "1"
    dims: Mapping[str, Sequence[Any] | np.ndarray | None] = {}


class Simulation(NamedTuple):
    """A family of runs: how a problem is drawn, where a run starts, what a step does, what is seen.

    `setting` and `hyper` hold the defaults of the problem axes and of the run axes; their fields are the
    legal axis names. Every number in them is traced: a sweep over any of them compiles once. Names in the
    records that begin with `_` serve `conclude` alone and are not stored. `limits` gives the legal closed
    interval of a problem or run axis; a sweep refuses values outside it before anything is compiled. `caution`
    says of legal values what a user should know before they run, such as a step size above the stability bound: it
    takes a setting and a hyper of NumPy arrays that broadcast, and returns messages with the cells they are about.
    `refuse`, of the same form, tells which cells cannot be: what no single axis can say.
    """

    sample: Callable[[PRNGKeyArray, Any], PyTree]
    init: Callable[[PRNGKeyArray, PyTree, Any], PyTree]
    step: Callable[[PRNGKeyArray, PyTree, Any, PyTree], PyTree]
    observe: Callable[[PyTree, Any, PyTree], Metrics]
    setting: Any
    hyper: Any
    conclude: Callable[[PyTree, Any, Metrics, PyTree], Metrics] | None = None
    variables: Mapping[str, Variable] = {}
    limits: Mapping[str, tuple[float, float]] = {}
    caution: Callable[[Any, Any], Mapping[str, np.ndarray]] | None = None
    refuse: Callable[[Any, Any], Mapping[str, np.ndarray]] | None = None


class Status(IntEnum):
    """How a run ended."""

    FINISHED = 0
    DIVERGED = 1
    NOT_FINITE = 2
    NOT_CONVERGED = 3

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return {
            Status.FINISHED: "finished",
            Status.DIVERGED: "the state stopped being finite",
            Status.NOT_FINITE: "the state is finite but a metric is not",
            Status.NOT_CONVERGED: "the simulation reported that it did not converge",
        }[self]


class Rollout(NamedTuple):
    """All that one run leaves: recorded metrics, conclusions, the last state, and how it ended.

    `diverged_at` is the first recorded step at which the state was not finite, or -1.
    """

    records: Metrics
    conclusions: Metrics
    state: PyTree
    status: Int[Array, ""]
    diverged_at: Int[Array, ""]


def log_spaced(total: int, per_decade: int = 10) -> np.ndarray:
    """Return the steps to record: 0, then about `per_decade` a decade, up to and including `total`.

    >>> log_spaced(1000, per_decade=2)
    array([   0,    1,    3,   10,   32,  100,  316, 1000])
    """
    if total < 0 or per_decade < 1:
        raise ValueError(f"log_spaced needs total >= 0 and per_decade >= 1, got {total} and {per_decade}")
    if total == 0:
        return np.zeros(1, dtype=int)
    exponents = np.arange(0, np.floor(np.log10(total) * per_decade) + 1) / per_decade
    return np.unique(np.concatenate([[0], np.rint(10.0**exponents).astype(int), [total]]))


def recorded_steps(steps: float | Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the steps at which a run is observed; a number means log-spaced up to it.

    Raises ValueError when they are not whole, non-negative and strictly increasing.
    """
    if isinstance(steps, float) and steps.is_integer():
        steps = int(steps)
    if isinstance(steps, int | np.integer) and not isinstance(steps, bool):
        if steps > 2**31 - 1:
            raise ValueError(f"steps must be below 2**31, got {steps}")
        if steps < 0:
            raise ValueError(f"steps must not be negative, got {steps}")
        return log_spaced(int(steps))
    recorded = np.asarray(steps)
    if recorded.ndim != 1 or recorded.size == 0 or not np.issubdtype(recorded.dtype, np.integer):
        raise ValueError(f"steps must be a whole number or a list of whole numbers, got {steps!r}")
    if recorded[0] < 0 or np.any(np.diff(recorded) <= 0):
        raise ValueError(f"recorded steps must be non-negative and increasing, got {recorded.tolist()}")
    return recorded


def problem_key(root: PRNGKeyArray, problem_seed: int | Array) -> PRNGKeyArray:
    """Return the key that `sample` draws a problem from."""
    # Problems and runs live under different prefixes: split(key)[i] equals fold_in(key, i), so that a run
    # key folded straight into a problem key would repeat draws that `sample` has already made.
    return jax.random.fold_in(jax.random.fold_in(root, 0), problem_seed)


def run_key(root: PRNGKeyArray, problem_seed: int | Array, run_seed: int | Array) -> PRNGKeyArray:
    """Return the key that one run draws its initialisation and its steps from."""
    of_problem = jax.random.fold_in(jax.random.fold_in(root, 1), problem_seed)
    return jax.random.fold_in(of_problem, run_seed)


def rollout(
    simulation: Simulation, steps: int | Sequence[int] | np.ndarray
) -> Callable[[PRNGKeyArray, PyTree, Any], Rollout]:
    """Return the pure function `(key, problem, hyper) -> Rollout` of one whole run."""
    recorded = recorded_steps(steps)
    starts = np.concatenate([[0], recorded[:-1]])

    def run(key: PRNGKeyArray, problem: PyTree, hyper: Any) -> Rollout:
        init_key, step_stream = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)

        def advance(step: Array, state: PyTree) -> PyTree:
            step_key = jax.random.fold_in(step_stream, step)
            return _like(simulation.step(step_key, problem, hyper, state), state)

        def segment(state: PyTree, bounds: tuple[Array, Array]) -> tuple[PyTree, tuple[Metrics, Array]]:
            state = jax.lax.fori_loop(*bounds, advance, state)
            return state, (simulation.observe(problem, hyper, state), _all_finite(state))

        start = jax.tree.map(jnp.asarray, simulation.init(init_key, problem, hyper))
        state, (records, finite) = jax.lax.scan(segment, start, (jnp.asarray(starts), jnp.asarray(recorded)))
        conclusions = simulation.conclude(problem, hyper, records, state) if simulation.conclude else {}
        conclusions = {name: jnp.asarray(value) for name, value in conclusions.items()}
        converged = conclusions.pop("converged", jnp.asarray(True))
        stored = (_public(records), _public(conclusions))
        status = jnp.select(
            [~finite[-1], ~_all_finite(stored), ~converged],
            [jnp.asarray(s, jnp.int32) for s in (Status.DIVERGED, Status.NOT_FINITE, Status.NOT_CONVERGED)],
            jnp.asarray(Status.FINISHED, jnp.int32),
        )
        first = jnp.asarray(recorded, jnp.int32)[jnp.argmin(finite)]
        return Rollout(*stored, state, status, jnp.where(finite[-1], -1, first))

    return run


def trajectory(
    simulation: Simulation, steps: int | Sequence[int] | np.ndarray
) -> Callable[[PRNGKeyArray, PyTree, Any], Metrics]:
    """Return the pure function `(key, problem, hyper) -> metrics` of one whole run.

    Each recorded metric has a leading axis over the recorded steps (`recorded_steps(steps)`). Draws depend on
    the key and on the step index alone, so that recording more often changes no value.
    """
    run = rollout(simulation, steps)

    def metrics(key: PRNGKeyArray, problem: PyTree, hyper: Any) -> Metrics:
        result = run(key, problem, hyper)
        return {**result.records, **result.conclusions}

    return metrics


def _public(metrics: Metrics) -> Metrics:
    return {name: value for name, value in metrics.items() if not name.startswith("_")}


def _like(new: PyTree, old: PyTree) -> PyTree:
    """Give the new state the dtypes of the old one: a step size in float64 must not promote a float32 run.

    Raises TypeError for another structure or shape, and for real numbers that would become whole, or complex real.
    """
    wanted: Any = jax.tree.structure(old)
    given: Any = jax.tree.structure(new)
    if given != wanted:
        raise TypeError(f"step gives {given} for a state that init gives as {wanted}")

    def cast(path: Any, before: Array, value: Any) -> Array:
        value = jnp.asarray(value)
        what = f"state{jax.tree_util.keystr(path)}, which" if path else "a state that"
        if value.shape != before.shape:
            got, had = (f"{array.dtype}{list(array.shape)}" for array in (value, before))
            raise TypeError(f"step gives {got} for {what} init gives as {had}")
        for kind in (jnp.inexact, jnp.complexfloating):
            if jnp.issubdtype(value.dtype, kind) and not jnp.issubdtype(before.dtype, kind):
                raise TypeError(f"step gives {value.dtype} for {what} init gives as {before.dtype}")
        return value.astype(before.dtype)

    return jax.tree_util.tree_map_with_path(cast, old, new)


def _all_finite(tree: PyTree) -> Array:
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.asarray(x).dtype, jnp.inexact)]
    return jnp.stack([jnp.all(jnp.isfinite(x)) for x in floats]).all() if floats else jnp.asarray(True)


def check_counts(least: Mapping[str, int] | None = None, /, **counts: Any) -> None:
    """Raise ValueError at the first of a factory's sizes that is no whole number, or below 1 or its own `least`."""
    for name, value in counts.items():
        if not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number, got {value!r}")
        if value < (bound := (least or {}).get(name, 1)):
            raise ValueError(f"{name} must be at least {bound}, got {value}")
