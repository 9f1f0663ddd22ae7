"""What is written down about a sweep: the identity of a shape, its metrics, the request."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from theory_sim.engine.provenance import provenance
from theory_sim.errors import RequestError
from theory_sim.simulation import Variable
from theory_sim.sweep import Sweep, fields


def name_of(factory: Callable[..., Any]) -> str:
    """Return the name of a simulation factory: its function's, with the module that defines it."""
    inner = getattr(factory, "func", factory)
    name = getattr(inner, "__qualname__", type(inner).__name__)
    return f"{inner.__module__.removeprefix('theory_sim_study_')}.{name}"


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

    Raises RequestError when a Variable does not fit the array that the simulation gives.
    """
    described = {}
    for name, array in {**records, **conclusions}.items():
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
            dims[dim] = list(range(length)) if values is None else np.asarray(values).tolist()
            if len(dims[dim]) != length:
                raise RequestError(
                    f"dimension {dim!r} of metric {name!r} has length {length}, "
                    f"its Variable lists {len(dims[dim])} values"
                )
        described[name] = {
            "long_name": variable.long_name,
            "units": variable.units,
            "dims": dims,
            "dtype": str(array.dtype),
        }
    return described


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
