"""What the command's arguments mean: axes, shards, data, clusters."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from theory_sim.errors import RequestError


def parse_change(text: str) -> tuple[str, list[Any] | int]:
    """Return the axis and the values of `AXIS=V1,V2`; seeds and steps take one number."""
    name, equals, values = text.partition("=")
    if not equals or not name:
        raise RequestError(f"--set takes AXIS=V1,V2, got {text!r}")
    parsed = [_parse_value(value.strip()) for value in values.split(",") if value.strip()]
    if name in ("steps", "problem_seeds", "run_seeds", "root_seed"):
        if len(parsed) != 1:
            raise RequestError(f"{name} takes one whole number, got {values!r}")
        return name, parsed[0]
    return name, parsed


def _parse_value(text: str) -> Any:
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_shard(text: str) -> tuple[int, int]:
    """Return the part and the number of parts of `I/N`."""
    index, slash, count = text.partition("/")
    if not slash or not index.isdigit() or not count.isdigit():
        raise RequestError(f"--shard takes I/N, for instance 0/4, got {text!r}")
    return int(index), int(count)


def use_data(folder: Path | None) -> None:
    """Let studies, in this process and in those that it starts, find data files in a folder; None changes nothing."""
    if folder is None:
        return
    if not folder.is_dir():
        raise RequestError(f"--data takes a folder of data files, there is no folder {folder}")
    os.environ["THEORY_SIM_DATA"] = str(folder.resolve())


@contextmanager
def connect(address: str | None) -> Iterator[Any]:
    """Give the executor of a running Dask cluster, or None without an address."""
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise RequestError("--cluster needs Dask: pip install 'theory_sim[cluster]'") from error
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise RequestError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        yield client.get_executor()
