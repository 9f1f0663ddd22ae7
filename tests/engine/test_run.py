import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
import xarray as xr

from tests.examples import Setting, random_walk, scalar_descent, small_sweep
from theory_sim import RequestError, Simulation, Status, Sweep, open_results, run, trajectory
from theory_sim.engine import block as blocks
from theory_sim.engine import compile as compiler
from theory_sim.engine import inspection
from theory_sim.simulation import problem_key, run_key
from theory_sim.study import load_module


@pytest.fixture(autouse=True)
def _forget_programs():
    blocks._compiled.clear()


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


def test_a_problem_may_hold_a_whole_number_that_fixes_shapes(tmp_path):
    class Hyper(NamedTuple):
        step_size: float = 0.5

    def descent():
        return Simulation(
            sample=lambda key, setting: {"size": 3},
            init=lambda key, problem, hyper: jnp.ones(problem["size"]),
            step=lambda key, problem, hyper, x: x * (1 - hyper.step_size),
            observe=lambda problem, hyper, x: {"sum": sum(x[i] for i in range(problem["size"]))},
            setting=None,
            hyper=Hyper(),
        )

    run(Sweep(descent, steps=[1]), tmp_path / "r")
    assert open_results(tmp_path / "r")["sum"].item() == 1.5


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


def test_a_study_file_that_has_changed_is_read_again(tmp_path):
    study = tmp_path / "study.py"
    for value in (1, 2):
        study.write_text(f"x = {value}")
        assert load_module(study).x == value


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

    facts = inspection.inspect(decomposing(), np.array([0, 1]))
    assert facts.decompositions == 1
    assert inspection.devices_for(facts) == 1
    assert inspection.devices_for(inspection.inspect(scalar_descent(), np.array([0, 1]))) == len(
        jax.local_devices()
    )
    run(Sweep(decomposing, run_seeds=8, steps=3), tmp_path / "r")
    monkeypatch.setenv("PJRT_NPROC", "4")
    with pytest.warns(RuntimeWarning, match="4 matrix decompositions"):
        inspection.devices_for(inspection.inspect(decomposing(count=4), np.array([0, 1])))


def test_threads_that_want_one_program_compile_it_once_and_a_failure_is_forgotten(tmp_path, monkeypatch):
    tasks, tried = [], []
    monkeypatch.setattr("theory_sim.engine.run.compute_block", lambda task: tasks.append(task) or ({}, ()))
    run(small_sweep(), tmp_path / "r")
    blocks._compiled.clear()
    job = tasks[0].job

    def build(*args):
        tried.append(args)
        time.sleep(0.2)
        if len(tried) == 1:
            raise RequestError("no memory now")
        return "program"

    monkeypatch.setattr(compiler, "build", build)
    for count in (1, 2):
        with ThreadPoolExecutor(max_workers=8) as threads:
            found = [threads.submit(blocks._program, job, job.sizes) for _ in range(8)]
        assert len(tried) == count
        if count == 1:
            assert all("no memory now" in str(each.exception()) for each in found)
            assert not blocks.is_compiled(job)
    assert {each.result()[0] for each in found} == {"program"}
    assert blocks.is_compiled(job)


def test_what_fails_ahead_of_its_turn_costs_nothing_of_what_is_before_and_starts_nothing_after(
    tmp_path, monkeypatch
):
    original, built = compiler.build, []

    def build(simulation, *args):
        dim = simulation.sample(jax.random.key(0), simulation.setting).shape[0]
        built.append(dim)
        if dim == 3:
            raise RequestError("one run needs 9 GiB")
        return original(simulation, *args)

    monkeypatch.setattr(compiler, "build", build)
    sweep = Sweep(random_walk, shape={"dim": [2, 3, 4, 5, 6, 7, 8]}, run_seeds=2, steps=5)
    with pytest.raises(RequestError, match="needs 9 GiB"):
        run(sweep, tmp_path / "r")
    assert open_results(tmp_path / "r").sel(dim=2)["complete"].all()
    assert not {6, 7, 8} & {*built}


def test_a_program_stays_careful_or_not_as_it_was_first_compiled(tmp_path, monkeypatch):
    original, careful = compiler.compiled, []
    monkeypatch.setattr(
        compiler, "compiled", lambda low, how, on: careful.append(how) or original(low, how, on)
    )
    monkeypatch.setattr("theory_sim.engine.plan.LONG_FLOPS", 1.0)
    run(small_sweep(), tmp_path / "r")
    monkeypatch.setattr("theory_sim.engine.plan.LONG_FLOPS", 1e18)
    blocks._compiled.clear()
    run(small_sweep(run_seeds=8), tmp_path / "r")
    run(small_sweep(), tmp_path / "other")
    assert careful == [True, True, False]


def test_only_careful_programs_are_compiled_without_the_hasty_options():
    given = []

    class Lowered:
        def compile(self, compiler_options):
            given.append(compiler_options or {})

    compiler.compiled(Lowered(), True, "cpu")
    compiler.compiled(Lowered(), False, "cpu")
    compiler.compiled(Lowered(), False, "cuda")
    assert given[0] == compiler.OPTIONS["cpu"]
    assert given[1] == compiler.OPTIONS["cpu"] | compiler.HASTY["cpu"]
    assert given[2] == {}
    assert (compiler.SOUND_FUSIONS[0] in given[0]) == (jaxlib.__version__ in compiler.FAULTY)
