"""The command `theory-sim`: list, run, plot, verify, show, reproduce, export, bench, info.

Exit status: 0 when all that was asked for is done; 1 when `verify` finds a claim that disagrees or a control
that passes; 2 when the request cannot be carried out; 130 when interrupted.
"""

import json
import logging
import os
import sys
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import jax
import jaxlib
import typer
from rich.table import Table

from theory_sim import report
from theory_sim.arguments import connect, parse_change, parse_shard, use_data
from theory_sim.claims import Finding, verify
from theory_sim.engine.block import guard_cpu_backend, use_all_cores
from theory_sim.engine.provenance import provenance
from theory_sim.engine.results import export
from theory_sim.errors import RequestError, unknown
from theory_sim.pipeline import (
    compute,
    current_results,
    draw,
    judge,
    only_smoke,
    print_ledger,
    show_results,
    tell,
)
from theory_sim.study import Study, find_studies, load_study

app = typer.Typer(
    name="theory-sim",
    help="Simulate what theorems speak of, measure what they bound, and judge the claims.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"theory_sim {metadata.version('theory_sim')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="print the version and stop", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """Simulate what theorems speak of, measure what they bound, and judge the claims."""


StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="a study's name in sweeps/, or its file")]
Out = Annotated[Path, typer.Option("--out", help="folder of the results; a study's are in OUT/STUDY")]
Figures = Annotated[Path, typer.Option("--figures", help="folder that figures are written to")]
Preset = Annotated[
    str | None, typer.Option("--preset", help="smoke, quick, paper, or one of the study's own")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="folder of MNIST's files; or set THEORY_SIM_DATA"),
]
Json = Annotated[bool, typer.Option("--json", help="print records for programs")]


@app.command("list")
def list_studies() -> None:
    """List the studies in sweeps/: presets, cells, claims.

    Example: theory-sim list
    """
    table = Table(
        "study", "presets (cells)", "claims", "about", box=None, pad_edge=False, header_style="bold"
    )
    for name in find_studies(Path("sweeps")):
        study = load_study(name)
        presets = ", ".join(f"{p} ({study.sweep.with_preset(p).cells})" for p in study.sweep.presets)
        ids = dict.fromkeys(claim.ids[0] for claim in study.claims)
        table.add_row(name, presets or f"as written ({study.sweep.cells})", " ".join(ids), study.summary)
    if not table.row_count:
        raise RequestError("there are no studies here: no .py files in the folder sweeps")
    report.console().print(table)


@app.command("run")
def run_study(
    study: StudyArgument,
    preset: Preset = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="AXIS=V1,V2", help="replace or add an axis; repeatable"),
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="number of run seeds")] = None,
    out: Out = Path("results"),
    precision: Annotated[str | None, typer.Option("--precision", help="float64 or float32")] = None,
    shard: Annotated[
        str, typer.Option("--shard", metavar="I/N", help="compute part I of N, I from 0")
    ] = "0/1",
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="a Dask scheduler")
    ] = None,
    data: Data = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="remove the study's results first")] = False,
) -> None:
    """Compute the missing cells of a study into OUT/STUDY. Run again to resume or, with new values, to extend.

    Example: theory-sim run sensing_symmetric_rate --preset smoke --set step_size=0.05,0.1 --out /tmp/results
    """
    use_data(data)
    loaded = load_study(study)
    if lacking := loaded.missing():
        raise RequestError(f"{loaded.name} {lacking}")
    sweep = loaded.sweep.with_preset(preset or _usual_preset(loaded))
    sweep = sweep.override(dict(map(parse_change, changes or [])))
    if seeds is not None:
        sweep = sweep.override({"run_seeds": seeds})
    loaded = loaded._replace(sweep=sweep)
    with connect(cluster) as executor:
        summary = compute(
            loaded, out, precision=precision, shard=parse_shard(shard), executor=executor, fresh=fresh
        )
    tell(summary, loaded)


@app.command("plot")
def plot_study(
    study: StudyArgument, out: Out = Path("results"), figures: Figures = Path("figures/out")
) -> None:
    """Draw a study's results as PDF and PNG. A study without a figure of its own gets a plain one.

    Example: theory-sim plot sensing_symmetric_rate
    """
    loaded = load_study(study)
    for path in draw(loaded, current_results(loaded, out), figures):
        print(path)


@app.command("verify")
def verify_studies(
    studies: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STUDY]...", help="studies; all that have results unless given"),
    ] = None,
    out: Out = Path("results"),
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print a Markdown table")] = False,
) -> None:
    """Measure the claims on the results and judge them. Exits 1 if a claim disagrees or a control passes.

    Example: theory-sim verify sensing_symmetric_rate --json
    """
    names = studies or [name for name in find_studies(Path("sweeps")) if (out / name).is_dir()]
    if not names:
        raise RequestError(f"there is nothing to verify in {out}: run a study first")
    loaded = [load_study(name) for name in names]
    findings = [f for study in loaded for f in judge(study, current_results(study, out))]
    for study in loaded:
        if only_smoke(study, out):
            told = "its results are those of preset smoke: it is too small for verdicts that mean something"
            print(f"theory-sim: warning: {study.name}: {told}", file=sys.stderr)
    if as_json:
        print(json.dumps([finding.record() for finding in findings], indent=1))
    elif markdown:
        print(report.ledger_markdown(findings), end="")
    else:
        print_ledger(findings)
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


