"""A results folder that several processes, machines and requests share."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import xarray as xr

from tests.examples import random_walk
from theory_sim import StoreError, Sweep, open_results, run
from theory_sim.engine.store import Store, create_store

STARTS = 40


def test_processes_that_start_together_share_a_folder(tmp_path):
    workers = 6
    start = threading.Barrier(workers)

    def create(number):
        start.wait()
        return create_store(tmp_path / str(number), {"steps": [1]})

    with ThreadPoolExecutor(workers) as threads:
        for number in range(STARTS):
            stores = [future.result() for future in [threads.submit(create, number) for _ in range(workers)]]
            assert len(set(stores)) == 1
            assert Store(tmp_path / str(number)).header["steps"] == [1]


def test_a_sweep_that_has_no_block_yet_keeps_its_folder(tmp_path):
    store = create_store(tmp_path / "r", {"steps": [1]})
    with pytest.raises(StoreError, match="results of another sweep"):
        create_store(tmp_path / "r", {"steps": [2]})
    assert store.header["steps"] == [1]


PROGRAM = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[2]))
from tests.examples import random_walk
from theory_sim import Sweep, run
print(run(Sweep(random_walk, run_seeds=int(sys.argv[3]), steps=9), sys.argv[1]).computed)
"""


@pytest.mark.parametrize(("before", "after"), [(1, 2), (3, 4), (4, 3)])
def test_results_grow_on_a_machine_with_another_number_of_devices(tmp_path, before, after):
    for devices, seeds, computed in [(before, before, before), (after, before + 5, 5)]:
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / "r"), str(devices), str(seeds)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) == computed
    run(Sweep(random_walk, run_seeds=before + 5, steps=9), tmp_path / "here")
    grown, whole = open_results(tmp_path / "r"), open_results(tmp_path / "here")
    assert grown["complete"].all()
    xr.testing.assert_allclose(grown.drop_attrs(), whole.drop_attrs(), rtol=1e-12)
