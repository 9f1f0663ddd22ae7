"""A sweep: a simulation factory, its axes, its seeds and its recording schedule.

>>> from theory_sim.sensing import symmetric_gd
>>> sweep = Sweep(symmetric_gd, shape={"dim": [10], "true_rank": [2], "max_rank": [3]},
...               run={"rank": [2, 3]}, run_seeds=4, steps=100)
>>> sweep.cells
8
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from theory_sim.errors import RequestError, unknown
from theory_sim.simulation import Simulation, recorded_steps

Axis = Sequence[Any] | np.ndarray
MOST_CELLS = 10**8
"""Cells of one shape at most: of more, the mask alone that says which are wanted could fill the memory."""
RESERVED = ("problem_seed", "run_seed", "step", "status", "diverged_at", "complete")


@dataclass(frozen=True)
class Sweep:
    """The cells to simulate: the product of all axes with `problem_seeds` and `run_seeds`.

    `shape` axes are keyword arguments of the factory (one compilation for each combination); `problem` axes
    are fields of its `setting`, `run` axes fields of its `hyper`. `steps` is a number (log-spaced recording)
    or the recorded steps. `where`, a predicate over all axes by name as broadcasting arrays, leaves out cells
    of the product. A preset overrides axes, seeds and steps by name.

    Raises RequestError when an axis is empty, repeats a value, holds NaN, or is named twice.
    """

    simulation: Callable[..., Simulation]
    shape: Mapping[str, Axis] = field(default_factory=dict)
    problem: Mapping[str, Axis] = field(default_factory=dict)
    run: Mapping[str, Axis] = field(default_factory=dict)
    problem_seeds: int = 1
    run_seeds: int = 1
    steps: float | Axis = 1000
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    where: Callable[..., Any] | None = None
    root_seed: int = 0

    def __post_init__(self) -> None:
        if not callable(self.simulation):
            raise RequestError(f"Sweep.simulation must be a simulation factory, got {self.simulation!r}")
        for kind in ("shape", "problem", "run"):
            axes = getattr(self, kind)
            if not isinstance(axes, Mapping):
                raise RequestError(f"{kind} axes must be a dict from names to values, got {axes!r}")
            object.__setattr__(self, kind, {name: _values(name, given) for name, given in axes.items()})
        if not isinstance(self.presets, Mapping):
            raise RequestError(f"presets must be a dict from names to changes, got {self.presets!r}")
        for name, changes in self.presets.items():
            if not isinstance(changes, Mapping):
                raise RequestError(f"preset {name!r} must be a dict from axes to values, got {changes!r}")
        names = [*self.shape, *self.problem, *self.run]
        for name in names:
            if name in RESERVED:
                raise RequestError(f"axis {name!r} is a reserved name: {', '.join(RESERVED)}")
            if names.count(name) > 1:
                raise RequestError(f"axis {name!r} is given twice, among the shape, problem and run axes")
        for name in ("problem_seeds", "run_seeds"):
            object.__setattr__(self, name, _count(name, getattr(self, name)))
        if type(self.root_seed) is not int or not 0 <= self.root_seed < 2**32:
            raise RequestError(
                f"root_seed must be a whole number from 0 to 2**32 - 1, got {self.root_seed!r}"
            )
        try:
            recorded_steps(self.steps)
        except ValueError as error:
            raise RequestError(str(error)) from error

    @property
    def axes(self) -> dict[str, list[Any]]:
        """All axes by name, the seeds included, in the order of the dataset's dimensions."""
        return {
            **{name: list(values) for name, values in self.shape.items()},
            **{name: list(values) for name, values in self.problem.items()},
            "problem_seed": list(range(self.problem_seeds)),
            **{name: list(values) for name, values in self.run.items()},
            "run_seed": list(range(self.run_seeds)),
        }

    @property
    def shapes(self) -> list[dict[str, Any]]:
        """The combinations of shape axes, as keyword arguments of the factory."""
        return [dict(zip(self.shape, values, strict=True)) for values in product(*self.shape.values())]

    @property
    def cells(self) -> int:
        """The number of runs, `where` applied."""
        return sum(int(wanted.sum()) for wanted in (cells(self, shape)[2] for shape in self.shapes))

    def with_preset(self, name: str | None) -> "Sweep":
        """Return the sweep with one of its presets applied; None means as written."""
        if name is None:
            return self
        if name not in self.presets:
            raise unknown("preset", name, self.presets)
        return self.override(self.presets[name])

    def override(self, changes: Mapping[str, Any]) -> "Sweep":
        """Return the sweep with axes, seeds or steps replaced by name; a single value is an axis of one.

        A name that is no axis yet becomes one, if the simulation has it.
        """
        new: dict[str, Any] = {kind: dict(getattr(self, kind)) for kind in ("shape", "problem", "run")}
        for name, value in changes.items():
            if name in ("problem_seeds", "run_seeds", "steps", "root_seed"):
                new[name] = value
                continue
            kind = next((k for k in ("shape", "problem", "run") if name in new[k]), None)
            new[kind or self._kind_of(name)][name] = value
        return replace(self, **new)

    def _kind_of(self, name: str) -> str:
        legal: dict[str, str] = dict.fromkeys(_parameters(self.simulation), "shape")
        try:
            simulation = self.build(self.shapes[0])
            legal |= dict.fromkeys(fields(simulation.setting), "problem")
            legal |= dict.fromkeys(fields(simulation.hyper), "run")
        except TypeError:
            pass
        if name not in legal:
            raise unknown("axis", name, [*legal, "problem_seeds", "run_seeds", "steps"])
        return legal[name]

    def build(self, shape: Mapping[str, Any]) -> Simulation:
        """Return the simulation of one combination of shape axes, its axes checked against their limits."""
        parameters = _parameters(self.simulation)
        for name in shape:
            if name not in parameters:
                raise unknown(f"shape axis of {_name(self.simulation)}", name, parameters)
        missing = [name for name, required in parameters.items() if required and name not in shape]
        if missing:
            raise RequestError(f"{_name(self.simulation)} needs the shape axes {', '.join(missing)}")
        try:
            simulation = self.simulation(**shape)
        except Exception as error:  # a factory is a user's code; ours raise ValueError for bad arguments
            given = ", ".join(f"{name}={value!r}" for name, value in shape.items())
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise RequestError(f"{_name(self.simulation)}({given}): {kind}{error}") from error
        if not isinstance(simulation, Simulation):
            raise RequestError(f"{_name(self.simulation)} must return a Simulation, got {type(simulation)}")
        for kind, part in (("problem", "setting"), ("run", "hyper")):
            defaults = getattr(simulation, part)
            named = isinstance(defaults, tuple) and len(fields(defaults)) == len(defaults)
            if not named and defaults is not None:
                raise RequestError(
                    f"{_name(self.simulation)}: {part} must be a NamedTuple instance, whose fields are the {kind} "
                    f"axes, got {defaults!r}"
                )
            for name, values in getattr(self, kind).items():
                if name not in fields(defaults):
                    other = "run" if kind == "problem" else "problem"
                    belongs = name in fields(simulation.hyper if kind == "problem" else simulation.setting)
                    raise unknown(
                        f"{kind} axis of {_name(self.simulation)}",
                        name,
                        fields(defaults),
                        f"{name!r} is one of its {other} axes: Sweep({other}=...)" if belongs else "",
                    )
                _check_values(name, values, getattr(defaults, name), simulation.limits.get(name))
        return simulation