ELSEWHERE = "`theory-sim list` shows the claims of all studies here, one of another file needs --study FILE"


@app.command("show")
def show_claim(
    claim: Annotated[str, typer.Argument(metavar="CLAIM", help="the id of a claim, for instance SE-1.1")],
    study: Annotated[str | None, typer.Option("--study", help="the study's file, if not in sweeps/")] = None,
    out: Out = Path("results"),
) -> None:
    """Explain a claim: statement, source, derivation, tolerance, control, and its latest verdict.

    Example: theory-sim show SE-1.1
    """
    loaded = [load_study(name) for name in ([study] if study else find_studies(Path("sweeps")))]
    ids = {name for each in loaded for c in each.claims for name in c.ids}
    if claim not in ids:
        raise unknown("claim", claim, ids, elsewhere="" if study else ELSEWHERE)
    texts = []
    for each in loaded:
        about = [c for c in each.claims if claim in c.ids]
        data = current_results(each, out) if about and (out / each.name).is_dir() else None
        for c in about:
            finding = verify(c, data, each.name) if data is not None else None
            texts.append(f"{report.explain(c, finding)}\nstudy       {each.name}")
    print("\n\n".join(texts))


@app.command("reproduce")
def reproduce(
    preset: Preset = "quick",
    out: Out = Path("results"),
    figures: Figures = Path("figures/out"),
    paper: Annotated[Path, typer.Option("--paper", help="folder of the generated parts of the paper")] = Path(
        "paper/generated"
    ),
    data: Data = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="remove all studies' results first")] = False,
) -> None:
    """Run, draw and judge every study in sweeps/, write the paper's numbers, and print the ledger.

    Example: theory-sim reproduce --preset smoke
    """
    use_data(data)
    names = list(find_studies(Path("sweeps")))
    if not names:
        raise RequestError("there are no studies here: no .py files in the folder sweeps")
    # Drawing and judging need one core and no device: they go on while the next study is computed.
    with ThreadPoolExecutor(max_workers=1) as aside:
        shown: list[Future[tuple[list[Path], list[Finding]]]] = []
        for name in names:
            study = load_study(name)
            if lacking := study.missing():
                print(f"{name}: skipped, {lacking}")
                continue
            if preset in study.sweep.presets:
                study = study._replace(sweep=study.sweep.with_preset(preset))
            elif study.sweep.presets:
                raise unknown(f"preset of {name}", preset, study.sweep.presets)
            tell(compute(study, out, fresh=fresh), study)
            shown.append(aside.submit(show_results, study, out, figures))
        drawn = [path for each in shown for path in each.result()[0]]
        findings = [finding for each in shown for finding in each.result()[1]]
    written = report.write_generated(findings, [path for path in drawn if path.suffix == ".pdf"], paper)
    print(f"{len(drawn)} figures in {figures}, {len(written)} files in {paper}\n")
    print_ledger(findings)


@app.command("export")
def export_results(
    study: StudyArgument,
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="file that ends in .zarr, .nc or .parquet")
    ],
    out: Out = Path("results"),
    kind: Annotated[str | None, typer.Option("--format", help="zarr, netcdf or parquet")] = None,
) -> None:
    """Write a study's results as Zarr, NetCDF or Parquet.

    Example: theory-sim export sensing_symmetric_rate rates.nc
    """
    name = Path(study).stem
    print(export(out / name, target, kind))


@app.command("bench")
def bench_command(
    as_json: Json = False,
    only: Annotated[
        str | None, typer.Option("--only", metavar="TEXT", help="kernels with it in their printed names")
    ] = None,
    cost: Annotated[
        str | None,
        typer.Option("--cost", metavar="PRESET", help="estimate a preset of all studies on a GPU instead"),
    ] = None,
) -> None:
    """Measure the machine's peaks and each kernel's speed, its limit, and the ratio to plain loops.

    Example: theory-sim bench --only sensing
    """
    from theory_sim.bench import bench, print_costs

    if cost is not None:
        print_costs(cost, as_json=as_json)
        return
    with jax.enable_x64(True):
        bench(as_json=as_json, only=only)


@app.command("info")
def info(as_json: Json = False) -> None:
    """Tell the versions, devices, precision and compilation cache in use.

    Example: theory-sim info
    """
    facts: dict[str, Any] = provenance("float32" if jax.default_backend() == "tpu" else "float64")
    facts["compilation_cache"] = _cache_folder()
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join(f"{name:<18}{value}" for name, value in facts.items()))


def main() -> None:
    """Run the command; a request that cannot be carried out ends in one line and exit status 2."""
    guard_cpu_backend()
    use_all_cores()
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    if not _cache_folder():
        folder = caches / "theory_sim" / f"jaxlib-{jaxlib.__version__}"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # Matplotlib's font library tells of dates in fonts that are left out on purpose.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    warnings.formatwarning = lambda message, *_, **__: f"theory-sim: warning: {message}\n"
    try:
        app()
    except RequestError as error:
        print(f"theory-sim: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("theory-sim: interrupted; finished blocks are kept, run again to go on", file=sys.stderr)
        sys.exit(130)


def _cache_folder() -> str | None:
    return getattr(jax.config, "jax_compilation_cache_dir", None)


def _usual_preset(study: Study) -> str | None:
    return "quick" if "quick" in study.sweep.presets else None
