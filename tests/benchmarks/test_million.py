"""Memory does not grow with the number of cells."""

import json
import subprocess
import sys

PROGRAM = """
import json, sys
import numpy as np
from tests.examples import small_sweep
from theory_sim import open_results, run
sweep = small_sweep(curvature=np.linspace(1, 2, 1000), step_size=np.geomspace(1e-3, 0.5, 1000), run_seeds=1)
summary = run(sweep, sys.argv[1])
data = open_results(sys.argv[1])
expected = np.abs(1 - data.step_size * data.curvature) ** 100 * abs(data.distance.isel(step=0))
error = float(abs(data.distance.isel(step=-1) - expected).max())
# Not `ru_maxrss`, in which a process begins with the size of the one that started it.
status = dict(line.split(":") for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) / 2**20
print(json.dumps({"computed": summary.computed, "programs": summary.programs, "gib": peak, "error": error}))
"""


def test_a_million_cells_take_one_program_and_less_than_two_gigabytes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "r")], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["computed"] == 1_000_000
    assert told["programs"] == 1
    assert told["gib"] < 2
    assert told["error"] < 1e-12