def cells(sweep: Sweep, shape: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Any]:
    """Return the problems, the runs and the mask of wanted cells of one shape.

    The problems and the runs are flat arrays by axis name, seeds last and fastest, of lengths `p` and `r`; the
    mask is a boolean array `[p, r]`. Raises RequestError for too many of them, and when `where` fails.
    """
    axes = (
        {**sweep.problem, "problem_seed": range(sweep.problem_seeds)},
        {**sweep.run, "run_seed": range(sweep.run_seeds)},
    )
    counts = tuple(math.prod(len(values) for values in each.values()) for each in axes)
    if math.prod(counts) > MOST_CELLS:
        raise RequestError(
            f"the problem and run axes make {math.prod(counts):,} cells, at most {MOST_CELLS:,} are possible"
        )
    problems, runs = map(_grid, axes)
    if sweep.where is None:
        return problems, runs, np.ones(counts, dtype=bool)
    try:
        wanted = sweep.where(
            **{name: np.asarray(value) for name, value in shape.items()},
            **{name: values[:, None] for name, values in problems.items()},
            **{name: values[None, :] for name, values in runs.items()},
        )
        return problems, runs, np.broadcast_to(np.asarray(wanted, dtype=bool), counts).copy()
    except Exception as error:  # a predicate is a user's code
        told = f"{type(error).__name__}: {error}"
        raise RequestError(
            f"Sweep.where must take all axes by name, as arrays, and return one that broadcasts with them: {told}"
        ) from error


