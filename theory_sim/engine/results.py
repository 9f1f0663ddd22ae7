"""From a results folder to a labelled dataset, and from there to other formats."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from theory_sim.engine.store import Store, open_store
from theory_sim.errors import RequestError, StoreError, unknown
from theory_sim.simulation import Status

FORMATS = {"zarr": ".zarr", "netcdf": ".nc", "parquet": ".parquet"}


def open_results(path: str | os.PathLike) -> xr.Dataset:
    """Return everything in a results folder as one labelled dataset.

    Dimensions: shape axes, problem axes, `problem_seed`, run axes, `run_seed`, then `step` and a metric's own.
    Variables carry `long_name` and `units`; cells that are not computed are NaN, and False in `complete`;
    `status` says how each run ended and `diverged_at` at which recorded step. The attributes are the
    provenance. Raises StoreError when the folder is missing, foreign or damaged.
    """
    store = open_store(path)
    try:
        return _assemble(store)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{store.path} is damaged ({type(error).__name__}: {error}); run with --fresh"
        ) from error


def _assemble(store: Store) -> xr.Dataset:
    header, shapes, requests = store.header, store.read("shapes"), store.read("requests")
    axes = _axes(list(requests.values()), shapes)
    sizes = tuple(len(values) for values in axes.values())
    index = {name: {_plain(value): i for i, value in enumerate(values)} for name, values in axes.items()}
    steps = np.asarray(header["steps"])
    own = _own_axes(shapes)
    arrays = _allocate(
        shapes, sizes, {"step": len(steps), **{dim: len(values) for dim, values in own.items()}}
    )
    status = np.full(sizes, -1, np.int8)
    diverged = np.full(sizes, -1, np.int32)
    seconds, sources = 0.0, set()
    for block in store.blocks():
        shape = shapes[str(block["shape"])]
        where, kept = _positions(block, shape, axes, index, sizes)
        status.reshape(-1)[where] = block["status"][kept]
        diverged.reshape(-1)[where] = block["diverged_at"][kept]
        seconds += float(block["seconds"])
        sources |= {str(block["provenance"])} if "provenance" in block else set()
        for name, metric in shape["metrics"].items():
            flat = arrays[name].reshape(-1, *arrays[name].shape[len(sizes) :])
            places = [
                np.asarray([own[dim][_plain(value)][0] for value in values])
                if dim != "step"
                else np.arange(len(steps))
                for dim, values in metric["dims"].items()
            ]
            flat[np.ix_(where, *places)] = block[f"metric/{name}"][kept]
    dims = tuple(axes)
    variables: dict[str, xr.Variable] = {}
    coordinates: dict[str, Any] = {name: (name, _coordinate(values)) for name, values in axes.items()}
    coordinates["step"] = ("step", steps, {"long_name": "step"})
    for dim, placed in own.items():
        coordinates[dim] = (dim, np.asarray([value for _, value in placed.values()]))
    for shape in shapes.values():
        for name, metric in shape["metrics"].items():
            attributes = {"long_name": metric["long_name"], "units": metric["units"]}
            variables[name] = xr.Variable((*dims, *metric["dims"]), arrays[name], attributes)
    variables["complete"] = xr.Variable(dims, status >= 0, {"long_name": "computed"})
    flags = {
        "long_name": "how the run ended",
        "flag_values": [-1, *[int(s) for s in Status]],
        "flag_meanings": "missing " + " ".join(s.name.lower() for s in Status),
    }
    variables["status"] = xr.Variable(dims, status, flags)
    variables["diverged_at"] = xr.Variable(dims, diverged, {"long_name": "first step not finite, or -1"})
    return xr.Dataset(
        variables, coordinates, {**_provenance(store, header, shapes, requests, sources), "seconds": seconds}
    )


def export(path: str | os.PathLike, target: str | os.PathLike, kind: str | None = None) -> Path:
    """Write a results folder as Zarr, NetCDF or Parquet and return the file's path.

    Parquet has one row a run and step, and one column an entry of a metric with dimensions of its own: `rows[1]`.
    The format follows from the target's ending unless given. Raises RequestError when it is unknown or when
    the package that writes it is not installed.
    """
    out = Path(target)
    by_ending = {ending: name for name, ending in FORMATS.items()}
    if kind is None:
        if out.suffix not in by_ending:
            raise unknown("export format", out.suffix or str(out), [*FORMATS, *FORMATS.values()])
        kind = by_ending[out.suffix]
    if kind not in FORMATS:
        raise unknown("export format", kind, FORMATS)
    data = open_results(path)
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if kind == "zarr":
            data.to_zarr(temporary, mode="w", consolidated=False)
        elif kind == "netcdf":
            data.to_netcdf(temporary)
        else:
            _table(data).to_dataframe().reset_index().to_parquet(temporary)
        if (
            kind == "zarr" and (out / "zarr.json").is_file()
        ):  # a folder cannot take the place of one with files
            shutil.rmtree(out)
        os.replace(temporary, out)
    except ImportError as error:
        raise RequestError(
            f"writing {kind} needs another package: pip install 'theory_sim[export]'"
        ) from error
    except OSError as error:
        raise RequestError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
    return out


def _table(data: xr.Dataset) -> xr.Dataset:
    """Return the results without dimensions but those of a run and `step`: an entry of a metric is a variable."""
    rows = {*data["status"].dims, "step"}
    columns: dict[str, xr.DataArray] = {}
    for name, array in data.items():
        own = [dim for dim in array.dims if dim not in rows]
        for place in np.ndindex(*(array.sizes[dim] for dim in own)):
            entry = array.isel(dict(zip(own, place, strict=True)))
            label = ",".join(str(entry[dim].item()) for dim in own)
            columns[f"{name}[{label}]" if own else str(name)] = entry.drop_vars(own)
    return xr.Dataset(columns)


def completed(
    store: Store, key: str, problems: Mapping[str, np.ndarray], runs: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Return which of a shape's cells are in the store, as a boolean array `[p, r]`.

    `problems` and `runs` hold every field of the setting and of the hyper, so that a cell is recognised by all
    its values, whichever of them were swept when it was computed.
    """
    done = np.zeros((len(problems["problem_seed"]), len(runs["run_seed"])), dtype=bool)
    problem_at, run_at = _lookup(problems), _lookup(runs)
    for block in store.blocks(cells_only=True):
        if str(block["shape"]) != key:
            continue
        p = _find(problem_at, {name: block[f"axis/{name}"] for name in problems})
        r = _find(run_at, {name: block[f"axis/{name}"].reshape(-1) for name in runs})
        r = r.reshape(block["valid"].shape)
        found = block["valid"] & (p >= 0)[:, None] & (r >= 0)
        done[np.broadcast_to(p[:, None], r.shape)[found], r[found]] = True
    return done


