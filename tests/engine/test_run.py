import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from tests.examples import Hyper, Setting, random_walk, scalar_descent, small_sweep
from theory_sim import RequestError, Simulation, Status, StoreError, Sweep, open_results, run, trajectory
from theory_sim.engine import block as blocks
from theory_sim.engine import compile as compiler
from theory_sim.simulation import problem_key, run_key
from theory_sim.study import load_module


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


def test_draws_depend_on_a_cells_own_seeds_alone(tmp_path):
    wide = Sweep(
        random_walk,
        problem={"curvature": [0.5, 2.0]},
        run={"rank": [1, 2, 4]},
        problem_seeds=3,
        run_seeds=5,
        steps=20,
    )
    narrow = Sweep(
        random_walk, problem={"curvature": [2.0]}, run={"rank": [2]}, problem_seeds=2, run_seeds=2, steps=20
    )
    run(wide, tmp_path / "wide")
    run(narrow, tmp_path / "narrow")
    small = open_results(tmp_path / "narrow")
    large = open_results(tmp_path / "wide").sel({name: small[name] for name in small["status"].dims})
    xr.testing.assert_allclose(small.drop_attrs(), large.drop_attrs(), rtol=1e-12)


def test_each_run_reads_its_own_problem(tmp_path):
    sweep = Sweep(random_walk, problem={"curvature": [0.5, 2.0]}, problem_seeds=3, run_seeds=2, steps=9)
    run(sweep, tmp_path / "r")
    data = open_results(tmp_path / "r")
    simulation = random_walk()
    for curvature in (0.5, 2.0):
        for seed in range(3):
            problem = simulation.sample(problem_key(jax.random.key(0), seed), Setting(curvature))
            alone = trajectory(simulation, 9)(run_key(jax.random.key(0), seed, 1), problem, simulation.hyper)
            cell = data.sel(curvature=curvature, problem_seed=seed, run_seed=1)
            np.testing.assert_allclose(cell["norm"], alone["norm"], rtol=1e-12)
            np.testing.assert_allclose(cell["rows"], alone["rows"], rtol=1e-12)
            np.testing.assert_allclose(cell["along"], alone["along"], rtol=1e-12)
            np.testing.assert_allclose(cell["farthest"], alone["farthest"], rtol=1e-12)
    assert data["rows"].dims[-2:] == ("step", "row")
    assert data["along"].dims[-1] == "step"
    assert data["farthest"].dims == data["status"].dims


def test_running_again_computes_nothing_and_new_values_only_what_is_new(tmp_path):
    run(small_sweep(), tmp_path / "r")
    before = open_results(tmp_path / "r")
    assert run(small_sweep(), tmp_path / "r").computed == 0
    assert run(small_sweep(run_seeds=6), tmp_path / "r").computed == 2 * 10 * 2
    more = [*small_sweep().run["step_size"], 0.05]
    assert run(small_sweep(run_seeds=6, step_size=more), tmp_path / "r").computed == 2 * 6
    after = open_results(tmp_path / "r")
    assert after.sizes["step_size"] == 11
    assert after["complete"].all()
    assert np.all(np.diff(after["step_size"]) > 0)
    same = after.sel({name: before[name] for name in before["status"].dims})
    xr.testing.assert_identical(before.drop_attrs(), same.drop_attrs())


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


def test_shards_together_are_the_whole(tmp_path):
    sweep = Sweep(random_walk, problem={"curvature": np.linspace(1, 2, 7)}, run_seeds=3, steps=5)
    monolith = run(sweep, tmp_path / "whole")
    parts = [run(sweep, tmp_path / "parts", shard=(i, 3)).computed for i in range(3)]
    assert sum(parts) == monolith.computed
    a, b = open_results(tmp_path / "whole"), open_results(tmp_path / "parts")
    xr.testing.assert_allclose(a.drop_attrs(), b.drop_attrs(), rtol=1e-12)


def test_any_executor_computes_the_same(tmp_path):
    sweep = Sweep(random_walk, problem={"curvature": np.linspace(1, 2, 5)}, run_seeds=3, steps=5)
    run(sweep, tmp_path / "here")
    with ThreadPoolExecutor(2) as executor:
        run(sweep, tmp_path / "there", executor=executor)
    a, b = open_results(tmp_path / "here"), open_results(tmp_path / "there")
    xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())


