"""A study in a file: its sweep, its claims, and the figure that draws it.

A study file declares `SWEEP` and may declare `CLAIMS`; its figure, if it has one, is the function `draw` of
the file of the same name in the folder `figures` beside the study's folder. One that needs data which nobody can
ship declares `missing`, a function that returns None, or one line that says what it lacks and where to get it.
"""

import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import xarray as xr

from theory_sim.claims import Claim
from theory_sim.errors import RequestError, unknown
from theory_sim.sweep import Sweep

if TYPE_CHECKING:  # matplotlib takes most of a second to import
    from matplotlib.figure import Figure


PREFIX = "theory_sim_study_"
"""What names of study files' modules begin with: a study called `numpy.py` must not replace numpy."""


class Study(NamedTuple):
    """One sweep, its claims, and the function that draws its results, if it brings one."""

    name: str
    path: Path
    summary: str
    sweep: Sweep
    claims: Sequence[Claim]
    draw: "Callable[[xr.Dataset], Figure] | None"
    missing: Callable[[], str | None] = lambda: None


def find_studies(folder: Path) -> dict[str, Path]:
    """Return the study files of a folder by name."""
    return {file.stem: file for file in sorted(folder.glob("*.py")) if not file.stem.startswith("_")}


def load_study(word: str, folder: Path = Path("sweeps")) -> Study:
    """Return the study of a file (`path/to/x.py`) or of a name among the files of `folder`.

    Raises RequestError when there is no such file, when the file raises, or when it declares no SWEEP.
    """
    if word.endswith(".py"):
        path = Path(word)
        if not path.is_file():
            raise RequestError(f"there is no study file {word}")
    else:
        studies = find_studies(folder)
        if not studies:
            raise RequestError(f"no study {word!r}: the folder {folder} holds none; name a study by its file")
        if word not in studies:
            raise unknown(
                "study", word, studies, "`theory-sim list` shows them all, another file is named by its path"
            )
        path = studies[word]
    path = path.resolve()
    module = load_module(path)
    sweep, claims = getattr(module, "SWEEP", None), getattr(module, "CLAIMS", ())
    if not isinstance(sweep, Sweep):
        wrong = "declares no SWEEP" if sweep is None else f"declares a SWEEP that is a {type(sweep).__name__}"
        raise RequestError(f"{path.name} {wrong}: a study file needs SWEEP = theory_sim.Sweep(...)")
    if not isinstance(claims, list | tuple) or not all(isinstance(claim, Claim) for claim in claims):
        raise RequestError(f"{path.name}: CLAIMS must be a list of theory_sim.Claim")
    drawing = path.parent.parent / "figures" / path.name
    draw = getattr(module, "draw", None)
    if draw is None and drawing.is_file():
        if not _declares_draw(drawing):
            raise RequestError(f"{drawing.name} in figures declares no function draw(data)")
        draw = partial(_draw, drawing)
    summary = (module.__doc__ or "").strip().partition("\n")[0]
    missing = getattr(module, "missing", lambda: None)
    return Study(path.stem, path, summary, sweep, claims, draw, missing)


def _declares_draw(file: Path) -> bool:
    """Look for a function `draw` in a figure's file without executing it: a run draws nothing."""
    text = file.read_text()
    try:
        # Not `ast.parse`, which fails by chance when another thread of CPython 3.11 or 3.12 parses too (gh-106905).
        compile(text, file.name, "exec")
    except SyntaxError as error:
        raise RequestError(f"{file.name} in figures cannot be read: {error}") from error
    return re.search(r"^def draw\(", text, re.MULTILINE) is not None


def _draw(file: Path, data: xr.Dataset) -> "Figure":
    return load_module(file).draw(data)


def load_module(path: Path) -> ModuleType:
    """Return the module of a Python file outside any package, executed once in each process unless it has changed.

    Raises RequestError when there is no such file, or when it raises, with the line where it did.
    """
    try:
        return _executed(path, path.read_bytes())
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=64)
def _executed(path: Path, content: bytes) -> ModuleType:
    # The content tells versions of a file apart: a worker lives longer than one; the folder tells equal stems apart.
    name = f"{PREFIX}{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RequestError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except RequestError:
        del sys.modules[name]
        raise
    except SyntaxError as error:
        del sys.modules[name]
        raise RequestError(f"{path.name}, line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        lines, trace = [], error.__traceback__
        while trace:
            if trace.tb_frame.f_code.co_filename == str(path):
                lines.append(trace.tb_lineno)
            trace = trace.tb_next
        where = f", line {lines[-1]}" if lines else ""
        raise RequestError(f"{path.name}{where} raised {type(error).__name__}: {error}") from error
    return module
