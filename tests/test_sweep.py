from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from tests.examples import Hyper, random_walk, scalar_descent, small_sweep
from theory_sim import RequestError, Sweep
from theory_sim.sweep import cells


def test_cells_count_the_product_of_axes_and_seeds():
    assert small_sweep().cells == 2 * 10 * 4
    assert small_sweep(problem_seeds=3).cells == 3 * 80


def test_where_leaves_out_cells():
    sweep = Sweep(
        random_walk,
        shape={"dim": [3, 5]},
        run={"rank": [1, 2, 4]},
        run_seeds=6,
        where=lambda dim, rank, run_seed, **_: (dim == 5) & ((rank == 4) | (run_seed < 2)),
    )
    assert sweep.cells == 6 + 2 * 2
    _, runs, wanted = cells(sweep, {"dim": 5})
    assert wanted.shape == (1, 18)
    assert set(runs["rank"][wanted[0] & (runs["run_seed"] >= 2)]) == {4}
    assert not cells(sweep, {"dim": 3})[2].any()


def grid(size, **options):
    return Sweep(scalar_descent, problem={"a": range(size)}, run={"b": range(size)}, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small_sweep(step_size=[]), "'step_size' is empty"),
        (lambda: small_sweep(step_size=[0.1, 0.1]), "repeats the value 0.1"),
        (lambda: small_sweep(step_size=[0.1, float("nan")]), "holds NaN"),
        (lambda: small_sweep(step_size=[1, 1.0]), "repeats the value 1.0"),
        (lambda: small_sweep(steps=10**20), "steps must be below"),
        (lambda: small_sweep(root_seed=True), "root_seed must be a whole number"),
        (lambda: small_sweep(run_seeds=0), "run_seeds must be a whole number of at least 1, got 0"),
        (lambda: small_sweep(run_seeds=-3), "got -3"),
        (lambda: small_sweep(problem_seeds=1.5), "got 1.5"),
        (lambda: small_sweep(steps=-5), "steps must not be negative, got -5"),
        (lambda: small_sweep(stepsize=[0.1]), "unknown axis 'stepsize'; did you mean 'step_size'"),
        (lambda: small_sweep().with_preset("quik"), "unknown preset 'quik'"),
        (lambda: Sweep(scalar_descent, run={"step": [1]}), "reserved name"),
        (lambda: Sweep(scalar_descent, run={"a": [1]}, problem={"a": [2]}), "given twice"),
        (lambda: Sweep("x"), "simulation factory"),
        (lambda: Sweep(scalar_descent, presets=["smoke"]), "presets must be a dict from names to changes"),
        (
            lambda: Sweep(scalar_descent, presets={"smoke": ["step_size"]}),
            r"preset 'smoke' must be a dict from axes to values, got \['step_size'\]",
        ),
        (lambda: small_sweep(steps=1.5), "steps must be a whole number or a list of whole numbers, got 1.5"),
        (lambda: grid(200_000).cells, "make 40,000,000,000 cells, at most 100,000,000 are"),
        (
            lambda: grid(3, where=lambda a, **_: np.ones(5, bool)).cells,
            "return one that broadcasts with them",
        ),
        (lambda: grid(3, where=lambda a: True).cells, "Sweep.where must take all axes by name"),
    ],
)
def test_wrong_requests_raise_at_once_with_one_clear_line(make, message):
    with pytest.raises(RequestError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (
            Sweep(random_walk, shape={"dimm": [3]}),
            "unknown shape axis of random_walk 'dimm'; did you mean 'dim'",
        ),
        (
            Sweep(random_walk, run={"ranck": [3]}),
            "unknown run axis of random_walk 'ranck'; did you mean 'rank'",
        ),
        (Sweep(random_walk, problem={"kurvature": [3]}), "did you mean 'curvature'"),
        (Sweep(random_walk, run={"rank": [2, 5]}), r"'rank' must lie in \[1, 4\], got 5"),
        (Sweep(random_walk, run={"rank": [1.5]}), "'rank' takes whole numbers, got 1.5"),
        (
            Sweep(random_walk, run={"rank": [1.5]}),
            "got 1.5: its default 3 is a whole number, write 3.0 to allow others",
        ),
        (Sweep(random_walk, run={"scale": [float("inf")]}), "finite numbers, got inf"),
        (Sweep(random_walk, run={"scale": ["big"]}), "'scale' takes numbers, got 'big'"),
    ],
)
def test_axes_are_checked_against_the_simulation(sweep, message):
    with pytest.raises(RequestError, match=message):
        sweep.build(sweep.shapes[0])


@dataclass
class Rates:
    step_size: float = 0.1


@pytest.mark.parametrize("part", ["setting", "hyper"])
@pytest.mark.parametrize("given", [Rates(), Rates, Hyper, {"step_size": 0.1}, (0.1,), np.ones(2)], ids=repr)
def test_axes_are_the_fields_of_named_tuples(part, given):
    def factory():
        return scalar_descent()._replace(**{part: given})

    with pytest.raises(RequestError, match=f"factory: {part} must be a NamedTuple instance, whose fields"):
        Sweep(factory).build({})


def test_a_factory_that_refuses_is_named_with_its_arguments():
    def picky(*, dim=3):
        raise ValueError("dim must be even")

    with pytest.raises(RequestError, match=r"picky\(dim=3\): dim must be even"):
        Sweep(picky, shape={"dim": [3]}).build({"dim": 3})


def test_presets_override_axes_seeds_and_steps():
    sweep = Sweep(
        scalar_descent,
        run={"step_size": [0.1, 0.2]},
        presets={"smoke": {"step_size": 0.3, "curvature": [4.0], "run_seeds": 2, "steps": 7}},
    ).with_preset("smoke")
    assert sweep.axes == {"curvature": [4.0], "problem_seed": [0], "step_size": [0.3], "run_seed": [0, 1]}
    assert sweep.steps == 7


@pytest.mark.parametrize(
    "given",
    [
        np.array([0.5, 1.0]),
        jnp.linspace(0.5, 1.0, 2),
        xr.DataArray([0.5, 1.0]),
        (0.5, np.float64(1.0)),
        [jnp.asarray(0.5), np.asarray(1.0)],
    ],
    ids=lambda given: type(given).__name__,
)
def test_the_values_of_any_array_become_plain_numbers(given):
    values = Sweep(scalar_descent, run={"step_size": given}).run["step_size"]
    assert values == [0.5, 1.0]
    assert {type(value) for value in values} == {float}


def test_a_single_value_is_an_axis_of_one():
    for given in (0.5, np.float64(0.5), np.asarray(0.5), jnp.asarray(0.5)):
        assert small_sweep(step_size=given).run["step_size"] == [0.5]
    assert Sweep(scalar_descent, shape={"rule": "polyak"}).shape["rule"] == ["polyak"]