def test_tasks_can_travel(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("theory_sim.engine.run.compute_block", lambda task: seen.append(task) or ({}, ()))
    run(small_sweep(), tmp_path / "r")
    task = pickle.loads(pickle.dumps(seen[0]))
    assert blocks.compute_block(task)[0] == {Status.FINISHED: int(task.valid.sum())}


def test_one_compilation_a_shape_whatever_the_number_of_cells(tmp_path, monkeypatch):
    compiled = []
    original = compiler._compile
    monkeypatch.setattr(compiler, "_compile", lambda *a: compiled.append(1) or original(*a))
    traced = []

    def counted(*, dim=5):
        simulation = random_walk(dim=dim)
        return simulation._replace(step=lambda *a: traced.append(1) or simulation.step(*a))

    sweep = Sweep(
        counted, shape={"dim": [3, 5]}, problem={"curvature": np.linspace(1, 2, 30)}, run_seeds=7, steps=5
    )
    run(sweep, tmp_path / "r")
    assert len(compiled) == 2
    traces = len(traced)
    run(sweep.override({"run_seeds": 40, "curvature": np.linspace(1, 3, 61)}), tmp_path / "r")
    # A wider sweep is checked (traced once a shape, for its digest and cost) but not compiled again.
    assert len(compiled) == 2
    assert len(traced) - traces <= traces


def test_arrays_are_arguments_of_the_program_not_constants(tmp_path):
    table = np.random.default_rng(0).normal(size=(300, 300))

    def lookup() -> Simulation:
        return scalar_descent()._replace(
            sample=jax.tree_util.Partial(lambda data, key, setting: data.sum() * 0 + setting.curvature, table)
        )

    simulation = lookup()
    arrays, merge = compiler.split_arrays(simulation)
    assert [a.shape for a in arrays] == [(300, 300)]
    jaxpr = jax.make_jaxpr(lambda traced: merge(traced).sample(jax.random.key(0), Setting()))(arrays)
    assert sum(np.asarray(c).nbytes for c in jaxpr.consts) < 1000
    run(Sweep(lookup, steps=3), tmp_path / "r")


def test_halves_the_block_when_memory_runs_out(tmp_path, monkeypatch):
    original, tried = compiler.build, []

    def build(simulation, steps, sizes, devices):
        program = original(simulation, steps, sizes, devices)

        def call(*args):
            tried.append(sizes.cells)
            if sizes.cells > 30:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return program.call(*args)

        return program._replace(call=call)

    monkeypatch.setattr(compiler, "build", build)
    with pytest.warns(RuntimeWarning, match="out of memory"):
        summary = run(small_sweep(), tmp_path / "r")
    assert summary.computed == 80
    assert open_results(tmp_path / "r")["complete"].all()
    assert max(tried) > 30 >= min(tried)


def test_sizes_follow_the_free_memory(monkeypatch):
    simulation = random_walk()
    args = (simulation, np.arange(10), compiler.Sizes(64, 64, 64), jax.local_devices()[:1])
    roomy = compiler.build(*args)
    monkeypatch.setattr(compiler, "free_memory", lambda device: roomy.bytes / 4)
    tight = compiler.build(*args)
    assert tight.bytes <= 0.8 * roomy.bytes / 4
    monkeypatch.setattr(compiler, "free_memory", lambda device: 10.0)
    with pytest.raises(RequestError, match="one run needs"):
        compiler.build(*args)


def test_a_store_of_another_sweep_is_refused_with_what_differs(tmp_path):
    run(small_sweep(), tmp_path / "r")
    for changes, message in [
        ({"steps": 50}, "steps: .* there, .* asked"),
        ({"root_seed": 7}, "root_seed: 0 there, 7 asked"),
    ]:
        with pytest.raises(StoreError, match=message):
            run(small_sweep(**changes), tmp_path / "r")
    with pytest.raises(StoreError, match='precision: "float64" there, "float32" asked'):
        run(small_sweep(), tmp_path / "r", precision="float32")
    with pytest.raises(StoreError, match="simulation"):
        run(Sweep(random_walk, steps=small_sweep().steps), tmp_path / "r")
    assert run(small_sweep(steps=50), tmp_path / "r", fresh=True).computed == 80


def test_other_formulas_are_refused_but_other_words_are_not(tmp_path):
    def factory():
        return made

    made = scalar_descent()
    run(Sweep(factory, steps=5), tmp_path / "r")
    made = scalar_descent()._replace(
        step=lambda key, curvature, hyper, y: y - hyper.step_size * curvature * y
    )
    assert run(Sweep(factory, steps=5), tmp_path / "r").computed == 0
    made = scalar_descent()._replace(
        step=lambda key, problem, hyper, x: x - 2 * hyper.step_size * problem * x
    )
    with pytest.raises(StoreError, match="other formulas"):
        run(Sweep(factory, steps=5), tmp_path / "r")


@pytest.mark.parametrize("hidden", ["captured by an inner function", "in the rule of a batch"])
def test_formulas_that_a_trace_of_one_run_does_not_show_are_refused_as_well(tmp_path, hidden):
    def factory():
        if hidden == "captured by an inner function":
            rates = jnp.asarray([0.5, rate])
            shrink = jax.jit(lambda x: x * rates.prod())
        else:
            shrink = jax.custom_batching.custom_vmap(lambda x: 0.5 * x)
            shrink.def_vmap(lambda size, batched, x: (rate * x, batched[0]))
        return scalar_descent()._replace(step=lambda key, problem, hyper, x: shrink(x))

    rate = 0.5
    run(Sweep(factory, steps=5), tmp_path / "r")
    assert run(Sweep(factory, steps=5), tmp_path / "r").computed == 0
    rate = 0.25
    with pytest.raises(StoreError, match="other formulas"):
        run(Sweep(factory, steps=5), tmp_path / "r")


def test_a_shard_does_not_begin_by_removing_what_others_computed(tmp_path):
    run(small_sweep(), tmp_path / "r", shard=(0, 2))
    with pytest.raises(RequestError, match="what other shards have computed"):
        run(small_sweep(), tmp_path / "r", shard=(1, 2), fresh=True)
    run(small_sweep(), tmp_path / "r", shard=(1, 2))
    assert open_results(tmp_path / "r")["complete"].all()


def test_a_default_that_each_shape_has_for_itself_stays_in_the_results(tmp_path):
    def factory(*, max_rank):
        walk = random_walk(max_rank=max_rank)
        return walk._replace(hyper=walk.hyper._replace(rank=max_rank))

    run(Sweep(factory, shape={"max_rank": [2, 4]}, steps=3), tmp_path / "r")
    run(Sweep(factory, shape={"max_rank": [4]}, run={"rank": [3]}, steps=3), tmp_path / "r")
    complete = open_results(tmp_path / "r")["complete"].squeeze(drop=True).transpose("max_rank", "rank")
    assert complete["rank"].to_numpy().tolist() == [2, 3, 4]
    assert complete.to_numpy().tolist() == [[True, False, False], [False, True, True]]


def test_a_metric_has_one_meaning(tmp_path):
    def factory():
        return scalar_descent()._replace(conclude=lambda problem, hyper, records, x: {"distance": x})

    with pytest.raises(RequestError, match="observe and conclude both give a metric 'distance'"):
        run(Sweep(factory, steps=3), tmp_path / "r")


def test_a_whole_number_does_not_silently_become_the_floor_of_a_step(tmp_path):
    def factory():
        return scalar_descent()._replace(init=lambda key, problem, hyper: jnp.asarray(8))

    with pytest.raises(RequestError, match="step gives float64 for a state that init gives as int64"):
        run(Sweep(factory, steps=3), tmp_path / "r")


def test_a_study_file_that_has_changed_is_read_again(tmp_path):
    study = tmp_path / "study.py"
    for value in (1, 2):
        study.write_text(f"x = {value}")
        assert load_module(study).x == value


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


def test_another_format_version_and_foreign_folders_are_refused(tmp_path):
    run(small_sweep(), tmp_path / "r")
    header = tmp_path / "r" / "store.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), "format": 99}))
    with pytest.raises(StoreError, match="format 99"):
        open_results(tmp_path / "r")
    with pytest.raises(StoreError, match="format"):
        run(small_sweep(), tmp_path / "r")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    for attempt in (lambda: run(small_sweep(), foreign), lambda: run(small_sweep(), foreign, fresh=True)):
        with pytest.raises(StoreError, match="holds no results of theory_sim"):
            attempt()
    assert (foreign / "thesis.tex").read_text() == "precious"
    with pytest.raises(StoreError, match="no such folder"):
        open_results(tmp_path / "absent")


def test_a_damaged_block_is_named(tmp_path):
    run(small_sweep(), tmp_path / "r")
    file = next((tmp_path / "r" / "blocks").glob("*.npz"))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(StoreError, match=file.name):
        open_results(tmp_path / "r")


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


def test_a_variable_that_does_not_fit_its_metric_is_refused(tmp_path):
    from theory_sim import Variable

    def factory():
        return scalar_descent()._replace(variables={"distance": Variable("d", dims={"row": [1, 2]})})

    with pytest.raises(RequestError, match="metric 'distance' has shape"):
        run(Sweep(factory, steps=3), tmp_path / "r")


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_precision_is_the_callers(tmp_path, precision):
    with jax.enable_x64(precision == "float32"):  # the opposite of what is asked
        run(small_sweep(), tmp_path / "r", precision=precision)
        assert jnp.zeros(1).dtype == ("float64" if precision == "float32" else "float32")
    data = open_results(tmp_path / "r")
    assert data["distance"].dtype == precision
    assert data.attrs["precision"] == precision


def test_decompositions_on_a_cpu_run_on_one_device_and_many_are_warned_of(tmp_path, monkeypatch):
    def decomposing(*, count=1):
        def observe(problem, hyper, x):
            matrix = x * jnp.eye(3) + jnp.ones((3, 3))
            parts = [jnp.linalg.svd(matrix + i)[1][0] for i in range(count - 1)]
            return {"size": jnp.linalg.qr(matrix)[1][0, 0] + sum(parts, jnp.zeros(()))}

        return scalar_descent()._replace(observe=observe, variables={})

    facts = compiler.inspect(decomposing(), np.array([0, 1]))
    assert facts.decompositions == 1
    assert compiler.devices_for(facts) == 1
    assert compiler.devices_for(compiler.inspect(scalar_descent(), np.array([0, 1]))) == len(
        jax.local_devices()
    )
    run(Sweep(decomposing, run_seeds=8, steps=3), tmp_path / "r")
    monkeypatch.setenv("PJRT_NPROC", "4")
    with pytest.warns(RuntimeWarning, match="4 matrix decompositions"):
        compiler.devices_for(compiler.inspect(decomposing(count=4), np.array([0, 1])))


def test_another_default_is_refused_because_it_is_another_result(tmp_path):
    def factory():
        return scalar_descent()._replace(hyper=Hyper(step_size))

    step_size = 0.1
    run(Sweep(factory, steps=5), tmp_path / "r")
    step_size = 0.5
    with pytest.raises(StoreError, match=r"default step_size=0\.1, now 0\.5"):
        run(Sweep(factory, steps=5), tmp_path / "r")


def test_a_request_that_cannot_run_removes_nothing(tmp_path):
    run(small_sweep(), tmp_path / "r")

    def broken():
        return scalar_descent()._replace(step=lambda *a: a[9])

    with pytest.raises(RequestError, match="IndexError"):
        run(Sweep(broken, steps=5), tmp_path / "r", fresh=True)
    assert open_results(tmp_path / "r")["complete"].all()


@pytest.mark.parametrize("file", ["store.json", "shapes", "requests"])
@pytest.mark.parametrize("content", ["[]", '{"format": 1}', "", None])
def test_a_damaged_store_is_told_in_one_line(tmp_path, file, content):
    run(small_sweep(), tmp_path / "r")
    path = tmp_path / "r" / file
    path = path if path.is_file() else next(path.glob("*.json"))
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(StoreError):
        open_results(tmp_path / "r")


def test_a_metric_may_not_have_the_name_of_an_axis(tmp_path):
    def factory():
        return scalar_descent()._replace(observe=lambda p, h, x: {"step_size": x}, variables={})

    with pytest.raises(RequestError, match="metric 'step_size' has the name of an axis"):
        run(Sweep(factory, run={"step_size": [0.1]}, steps=3), tmp_path / "r")


def test_a_sweep_without_cells_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no cells"):
        run(Sweep(scalar_descent, steps=3, where=lambda **axes: False), tmp_path / "r")
