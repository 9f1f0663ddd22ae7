"""What a run refuses, before it touches anything, and how it says so."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.examples import Hyper, random_walk, scalar_descent, small_sweep
from theory_sim import RequestError, StoreError, Sweep, Variable, open_results, run
from theory_sim.engine import block as blocks


@pytest.fixture(autouse=True)
def _forget_programs():
    blocks._compiled.clear()


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


HIDDEN = (
    "captured by an inner function",
    "in the rule of a batch of runs",
    "in the rule of many problems",
    "in the body of what a rule calls",
)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_formulas_that_a_trace_of_one_run_does_not_show_are_refused_as_well(tmp_path, hidden):
    def factory():
        if hidden == "captured by an inner function":
            rates = jnp.asarray([0.5, rate])
            shrink = jax.jit(lambda x: x * rates.prod())
        else:
            # Programs batch the runs of one problem, and around them problems, which a rule meets in what it calls.
            outer = jax.custom_batching.custom_vmap(lambda problem, x: problem * x)
            of_runs, of_problems, of_one = (rate if hidden == each else 0.5 for each in HIDDEN[1:])
            inner = jax.custom_batching.custom_vmap(lambda problem, x: of_one * problem * x)
            outer.def_vmap(lambda size, batched, p, x: ((0.1 if batched[0] else of_runs) * inner(p, x), True))
            inner.def_vmap(lambda size, batched, p, x: (of_problems * (p * x.T).T, True))
            return scalar_descent()._replace(step=lambda key, problem, hyper, x: outer(problem, x))
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


def test_a_variable_that_does_not_fit_its_metric_is_refused(tmp_path):
    def factory():
        return scalar_descent()._replace(variables={"distance": Variable("d", dims={"row": [1, 2]})})

    with pytest.raises(RequestError, match="metric 'distance' has shape"):
        run(Sweep(factory, steps=3), tmp_path / "r")


def test_another_default_is_refused_because_it_is_another_result(tmp_path):
    def factory():
        return scalar_descent()._replace(hyper=Hyper(step_size))

    step_size = 0.1
    run(Sweep(factory, steps=5), tmp_path / "r")
    step_size = 0.5
    with pytest.raises(StoreError, match=r"default step_size=0\.1, now 0\.5"):
        run(Sweep(factory, steps=5), tmp_path / "r")


CANNOT = {
    "IndexError": {"step": lambda *a: a[9]},
    "80 of 80 cells: never": {"refuse": lambda setting, hyper: {"never": np.asarray(True)}},
    "metric 'distance' has shape": {"variables": {"distance": Variable("d", dims={"row": [1, 2]})}},
}


@pytest.mark.parametrize("message", CANNOT)
def test_a_request_that_cannot_run_touches_nothing(tmp_path, message):
    run(small_sweep(), tmp_path / "r")

    def broken():
        return scalar_descent()._replace(**CANNOT[message])

    request = replace(small_sweep(steps=50), simulation=broken)
    for folder, fresh in [("r", True), ("new", False)]:
        with pytest.raises(RequestError, match=message):
            run(request, tmp_path / folder, fresh=fresh)
    assert open_results(tmp_path / "r")["complete"].all()
    assert not (tmp_path / "new").exists()


def test_an_argument_that_the_stored_shapes_did_not_have_is_named(tmp_path):
    def old():
        return made

    def new(*, copies):
        return made

    made = scalar_descent()
    new.__qualname__ = old.__qualname__  # the same factory, before and after it was given an argument
    run(Sweep(old, steps=[1]), tmp_path / "r")
    with pytest.raises(StoreError, match="without the argument 'copies': run it with --fresh"):
        run(Sweep(new, shape={"copies": [1]}, steps=[1]), tmp_path / "r")


def test_an_executor_that_could_not_find_the_factory_removes_nothing(tmp_path):
    run(small_sweep(), tmp_path / "r")
    study = tmp_path / "study.py"
    study.write_text("")
    with ThreadPoolExecutor(1) as executor, pytest.raises(RequestError, match="find a factory by its name"):
        run(small_sweep(), tmp_path / "r", study=study, executor=executor, fresh=True)
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