def _rows(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return one comparable record a row; numbers as float64 and -0.0 as 0.0."""
    table = np.stack([np.asarray(columns[name], dtype=np.float64) + 0.0 for name in sorted(columns)], axis=1)
    return np.ascontiguousarray(table).view([("", np.float64)] * table.shape[1]).reshape(-1)


def _lookup(columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    rows = _rows(columns)
    order = np.argsort(rows, kind="stable")
    return rows[order], order


def _find(lookup: tuple[np.ndarray, np.ndarray], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the index of each row of `columns` in the table of `lookup`, or -1."""
    ordered, order = lookup
    rows = _rows(columns)
    at = np.minimum(np.searchsorted(ordered, rows), len(ordered) - 1)
    return np.where(ordered[at] == rows, order[at], -1)


def _axes(requests: list[dict], shapes: Mapping[str, dict]) -> dict[str, list]:
    """Return the union of the axes of all requests; a value that only some asked for is added at its place."""
    defaults: dict[str, list] = {}  # of a request that does not ask for the axis: one for each shape
    for shape in shapes.values():
        for name, value in {**shape["shape"], **shape["setting"], **shape["hyper"]}.items():
            defaults.setdefault(name, []).append(value)
    names: dict[str, None] = {}
    for kind in ("shape", "problem", "run"):
        for request in requests:
            names |= dict.fromkeys(request["axes"][kind])
    axes: dict[str, list] = {}
    for name in names:
        asked = [next((axes[name] for axes in r["axes"].values() if name in axes), None) for r in requests]
        union: dict[Any, Any] = {}
        for values in asked:
            for value in defaults.get(name, [None]) if values is None else values:
                union.setdefault(_plain(value), value)
        values = list(union.values())
        ascending = _numeric(values) and (asked[0] is None or asked[0] == sorted(asked[0]))
        axes[name] = sorted(values) if ascending else values
    return axes


def _positions(
    block: dict, shape: dict, axes: Mapping[str, list], index: Mapping[str, dict], sizes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat positions in the dataset of a block's cells, and the mask `[p, r]` of cells that have one."""
    kept = block["valid"].copy()
    fixed = {**shape["setting"], **shape["hyper"]}
    places = []
    for name in axes:
        if name in shape["shape"]:
            places.append(np.full(kept.shape, index[name][_plain(shape["shape"][name])]))
            continue
        values = block[f"axis/{name}"]
        distinct, inverse = np.unique(values, return_inverse=True)
        at = np.asarray([index[name].get(_plain(value), -1) for value in distinct.tolist()])
        place = at[inverse].reshape(values.shape)
        places.append(np.broadcast_to(place[:, None] if place.ndim == 1 else place, kept.shape))
        kept &= places[-1] >= 0
    for name in fixed.keys() - axes.keys():
        values = block[f"axis/{name}"]
        same = values == np.asarray(fixed[name]).astype(values.dtype)
        kept &= same[:, None] if same.ndim == 1 else same
    return np.ravel_multi_index([place[kept] for place in places], sizes), kept


def _own_axes(shapes: Mapping[str, dict]) -> dict[str, dict[Any, tuple[int, Any]]]:
    """Return the metrics' own dimensions: of each value that any shape has there, its place and itself."""
    lists: dict[str, list[list]] = {}
    for shape in shapes.values():
        for metric in shape["metrics"].values():
            for dim, values in metric["dims"].items():
                if dim != "step":
                    lists.setdefault(dim, []).append(values)
    axes = {}
    for dim, given in lists.items():
        union = {_plain(value): value for values in given for value in values}
        if all(_numeric(values) and values == sorted(values) for values in given):
            union = dict(sorted(union.items()))
        axes[dim] = {key: (place, value) for place, (key, value) in enumerate(union.items())}
    return axes


def _allocate(
    shapes: Mapping[str, dict], sizes: tuple[int, ...], lengths: Mapping[str, int]
) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for shape in shapes.values():
        for name, metric in shape["metrics"].items():
            dtype = np.dtype(metric["dtype"])
            kind = dtype if np.issubdtype(dtype, np.inexact) else np.dtype(np.float64)
            own = [lengths[dim] for dim in metric["dims"]]
            arrays[name] = np.full((*sizes, *own), np.nan, kind)
    return arrays


def _coordinate(values: list) -> np.ndarray:
    return np.asarray(values) if _numeric(values) else np.asarray([str(value) for value in values])


def _numeric(values: list) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _provenance(
    store: Store, header: dict, shapes: dict, requests: dict, sources: set[str]
) -> dict[str, Any]:
    """Return the attributes of the results; where blocks come from several processes, all their values."""
    latest: dict[str, Any] = list(requests.values())[-1] if requests else {}
    records = [record for key, record in store.read("provenance").items() if key in sources]
    records = records or [latest.get("provenance", {})]  # of a store that tells it of its requests alone
    attributes: dict[str, Any] = {}
    for name in dict.fromkeys(name for record in records for name in record):
        values = list(dict.fromkeys(record.get(name) for record in records))
        attributes[name] = values[0] if len(values) == 1 else ", ".join(map(str, values))
    attributes |= {"study": store.path.name, "title": latest.get("name", "")}
    attributes |= {name: value for name, value in header.items() if name != "steps"}
    attributes["computation"] = " ".join(sorted(shape["digest"] for shape in shapes.values()))
    attributes["requests"] = json.dumps([request["axes"] for request in requests.values()])
    return attributes
