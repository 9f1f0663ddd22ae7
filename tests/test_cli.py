import json
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest
import xarray as xr

from theory_sim import cli, open_results

MINE = Path(__file__).with_name("my_study.py")


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder with one study; return exit status, output and errors."""
    (tmp_path / "sweeps").mkdir()
    shutil.copy(MINE, tmp_path / "sweeps" / "parabola.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["theory-sim", *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        told = capsys.readouterr()
        return status, told.out, told.err

    return call


def test_a_study_is_listed_run_plotted_verified_shown_and_exported(command, tmp_path):
    status, out, _ = command("list")
    assert status == 0
    assert "parabola" in out
    assert "T-1" in out
    status, out, _ = command("run", "parabola", "--preset", "smoke")
    assert status == 0
    assert "10 runs computed" in out
    assert "parabola: its results are those of preset smoke" in command("verify")[2]
    status, out, _ = command("run", "parabola")
    assert "6 runs computed" in out
    assert "10 were there" in out
    status, out, _ = command("plot", "parabola")
    assert status == 0
    for ending in ("pdf", "png"):
        assert (tmp_path / "figures" / "out" / f"parabola.{ending}").stat().st_size > 1000
    status, out, told = command("verify")
    assert (status, told) == (0, "")
    assert "1 agrees; 1 of 1 controls rejected" in out
    status, out, _ = command("verify", "parabola", "--json")
    (record,) = json.loads(out)
    assert {
        "study",
        "claim",
        "ids",
        "source",
        "predicted",
        "measured",
        "low",
        "high",
        "verdict",
        "control",
    } <= set(record)
    assert (record["verdict"], record["control"], record["ids"]) == ("agrees", "rejected", ["T-1"])
    status, out, _ = command("show", "T-1")
    assert status == 0
    for words in ("any textbook", "log(1 - eta)", "agrees", "exact up to rounding", "another step size"):
        assert words in out
    for name in ("x.nc", "x.zarr", "x.zarr", "x.parquet"):  # an older export is replaced
        status, out, err = command("export", "parabola", tmp_path / name)
        assert status == 0, err
    with xr.open_dataset(tmp_path / "x.nc") as stored:
        xr.testing.assert_equal(stored["distance"].load(), open_results("results/parabola")["distance"])
    with xr.open_zarr(tmp_path / "x.zarr", consolidated=False) as stored:
        xr.testing.assert_equal(stored["distance"].load(), open_results("results/parabola")["distance"])


def test_reproduce_leaves_results_figures_and_the_papers_numbers(command, tmp_path):
    status, out, err = command("reproduce", "--preset", "smoke")
    assert status == 0, err
    assert "1 agrees" in out
    numbers = (tmp_path / "paper" / "generated" / "numbers.tex").read_text()
    assert r"\csname claim@T-1@verdict\endcsname{agrees}" in numbers
    assert (tmp_path / "figures" / "out" / "parabola.pdf").is_file()
    assert "0 runs computed" in command("reproduce", "--preset", "smoke")[1]


def test_a_study_without_its_data_is_skipped_in_one_line_until_they_are_named(command, tmp_path, monkeypatch):
    monkeypatch.setenv("THEORY_SIM_DATA", "")
    lines = [
        "import os",
        "def missing():",
        "    return None if os.environ['THEORY_SIM_DATA'] else 'needs data: get them'",
    ]
    (tmp_path / "sweeps" / "needy.py").write_text("\n".join([MINE.read_text(), *lines]))
    status, out, _ = command("reproduce", "--preset", "smoke")
    assert status == 0
    assert "needy: skipped, needs data: get them\n" in out
    assert "parabola: 10 runs computed" in out
    assert command("run", "needy")[::2] == (2, "theory-sim: needy needs data: get them\n")
    assert not (tmp_path / "results" / "needy").exists()
    status, _, told = command("run", "needy", "--data", tmp_path / "nowhere")
    assert (status, "there is no folder" in told) == (2, True)
    assert command("run", "needy", "--preset", "smoke", "--data", tmp_path)[0] == 0


def test_a_study_elsewhere_is_swept_by_its_path(command, tmp_path):
    out = tmp_path / "out"
    assert command("run", MINE, "--out", out, "--set", "step_size=0.01,0.02,0.04", "--seeds", "2")[0] == 0
    data = open_results(out / "my_study")
    assert data.sizes["step_size"] == 3
    assert data.sizes["run_seed"] == 2
    assert command("plot", MINE, "--out", out, "--figures", tmp_path / "f")[0] == 0
    assert command("verify", MINE, "--out", out)[0] == 0


def test_a_study_may_move_with_its_results(command, tmp_path):
    (tmp_path / "mine").mkdir()
    shutil.copy(MINE, tmp_path / "mine")
    assert command("run", "mine/my_study.py", "--out", "mine/results", "--seeds", "2")[0] == 0
    (tmp_path / "mine").rename(tmp_path / "yours")
    status, told, _ = command("run", "yours/my_study.py", "--out", "yours/results", "--seeds", "2")
    assert (status, "0 runs computed" in told) == (0, True)
    assert command("verify", "yours/my_study.py", "--out", "yours/results")[0] == 0


def test_verify_exits_one_when_a_claim_disagrees_or_a_control_passes(command, tmp_path):
    text = MINE.read_text()
    (tmp_path / "wrong.py").write_text(text.replace("log1p(-0.01)", "log1p(-0.03)"))
    (tmp_path / "loose.py").write_text(
        text.replace('control={"step_size": 0.02}', 'control={"step_size": 0.01}')
    )
    for name, word in (("wrong", "disagrees"), ("loose", "passed")):
        command("run", tmp_path / f"{name}.py", "--preset", "smoke")
        status, out, _ = command("verify", tmp_path / f"{name}.py")
        assert status == 1
        assert word in out


def test_results_of_other_formulas_are_neither_judged_nor_drawn(command, tmp_path):
    study = tmp_path / "edited.py"
    text = MINE.read_text().replace(
        "SWEEP = Sweep(\n    scalar_descent,", "{}\n\n\nSWEEP = Sweep(\n    made,"
    )
    first = "def made():\n    return scalar_descent()"
    study.write_text(text.replace("{}", first, 1))
    assert command("run", study)[0] == 0
    assert command("verify", study)[0] == 0
    study.write_text(text.replace("{}", f"{first}._replace(step=lambda key, problem, hyper, x: 0.9 * x)", 1))
    for words in (("verify", study), ("plot", study), ("show", "T-1", "--study", study)):
        status, _, err = command(*words)
        assert (status, "computed by other formulas" in err) == (2, True)
    sized = first.replace("made()", "made(*, size=4)")
    study.write_text(text.replace("{}", sized, 1))
    assert "only the present one has the argument 'size'" in command("verify", study)[2]
    assert command("run", study, "--fresh")[0] == command("verify", study)[0] == 0
    study.write_text(text.replace("{}", sized.replace("4", "40"), 1))
    assert "computed with the default size=4, now 40" in command("verify", study)[2]
    assert command("run", study, "--fresh", "--set", "size=8")[0] == command("verify", study)[0] == 0
    study.write_text(text.replace("{}", f"{sized}._replace(step=lambda key, problem, hyper, x: 0.9 * x)", 1))
    assert "computed by other formulas" in command("verify", study)[2]
    study.write_text(text.replace("{}", first, 1))
    assert command("run", study, "--fresh")[0] == 0
    study.write_text(text.replace("{}", f"# the same in other words\n{first}", 1))
    assert command("verify", study)[0] == 0


BROKEN = {
    "raises": ("x = 1\n1 / 0\n", "raises.py, line 2 raised ZeroDivisionError"),
    "syntax": ("def f(:\n", "syntax.py, line 1"),
    "nothing": ("x = 1\n", "declares no SWEEP"),
    "wrong": ("SWEEP = 3\n", "declares a SWEEP that is a int"),
    "claims": ("import theory_sim as t\nSWEEP = t.Sweep(lambda: 0)\nCLAIMS = [1]\n", "CLAIMS must be a list"),
    "leaves": ("raise SystemExit(0)\n", "raised SystemExit"),
    "fails": (
        "import theory_sim as t\nfrom tests.examples import scalar_descent\n"
        "SWEEP = t.Sweep(lambda: scalar_descent()._replace(step=lambda *a: a[9]))\n",
        "IndexError",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_study_file_is_one_clear_line(command, tmp_path, name):
    text, message = BROKEN[name]
    (tmp_path / f"{name}.py").write_text(text)
    status, _, err = command("run", tmp_path / f"{name}.py")
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "parabolla"], "unknown study 'parabolla'; did you mean 'parabola'"),
        (["run", "absent.py"], "there is no study file absent.py"),
        (["run", "parabola", "--preset", "smoek"], "did you mean 'smoke'"),
        (["run", "parabola", "--set", "step_sizes=1"], "did you mean 'step_size'"),
        (["run", "parabola", "--set", "step_size"], "AXIS=V1,V2"),
        (["run", "parabola", "--set", "step_size="], "'step_size' is empty"),
        (["run", "parabola", "--set", "step_size=abc"], "takes numbers, got 'abc'"),
        (["run", "parabola", "--set", "step_size=0.1,0.1"], "repeats the value 0.1"),
        (["run", "parabola", "--set", "step_size=nan"], "NaN"),
        (["run", "parabola", "--seeds", "0"], "at least 1, got 0"),
        (["run", "parabola", "--set", "steps=-1"], "must not be negative"),
        (["run", "parabola", "--precision", "float16"], "precision must be one of float32, float64"),
        (["run", "parabola", "--shard", "3"], "--shard takes I/N"),
        (["run", "parabola", "--shard", "3/3"], "shard must be i/n"),
        (["plot", "parabola"], "there are no results"),
        (["verify"], "nothing to verify"),
        (["show", "T-2"], "unknown claim 'T-2'; did you mean 'T-1'"),
        (["export", "parabola", "x.csv"], "unknown export format '.csv'"),
        (["export", "parabola", "x.nc"], "there are no results"),
    ],
)
def test_bad_input_is_one_clear_line(command, words, message):
    status, _, err = command(*words)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_runs_that_end_badly_are_named(command):
    status, out, _ = command("run", "parabola", "--set", "step_size=0.01,1e4", "--set", "steps=100")
    assert status == 0
    assert "8 runs diverged: the state stopped being finite" in out
    assert "step_size=10000.0" in out


def test_the_version_is_told(command):
    assert command("--version")[:2] == (0, f"theory_sim {metadata.version('theory_sim')}\n")


def test_info_tells_versions_and_devices(command):
    status, out, _ = command("info", "--json")
    assert status == 0
    assert json.loads(out)["platform"] == "cpu"


@pytest.mark.parametrize(
    "verb", ["list", "run", "plot", "verify", "show", "reproduce", "export", "bench", "info"]
)
def test_every_verb_has_help_with_an_example(command, verb):
    status, out, _ = command(verb, "--help")
    assert status == 0
    assert f"Example: theory-sim {verb}" in out


ELSEWHERE = {
    "imported": "import theory_sim as t\nSWEEP = t.Sweep(t.sensing.symmetric_gd, "
    "shape={'dim': [4], 'true_rank': [1], 'max_rank': [2]}, steps=3)\n",
    "nameless": "import theory_sim as t\nfrom tests.examples import scalar_descent\n"
    "SWEEP = t.Sweep(lambda: scalar_descent(), steps=3)\n",
    "partial": "import functools\nimport theory_sim as t\nfrom tests.examples import random_walk\n"
    "SWEEP = t.Sweep(functools.partial(random_walk, dim=3), steps=3)\n",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_factory_need_not_be_defined_in_the_study(command, tmp_path, name):
    (tmp_path / f"{name}.py").write_text(ELSEWHERE[name])
    status, out, err = command("run", tmp_path / f"{name}.py")
    assert status == 0, err
    assert "1 runs computed" in out
    assert command("plot", tmp_path / f"{name}.py")[0] == 0


def test_a_figure_that_raises_is_one_clear_line(command, tmp_path):
    text = MINE.read_text() + "\n\ndef draw(data):\n    return 1 / 0\n"
    (tmp_path / "drawn.py").write_text(text)
    command("run", tmp_path / "drawn.py", "--preset", "smoke")
    status, _, err = command("plot", tmp_path / "drawn.py")
    assert status == 2
    assert "cannot be drawn from these results: ZeroDivisionError" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1\n", "declares no function draw(data)"), ("def draw(:\n", "in figures cannot be read")],
)
def test_a_figure_file_that_draws_nothing_is_refused_before_the_run(command, tmp_path, text, message):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "parabola.py").write_text(text)
    status, _, err = command("run", "parabola", "--preset", "smoke")
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()
