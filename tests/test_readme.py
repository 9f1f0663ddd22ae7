"""What the README shows works as shown."""

import re
import sys
from pathlib import Path

import pytest

import theory_sim
from theory_sim import cli

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_study_in_the_readme_runs_draws_and_agrees(tmp_path, monkeypatch, capsys):
    (study,) = [block for block in BLOCKS if "HB-1" in block]
    assert len(study.strip().splitlines()) <= 55
    (tmp_path / "heavy_ball.py").write_text(study)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    commands = re.findall(r"^theory-sim (.*heavy_ball\.py[^#\n]*)", README, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["run", "plot", "verify", "run"]
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["theory-sim", *command.split()])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, command
    out = capsys.readouterr().out
    assert "48 runs computed" in out
    assert "1 agrees; 1 of 1 controls rejected" in out
    data = theory_sim.open_results("results/heavy_ball")
    assert data.sizes["momentum"] == 4
    assert data.sizes["run_seed"] == 32


def test_the_claim_about_a_shipped_model_in_the_readme_is_judged(tmp_path, monkeypatch, capsys):
    (study,) = [block for block in BLOCKS if "MY-1" in block]
    (tmp_path / "mine.py").write_text(study)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for verb in ("run", "verify"):
        monkeypatch.setattr(sys, "argv", ["theory-sim", verb, "mine.py"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
    assert "1 agrees; 1 of 1 controls rejected" in capsys.readouterr().out


def test_the_network_in_the_readme_is_trained_and_its_dimension_estimated(tmp_path, monkeypatch, capsys):
    (study,) = [block for block in BLOCKS if "my_network()" in block]
    (estimate,) = [block for block in BLOCKS if "intrinsic_dimension(RUNS" in block]
    (tmp_path / "my_network.py").write_text(study)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["theory-sim", "run", "my_network.py"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert "24 runs computed" in capsys.readouterr().out
    names: dict = {}
    exec(study + estimate, names)
    assert "value=" in capsys.readouterr().out
    scores = names["scores"]
    assert scores.shape == (4, 6)
    assert 0.9 < scores[:, 0].mean() < 1
    assert 50 < names["intrinsic_dimension"](names["RUNS"]["dim"][1:], scores[:, 1:]).value < 200


def test_the_readme_names_every_verb_and_no_other_file_is_missing():
    for verb in ("run", "plot", "verify", "show", "export", "bench", "info"):
        assert f"theory-sim {verb}" in README
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
