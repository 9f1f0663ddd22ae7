"""Real processes, really killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from theory_sim import open_results

STUDY = Path(__file__).with_name("scalar_study.py")
BLOCKS = 16 * 12
# One problem a block, so that kills fall between, before and in the middle of many of them.
PROGRAM = """
import sys
from pathlib import Path
import theory_sim
from theory_sim.engine import plan
plan.MAX_RUNS = 16
from theory_sim.study import load_study
study = load_study(sys.argv[1])
summary = theory_sim.run(study.sweep, sys.argv[2], study=study.path)
print(summary.computed, flush=True)
"""


def start(out):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(out.parent / "cache")}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(STUDY), str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return int(output.split()[-1])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("kill") / "whole"
    started = time.time()
    assert finish(start(out)) == BLOCKS * 16
    written = sorted(file.stat().st_mtime for file in out.glob("blocks/*.npz"))
    return out, written[0] - started, (written[-1] - written[0]) / (BLOCKS - 1)


def test_a_sweep_killed_at_twenty_random_moments_ends_with_the_same_bytes(uninterrupted):
    whole, before_the_first, each = uninterrupted  # seconds on this machine, the latter of a block
    out = whole.with_name("killed")
    moments = random.Random(0)
    killed, interrupted_in_blocks = 0, 0
    while killed < 20:
        process = start(out)
        before = len(list(out.glob("blocks/*.npz")))
        # From the start of the process (import, trace, compile) to the middle of the blocks.
        if moments.random() < 0.3:
            time.sleep(moments.uniform(0.1, 1.0) * before_the_first)
        else:
            target = before + moments.randint(1, 3)
            while process.poll() is None and len(list(out.glob("blocks/*.npz"))) < target:
                time.sleep(each / 4)
            time.sleep(moments.uniform(0, 2 * each))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += 1
        after = list(out.glob("blocks/*.npz"))
        interrupted_in_blocks += before < len(after) < BLOCKS
        for file in after:
            with np.load(file) as block:
                assert block["valid"].all()
    assert interrupted_in_blocks >= 10
    left = BLOCKS - len(list(out.glob("blocks/*.npz")))
    assert finish(start(out)) == left * 16
    names = sorted(file.name for file in whole.glob("blocks/*.npz"))
    assert names == sorted(file.name for file in out.glob("blocks/*.npz"))
    a, b = open_results(whole), open_results(out)
    xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())
    assert bool(b["complete"].all())


def test_two_processes_on_one_store_do_not_disturb_each_other(uninterrupted):
    whole = uninterrupted[0]
    out = whole.with_name("shared")
    pair = [start(out), start(out)]
    computed = [finish(process) for process in pair]
    assert max(computed) <= BLOCKS * 16
    xr.testing.assert_identical(open_results(whole).drop_attrs(), open_results(out).drop_attrs())
