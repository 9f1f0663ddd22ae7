"""What is written down about a sweep: the identity of a shape, its metrics, the request."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from theory_sim.engine.provenance import provenance
from theory_sim.errors import RequestError
from theory_sim.simulation import Variable
from theory_sim.study import PREFIX
from theory_sim.sweep import RESERVED, Sweep, fields


def name_of(factory: Callable[..., Any]) -> str:
    """Return the name of a simulation factory: its function's, with the module or the study's file that defines it."""
    inner = getattr(factory, "func", factory)
    name, module = getattr(inner, "__qualname__", type(inner).__name__), inner.__module__
    # Of a study the file alone, so that its folder may be moved with the results.
    return (
        f"{Path(sys.modules[module].__file__ or module).stem if module.startswith(PREFIX) else module}.{name}"
    )


def identity(sweep: Sweep, shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of the factory, those not swept at their defaults, as JSON keeps them."""
    parameters = inspect.signature(sweep.simulation).parameters.values()
    full = {p.name: p.default for p in parameters if p.default is not p.empty} | dict(shape)
    return {name: _plain(value) for name, value in full.items()}


def defaults(values: Any) -> dict[str, float]:
    """Return a setting or hyper as plain numbers by name."""
    return {name: np.asarray(getattr(values, name)).item() for name in fields(values)}


def metrics(variables: Mapping[str, Variable], records: Mapping, conclusions: Mapping) -> dict[str, dict]:
    """Return name, units, dimensions and dtype of every metric; the dimension `step` has no values of its own.

    Raises RequestError for a metric that is given twice or is complex, and when a Variable does not fit the array
    that the simulation gives.
    """
    if twice := sorted(records.keys() & conclusions.keys()):
        raise RequestError(f"observe and conclude both give a metric {twice[0]!r}")
    described = {}
    coordinates: dict[str, list] = {}
    for name, array in {**records, **conclusions}.items():
        if np.issubdtype(array.dtype, np.complexfloating):
            raise RequestError(
                f"metric {name!r} is complex: give its real and imaginary parts as two metrics"
            )
        variable = variables.get(name, Variable(name.replace("_", " ")))
        own = {dim: values for dim, values in variable.dims.items() if dim != "step"}
        stepped = name in records or "step" in variable.dims
        lengths = array.shape[1:] if stepped else array.shape
        if not own:
            own = {f"{name}_{axis}": None for axis in range(len(lengths))}
        if len(own) != len(lengths):
            raise RequestError(f"metric {name!r} has shape {lengths} a run, its Variable names {list(own)}")
        dims: dict[str, list] = {"step": []} if stepped else {}
        for (dim, values), length in zip(own.items(), lengths, strict=True):
            dims[dim] = _coordinates(f"dimension {dim!r} of metric {name!r}", values, length)
            if coordinates.setdefault(dim, dims[dim]) != dims[dim]:
                raise RequestError(
                    f"dimension {dim!r} has other values in metric {name!r} than in another: name it otherwise"
                )
        described[name] = {
            "long_name": variable.long_name,
            "units": variable.units,
            "dims": dims,
            "dtype": str(array.dtype),
        }
    return described


def require_one_meaning(sweep: Sweep, shapes: Iterable[Mapping[str, dict]]) -> None:
    """Raise RequestError unless every name has one meaning in results with these shapes' metrics and a sweep's axes."""
    taken = {*RESERVED, *sweep.axes}
    named: dict[str, list[str]] = {}
    for name, metric in ((name, metric) for shape in shapes for name, metric in shape.items()):
        if name in taken:
            raise RequestError(f"the metric {name!r} has the name of an axis or of a variable of the results")
        own = list(metric["dims"])
        if named.setdefault(name, own) != own:
            raise RequestError(
                f"the metric {name!r} has the dimensions {own} in one shape and {named[name]} in another"
            )
    for name, own in named.items():
        if odd := [dim for dim in own if dim != "step" and dim in {*taken, *named}]:
            raise RequestError(
                f"the dimension {odd[0]!r} of metric {name!r} has the name of an axis, of a metric or of a variable "
                "of the results"
            )


def _coordinates(what: str, values: Any, length: int) -> list:
    if values is None:
        return list(range(length))
    given = np.asarray(values)
    if given.shape != (length,):
        listed = f"{given.size} values" if given.ndim == 1 else f"an array of shape {given.shape}"
        raise RequestError(f"{what} has length {length}, its Variable lists {listed}")
    if given.dtype.kind not in "biufU" or len(np.unique(given)) < length:
        raise RequestError(f"{what}: its Variable must list different numbers or words, got {values!r}")
    return given.tolist()


def request(sweep: Sweep, name: str, precision: str) -> dict[str, Any]:
    """Return what is asked, and the provenance of who asks."""
    return {
        "axes": requested(sweep),
        "name": name,
        "cells": sweep.cells,
        "provenance": provenance(precision),
    }


def requested(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """Return the axes asked for, by kind, the seeds among them."""
    return {
        "shape": {axis: [_plain(value) for value in values] for axis, values in sweep.shape.items()},
        "problem": {**sweep.problem, "problem_seed": list(range(sweep.problem_seeds))},
        "run": {**sweep.run, "run_seed": list(range(sweep.run_seeds))},
    }


def _plain(value: Any) -> Any:
    plain = isinstance(value, int | float | str | bool | type(None))
    return value if plain else repr(value).partition(" at 0x")[0]
