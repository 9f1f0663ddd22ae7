"""The rules of the house: imports point downward, figures and studies are nobody's dependency."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAMILIES = ("attention", "sensing", "subspace")


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module


MODULES = sorted((ROOT / "theory_sim").rglob("*.py"))


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_downward(file):
    place = file.relative_to(ROOT / "theory_sim").parts
    for name in imports(file):
        assert not name.startswith(("sweeps", "figures", "tests")), f"{file} imports {name}"
        if not name.startswith("theory_sim"):
            continue
        target = name.split(".")[1] if "." in name else ""
        if place[0] in FAMILIES:
            allowed = ("simulation", "decompositions", "draws", "estimate", "samples", place[0])
            assert target in allowed, f"{file} imports {name}"
        if place[0] in (
            "engine",
            "sweep.py",
            "study.py",
            "claims.py",
            "predictions.py",
            "estimate.py",
            "samples.py",
            "laws.py",
            "record.py",
            "plotting.py",
        ):
            assert target not in (*FAMILIES, "cli", "bench"), f"{file} imports {name}"
        if place[0] in (
            "simulation.py",
            "decompositions.py",
            "draws.py",
            "estimate.py",
            "samples.py",
            "errors.py",
        ):
            assert target in ("errors", ""), f"{file} imports {name}"


def test_figures_compute_nothing_with_jax():
    for file in (ROOT / "figures").glob("*.py"):
        for name in imports(file):
            assert not name.startswith(("jax", "scipy", "theory_sim.engine")), f"{file} imports {name}"


def test_every_study_has_a_figure_and_three_presets():
    from theory_sim.study import find_studies, load_study

    studies = find_studies(ROOT / "sweeps")
    assert studies
    for path in studies.values():
        study = load_study(str(path))
        assert study.draw is not None, path
        assert {"smoke", "quick", "paper"} <= set(study.sweep.presets), path
        assert study.claims, path
        assert study.summary, path
