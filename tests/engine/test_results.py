"""Results as one labelled dataset, whoever computed them and when."""

import jax
import numpy as np
import pytest

from tests.examples import Hyper, random_walk, scalar_descent, small_sweep
from theory_sim import Status, Sweep, open_results, run, trajectory
from theory_sim.engine import block as blocks
from theory_sim.simulation import run_key


@pytest.fixture(autouse=True)
def _forget_programs():
    blocks._compiled.clear()


def test_results_are_labelled_and_equal_single_trajectories(tmp_path):
    sweep = small_sweep(problem_seeds=2)
    summary = run(sweep, tmp_path / "r")
    assert (summary.cells, summary.computed, summary.found, summary.programs) == (160, 160, 0, 1)
    data = open_results(tmp_path / "r")
    assert data["distance"].dims == ("curvature", "problem_seed", "step_size", "run_seed", "step")
    assert data["distance"].attrs == {"long_name": "distance to the minimum", "units": "m"}
    assert data["complete"].all()
    assert (data["status"] == Status.FINISHED).all()
    for name in ("jax", "git_commit", "device_kind", "precision", "root_seed", "computation", "seconds"):
        assert name in data.attrs
    simulation = scalar_descent()
    alone = trajectory(simulation, sweep.steps)(run_key(jax.random.key(0), 1, 3), 2.0, Hyper(0.5))["distance"]
    cell = data["distance"].sel(curvature=2.0, problem_seed=1, step_size=0.5, run_seed=3)
    # The runs are spread over four devices here, the lone trajectory is not: sharded equals unsharded.
    np.testing.assert_allclose(cell, alone, rtol=1e-13)


def test_a_value_swept_later_finds_the_cells_computed_at_its_default(tmp_path):
    run(Sweep(scalar_descent, run_seeds=3, steps=5), tmp_path / "r")
    assert (
        run(
            Sweep(scalar_descent, run={"step_size": [0.1, 0.2]}, run_seeds=3, steps=5), tmp_path / "r"
        ).computed
        == 3
    )


def test_smaller_requests_leave_the_rest_in_place(tmp_path):
    run(small_sweep(), tmp_path / "r")
    assert run(small_sweep(run_seeds=1), tmp_path / "r").computed == 0
    assert open_results(tmp_path / "r").sizes["run_seed"] == 4


def test_a_default_that_each_shape_has_for_itself_stays_in_the_results(tmp_path):
    def factory(*, max_rank):
        walk = random_walk(max_rank=max_rank)
        return walk._replace(hyper=walk.hyper._replace(rank=max_rank))

    run(Sweep(factory, shape={"max_rank": [2, 4]}, steps=3), tmp_path / "r")
    run(Sweep(factory, shape={"max_rank": [4]}, run={"rank": [3]}, steps=3), tmp_path / "r")
    complete = open_results(tmp_path / "r")["complete"].squeeze(drop=True).transpose("max_rank", "rank")
    assert complete["rank"].to_numpy().tolist() == [2, 3, 4]
    assert complete.to_numpy().tolist() == [[True, False, False], [False, True, True]]


def test_results_tell_all_processes_that_computed_them(tmp_path, monkeypatch):
    machine = {"git_commit": "aaa", "device_kind": "cpu", "created": "monday"}
    monkeypatch.setattr(blocks, "provenance", lambda precision: machine)
    run(small_sweep(run_seeds=2), tmp_path / "r")
    assert open_results(tmp_path / "r").attrs["git_commit"] == "aaa"
    machine = {**machine, "git_commit": "bbb", "created": "tuesday"}
    run(small_sweep(), tmp_path / "r")
    machine = {**machine, "git_commit": "ccc"}
    run(small_sweep(run_seeds=3), tmp_path / "r")  # asks for what is there, and computes nothing
    told = open_results(tmp_path / "r").attrs
    assert (told["git_commit"], told["device_kind"]) == ("aaa, bbb", "cpu")


def test_diverged_cells_are_stored_as_such(tmp_path):
    summary = run(
        Sweep(scalar_descent, run={"step_size": [0.1, 5.0]}, run_seeds=3, steps=1000), tmp_path / "r"
    )
    assert summary.statuses == {Status.FINISHED: 3, Status.DIVERGED: 3}
    data = open_results(tmp_path / "r")
    assert (data["diverged_at"].sel(step_size=5.0) > 0).all()
    assert np.isfinite(data["distance"].sel(step_size=0.1)).all()


def test_cells_left_out_are_missing_not_wrong(tmp_path):
    sweep = Sweep(
        random_walk,
        shape={"dim": [3, 5]},
        run={"rank": [1, 2]},
        run_seeds=2,
        steps=4,
        where=lambda dim, rank, **_: (dim == 5) | (rank == 1),
    )
    run(sweep, tmp_path / "r")
    data = open_results(tmp_path / "r")
    assert data["complete"].sum() == sweep.cells == 6
    missing = data.sel(dim=3, rank=2)
    assert np.isnan(missing["norm"]).all()
    assert (missing["status"] == -1).all()


def test_shape_axes_may_hold_none_and_words(tmp_path):
    def variant(*, rule="plain", size=None):
        return scalar_descent()

    run(Sweep(variant, shape={"rule": ["plain", "fancy"], "size": [None, 3]}, steps=3), tmp_path / "r")
    data = open_results(tmp_path / "r")
    assert data["rule"].to_numpy().tolist() == ["plain", "fancy"]
    assert data["size"].to_numpy().tolist() == ["None", "3"]
    assert data["complete"].all()
