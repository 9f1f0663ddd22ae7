"""Disks that are full, folders that cannot be written."""

import os
import resource
import subprocess
import sys

import pytest

from tests.examples import small_sweep
from theory_sim import StoreError, open_results, run
from theory_sim.engine.store import Store


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    run(small_sweep(), tmp_path / "r")
    real = os.fsync
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device; finished blocks are safe, run again"):
        run(small_sweep(run_seeds=9), tmp_path / "r")
    monkeypatch.undo()
    left = [path.name for path in (tmp_path / "r").rglob("*") if path.name.endswith(".tmp")]
    assert left == []
    assert open_results(tmp_path / "r")["complete"].sum() == 80
    assert run(small_sweep(run_seeds=9), tmp_path / "r").computed == 100
    assert open_results(tmp_path / "r")["complete"].all()


def test_a_file_size_limit_really_hit_leaves_a_readable_store(tmp_path):
    # The operating system refuses the write itself here (EFBIG), with no help from a mock.
    program = (
        "import resource, sys, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from tests.examples import small_sweep\n"
        "from theory_sim import run, StoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    run(small_sweep(run_seeds=50), sys.argv[1])\n"
        "except StoreError as error:\n"
        "    print('refused:', error)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "r")], capture_output=True, text=True, check=True
    )
    assert "refused: cannot write" in out.stdout
    assert "File too large" in out.stdout
    assert list((tmp_path / "r" / "blocks").iterdir()) == []
    assert run(small_sweep(run_seeds=50), tmp_path / "r").computed == 1000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "r").write_text("mine")
    with pytest.raises(StoreError, match="it is a file"):
        run(small_sweep(), tmp_path / "r")
    with pytest.raises(StoreError, match="cannot write results"):
        run(small_sweep(), tmp_path / "r" / "below")
    assert (tmp_path / "r").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="Permission denied"):
            run(small_sweep(), tmp_path / "r")
    finally:
        tmp_path.chmod(0o700)


def test_a_missing_permission_from_the_system_is_a_clear_error(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "mkdir", refuse)
    with pytest.raises(StoreError, match=r"cannot write results to .*: Permission denied"):
        run(small_sweep(), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_temporary_files_are_no_blocks(tmp_path):
    run(small_sweep(), tmp_path / "r")
    (tmp_path / "r" / "blocks" / ".half.npz.tmp").write_bytes(b"half")
    assert len(Store(tmp_path / "r").block_files()) == 1
    assert open_results(tmp_path / "r")["complete"].all()
