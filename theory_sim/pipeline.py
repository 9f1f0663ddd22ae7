"""The steps that the command strings together: compute, tell, draw, judge, print."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from theory_sim import report
from theory_sim.claims import Finding, verify
from theory_sim.engine.current import require_current
from theory_sim.engine.describe import requested
from theory_sim.engine.results import open_results
from theory_sim.engine.run import Summary, run
from theory_sim.engine.store import open_store
from theory_sim.errors import RequestError
from theory_sim.progress import showing
from theory_sim.simulation import Status
from theory_sim.study import Study


def compute(study: Study, out: Path, **options: Any) -> Summary:
    """Compute what is missing of a study into its folder, showing how far it is."""
    with showing(study.name) as show:
        return run(study.sweep, out / study.name, name=study.name, study=study.path, report=show, **options)


def tell(summary: Summary, study: Study) -> None:
    """Say what a run did, and name the cells that did not end well."""
    done = f"{summary.computed} runs computed in {summary.seconds:.1f} s"
    print(
        f"{study.name}: {done}, {summary.found} were there, {summary.cells} in all; results in {summary.path}"
    )
    for status, count in summary.statuses.items():
        if status is not Status.FINISHED:
            print(f"  {count} runs {status.name.lower().replace('_', ' ')}: {status.meaning}")
            for cell in _cells_with(open_results(summary.path), status, 5):
                print(f"    {cell}")


def _cells_with(data: xr.Dataset, status: Status, most: int) -> Iterator[str]:
    bad = (data["status"] == status).to_numpy().nonzero()
    for place in list(zip(*bad, strict=True))[:most]:
        at = dict(zip(data["status"].dims, place, strict=True))
        cell = ", ".join(
            f"{name}={data[name].to_numpy()[i]}" for name, i in at.items() if data.sizes[name] > 1
        )
        step = int(data["diverged_at"].isel(at))
        yield f"{cell or 'the only cell'}" + (f" at step {step}" if step >= 0 else "")


def draw(study: Study, data: xr.Dataset, folder: Path) -> list[Path]:
    """Draw a study's results, with its own figure or a plain one, and return the files."""
    from theory_sim import plotting  # matplotlib takes most of a second, and a run draws nothing

    try:
        with plotting.style():
            figure = (study.draw or plotting.default_figure)(data)
    except RequestError:
        raise
    except Exception as error:  # a figure is a user's code
        told = f"{type(error).__name__}: {error}"
        raise RequestError(f"{study.name}: its figure cannot be drawn from these results: {told}") from error
    keys = ("study", "theory_sim", "git_commit", "git_dirty", "computation", "precision", "root_seed")
    try:
        return plotting.save(figure, folder / study.name, {key: str(data.attrs[key]) for key in keys})
    except OSError as error:
        raise RequestError(f"cannot write the figure to {folder}: {error.strerror or error}") from error


def show_results(study: Study, out: Path, figures: Path) -> tuple[list[Path], list[Finding]]:
    """Draw a study's results and judge its claims; return the files and the findings."""
    data = open_results(out / study.name)
    return draw(study, data, figures), judge(study, data)


def current_results(study: Study, out: Path) -> xr.Dataset:
    """Open a study's results. Raises StoreError when other formulas or defaults than its present ones gave them."""
    data = open_results(out / study.name)
    if not study.missing():  # without its data set a study cannot be traced
        require_current(study.sweep, out / study.name)
    return data


def judge(study: Study, data: xr.Dataset) -> list[Finding]:
    """Measure all claims of a study on its results."""
    return [verify(claim, data, study.name) for claim in study.claims]


def only_smoke(study: Study, out: Path) -> bool:
    """Return whether all that is stored of a study is its smoke preset, which shows that it works and no more."""
    if "smoke" not in study.sweep.presets:
        return False
    asked = requested(study.sweep.with_preset("smoke"))
    stored = open_store(out / study.name).read("requests").values()
    return all(record["axes"] == json.loads(json.dumps(asked)) for record in stored)


def print_ledger(findings: Sequence[Finding]) -> None:
    """Print the ledger, what is doubted, and the count."""
    terminal = report.console()
    if not findings:
        print("no claims: the study declares none")
        return
    terminal.print(report.ledger_table(findings, terminal.width))
    for note in dict.fromkeys(
        report.ledger_notes(findings)
    ):  # once, also where several claims of an id say it
        terminal.print(f"  {note}", markup=False, highlight=False)
    terminal.print(report.ledger_summary(findings), highlight=False)
