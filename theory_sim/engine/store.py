"""The folder that holds a sweep's results: one immutable file for each finished block.

```
DIR/NAME/store.json         what every block shares: simulation, recorded steps, precision, root seed
         shapes/KEY.json    one combination of shape axes: digest of the computation, sizes, metadata
         requests/KEY.json  one request: its axes and seeds, and the provenance of who asked
         provenance/KEY.json  versions, commit and device of a process that computed blocks
         blocks/KEY.npz     the cells of one block by value, their metrics, and the key of their provenance
```

Files appear whole (temporary file, fsync, rename) and never change: a complete file is its own completeness
marker, a killed process leaves nothing half-written, and any number of processes may share a folder.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from theory_sim.errors import StoreError

FORMAT = 1
KINDS = ("shapes", "requests", "provenance", "blocks")
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")


@dataclass(frozen=True)
class Store:
    """A results folder."""

    path: Path

    def read(self, kind: str) -> dict[str, dict]:
        """Return all records of a kind (`shapes`, `requests`, `provenance`) by key, oldest first."""
        files = sorted(
            (self.path / kind).glob("*.json"), key=lambda file: (file.stat().st_mtime_ns, file.name)
        )
        return {file.stem: _load_json(file) for file in files}

    @property
    def header(self) -> dict:
        """What all blocks of the folder share."""
        return _load_json(self.path / "store.json")

    def block_files(self) -> list[Path]:
        """Return the finished blocks, by name."""
        return sorted((self.path / "blocks").glob("*.npz"))

    def add_shape(self, key: str, record: Mapping[str, Any]) -> dict:
        """Keep the record of a shape, or return the one that is there."""
        return _write_once(self.path / "shapes" / f"{key}.json", record)

    def add_request(self, record: Mapping[str, Any]) -> None:
        """Keep what was asked, by whom computed."""
        key = key_of({name: record[name] for name in ("axes", "name")})
        _write_once(self.path / "requests" / f"{key}.json", record)

    def add_provenance(self, record: Mapping[str, Any]) -> str:
        """Keep the provenance of a process that computes blocks, and return its key."""
        key = key_of({name: value for name, value in record.items() if name != "created"})
        _write_once(self.path / "provenance" / f"{key}.json", record)
        return key

    def add_block(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one finished block under the digest of its cells."""
        cells = {name: value for name, value in arrays.items() if name.startswith(("shape", "axis/"))}
        sha = hashlib.sha256()
        for name in sorted(cells):
            sha.update(name.encode() + np.ascontiguousarray(cells[name]).tobytes())
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        _write(self.path / "blocks" / f"{sha.hexdigest()[:20]}.npz", buffer.getbuffer())

    def blocks(self, *, cells_only: bool = False) -> Iterator[dict[str, np.ndarray]]:
        """Yield the finished blocks, or only which cells they hold.

        Raises StoreError for a block that cannot be read.
        """
        for file in self.block_files():
            try:
                # A file of our own: numpy leaves one that it opened itself open when it is damaged.
                with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as block:
                    if not {"shape", "valid", "status"} <= set(block.files):
                        raise ValueError("it holds no block of runs")
                    wanted = [n for n in block.files if not cells_only or not n.startswith("metric/")]
                    yield {name: block[name] for name in wanted}
            except Exception as error:  # zipfile.BadZipFile and zlib.error share no base but Exception
                raise StoreError(f"{file} is damaged ({error}); delete it and run again") from error


def open_store(path: str | os.PathLike) -> Store:
    """Return an existing results folder.

    Raises StoreError when there is none, when it is not ours, or when its format is another version's.
    """
    store = Store(Path(path))
    if not store.path.is_dir():
        raise StoreError(f"there are no results at {store.path}: no such folder")
    if not (store.path / "store.json").is_file():
        raise StoreError(f"{store.path} holds no results of theory_sim: it has no store.json")
    found = store.header.get("format")
    if found != FORMAT:
        raise StoreError(f"{store.path} has results format {found}, this version reads format {FORMAT}")
    return store


def create_store(path: str | os.PathLike, header: Mapping[str, Any], *, fresh: bool = False) -> Store:
    """Return the results folder for sweeps with this header, made if need be.

    `fresh` first removes the results that are there. Raises StoreError when the folder cannot be written, is
    not ours, or holds results of another sweep, with what differs.
    """
    wanted = json.loads(json.dumps({"format": FORMAT, **header}))
    store = Store(Path(path))
    if store.path.exists() and not store.path.is_dir():
        raise StoreError(f"cannot write results to {store.path}: it is a file")
    try:
        if store.path.is_dir():
            _require_ours(store.path)
            if fresh:
                shutil.rmtree(store.path)
        for kind in KINDS:
            (store.path / kind).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write results to {store.path}: {error.strerror}") from error
    found = _write_once(store.path / "store.json", wanted)
    differing = {
        key: (found.get(key), wanted.get(key))
        for key in {*found, *wanted}
        if found.get(key) != wanted.get(key)
    }
    if differing:
        what = "; ".join(
            f"{key}: {_short(a)} there, {_short(b)} asked" for key, (a, b) in sorted(differing.items())
        )
        raise StoreError(
            f"{store.path} holds results of another sweep, perhaps of another preset ({what}). "
            "Give another --out, or --fresh to replace them"
        )
    return store


def key_of(record: Any) -> str:
    """Return a short name for a JSON-like value, equal for equal values."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _require_ours(path: Path) -> None:
    names = {file.name for file in path.iterdir()}
    # The first process to write makes the folders before store.json; a second may look in between.
    if "store.json" not in names and any(n not in KINDS and not TEMPORARY.fullmatch(n) for n in names):
        raise StoreError(f"{path} is not empty and holds no results of theory_sim; it is left alone")


def _short(value: Any) -> str:
    text = json.dumps(value)
    if len(text) <= 60:
        return text
    return (
        f"{len(value)} values from {value[0]} to {value[-1]}"
        if isinstance(value, list)
        else f"{text[:60]}..."
    )


def _load_json(file: Path) -> dict:
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{file} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise StoreError(f"{file} is damaged: it holds no record")
    return record


def _write_once(path: Path, record: Mapping[str, Any]) -> dict:
    """Write the record unless the file exists; return what the file holds. Whoever comes first wins."""
    if not path.exists():
        _write(path, json.dumps(record, indent=1).encode(), replace=False)
    return _load_json(path)


def _write(path: Path, content: Any, *, replace: bool = True) -> None:
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            # A link fails when the name is taken, where a rename would overwrite another process's file.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path}: {error.strerror}; finished blocks are safe, run again to go on"
        ) from error
