"""Other processes and a Dask cluster compute the same cells, from a study that they can only load by its path."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import xarray as xr

from theory_sim import cli, open_results, run
from theory_sim.study import load_study

STUDY = Path(__file__).parents[1] / "faults" / "scalar_study.py"


@pytest.fixture(scope="module")
def sweep_and_results(tmp_path_factory):
    study = load_study(str(STUDY))
    sweep = study.sweep.override({"scale": [0.5, 1.0, 1.5], "problem_seeds": 2, "steps": 20})
    out = tmp_path_factory.mktemp("here") / "r"
    run(sweep, out, study=study.path)
    return study, sweep, open_results(out)


def test_a_pool_of_processes(sweep_and_results, tmp_path):
    study, sweep, expected = sweep_and_results
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        summary = run(sweep, tmp_path / "r", study=study.path, executor=executor)
    assert summary.computed == sweep.cells
    # The workers have one device each, this process four: other widths, a few ulp.
    xr.testing.assert_allclose(open_results(tmp_path / "r").drop_attrs(), expected.drop_attrs(), rtol=1e-10)


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster(sweep_and_results, tmp_path, monkeypatch, capsys):
    distributed = pytest.importorskip("distributed")
    _, _, expected = sweep_and_results
    monkeypatch.chdir(tmp_path)
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:
        words = f"run {STUDY} --set scale=0.5,1.0,1.5 --set problem_seeds=2 --set steps=20 --cluster"
        monkeypatch.setattr(sys, "argv", ["theory-sim", *words.split(), cluster.scheduler_address])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert not stop.value.code, capsys.readouterr()
    data = open_results("results/scalar_study")
    xr.testing.assert_allclose(data.drop_attrs(), expected.drop_attrs(), rtol=1e-10)


def test_no_scheduler_is_one_clear_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["theory-sim", "run", str(STUDY), "--cluster", "nowhere"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "no Dask scheduler answers at nowhere" in capsys.readouterr().err