def fields(defaults: Any) -> tuple[str, ...]:
    """Return the names of a simulation's `setting` or `hyper`; an empty tuple has none."""
    return getattr(defaults, "_fields", ())


def _grid(axes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    mesh = np.meshgrid(*[np.asarray(list(values)) for values in axes.values()], indexing="ij")
    return {name: values.ravel() for name, values in zip(axes, mesh, strict=True)}


def _values(name: str, given: Any) -> list[Any]:
    dims = getattr(given, "ndim", 0)  # of an array of NumPy, JAX, xarray or any other library
    if dims == 1:
        given = np.asarray(given)
    elif isinstance(given, str) or not (isinstance(given, Sequence) or dims):
        given = [given]
    values = [value.item() if getattr(value, "ndim", None) == 0 else value for value in given]
    if not values:
        raise RequestError(f"axis {name!r} is empty: give it at least one value")
    if any(isinstance(value, float) and math.isnan(value) for value in values):
        raise RequestError(f"axis {name!r} holds NaN")
    seen = set()
    for value in values:
        key = float(value) if isinstance(value, int | float) else repr(value)
        if key in seen:
            raise RequestError(f"axis {name!r} repeats the value {value!r}")
        seen.add(key)
    return values


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise RequestError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def _parameters(factory: Callable[..., Any]) -> dict[str, bool]:
    """Return the factory's keyword arguments; True for those without a default."""
    parameters = inspect.signature(factory).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.kind is not p.VAR_KEYWORD}


def _name(factory: Callable[..., Any]) -> str:
    return getattr(factory, "__name__", type(factory).__name__)


def _check_values(name: str, values: Sequence[Any], default: Any, limits: tuple[float, float] | None) -> None:
    whole = isinstance(default, int | np.integer) and not isinstance(default, bool)
    for value in values:
        if not isinstance(value, int | float | bool) or (isinstance(value, bool) and whole):
            raise RequestError(f"axis {name!r} takes numbers, got {value!r}")
        if not math.isfinite(value):
            raise RequestError(f"axis {name!r} takes finite numbers, got {value!r}")
        if whole and value != int(value):
            told = f"its default {default} is a whole number, write {float(default)} to allow others"
            raise RequestError(f"axis {name!r} takes whole numbers, got {value!r}: {told}")
        if limits and not limits[0] <= value <= limits[1]:
            raise RequestError(f"axis {name!r} must lie in {_interval(*limits)}, got {value!r}")


def _interval(low: float, high: float) -> str:
    """Return an interval in words; an end that is the float next to a whole number stands for an open end there."""
    below, above = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
    left = f"({below:g}" if low != _whole(low) and below == _whole(below) else f"[{low:g}"
    right = f"{above:g})" if high != _whole(high) and above == _whole(above) else f"{high:g}]"
    return f"{left}, {right}"


def _whole(value: float) -> float:
    """Return the nearest whole number; infinity is its own."""
    return float(round(value)) if math.isfinite(value) else value
