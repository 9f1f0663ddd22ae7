from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import Hyper, random_walk, scalar_descent
from theory_sim import Simulation, Status, log_spaced, rollout, trajectory
from theory_sim.simulation import problem_key, recorded_steps, run_key


@given(st.integers(0, 10**7), st.integers(1, 50))
def test_log_spaced_starts_at_zero_ends_at_total_and_increases(total, per_decade):
    steps = log_spaced(total, per_decade)
    assert steps[0] == 0
    assert steps[-1] == total
    assert np.all(np.diff(steps) > 0)


@pytest.mark.parametrize("steps", [-1, [], [3, 2], [0, 0], [0.5, 1.0], [-1, 2], [[0, 1]], 2.5, np.inf])
def test_recorded_steps_refuses(steps):
    with pytest.raises(ValueError, match="steps"):
        recorded_steps(steps)


def test_a_whole_float_is_a_number_of_steps():
    np.testing.assert_array_equal(recorded_steps(1e3), recorded_steps(1000))
    with pytest.raises(ValueError, match=r"must be a whole number or a list of whole numbers, got 2\.5"):
        recorded_steps(2.5)


@given(st.floats(0.01, 1.9), st.integers(0, 2**31))
def test_trajectory_follows_the_closed_form(step_size, seed):
    simulation = scalar_descent()
    steps = log_spaced(30)
    distance = trajectory(simulation, steps)(jax.random.key(seed), 1.0, Hyper(step_size))["distance"]
    expected = np.abs(1 - step_size) ** steps * distance[0]
    np.testing.assert_allclose(distance, expected, rtol=1e-9, atol=1e-300)


def test_recording_more_often_changes_no_value():
    simulation, key = random_walk(), jax.random.key(3)
    problem = simulation.sample(jax.random.key(1), simulation.setting)
    few = trajectory(simulation, [0, 7, 20])(key, problem, simulation.hyper)["norm"]
    all_steps = trajectory(simulation, range(21))(key, problem, simulation.hyper)["norm"]
    np.testing.assert_array_equal(few, all_steps[np.array([0, 7, 20])])


def test_trajectory_equals_a_plain_loop():
    simulation, key = random_walk(), jax.random.key(3)
    problem = simulation.sample(jax.random.key(1), simulation.setting)
    state = simulation.init(jax.random.fold_in(key, 0), problem, simulation.hyper)
    for t in range(12):
        step_key = jax.random.fold_in(jax.random.fold_in(key, 1), t)
        state = simulation.step(step_key, problem, simulation.hyper, state)
    result = rollout(simulation, 12)(key, problem, simulation.hyper)
    np.testing.assert_allclose(result.state, state, rtol=1e-13)
    np.testing.assert_allclose(result.conclusions["along"][-1], np.sum(state**2), rtol=1e-12)


def test_batched_runs_equal_single_runs():
    simulation = random_walk()
    problem = simulation.sample(jax.random.key(1), simulation.setting)
    run = trajectory(simulation, 15)
    keys = jax.random.split(jax.random.key(5), 6)
    batched = jax.vmap(lambda key: run(key, problem, simulation.hyper))(keys)
    for i, key in enumerate(keys):
        np.testing.assert_allclose(
            batched["norm"][i], run(key, problem, simulation.hyper)["norm"], rtol=1e-13
        )


def test_names_with_an_underscore_are_not_stored():
    simulation = random_walk()
    result = rollout(simulation, 3)(jax.random.key(0), jnp.eye(5), simulation.hyper)
    assert set(result.records) == {"norm", "rows"}
    assert set(result.conclusions) == {"farthest", "along"}


def test_a_run_that_diverges_is_flagged_with_its_step_and_leaves_its_neighbours_alone():
    run = rollout(scalar_descent(), [0, 10, 500, 1000, 2000])
    result = jax.vmap(lambda step: run(jax.random.key(0), 1.0, Hyper(step)))(jnp.array([0.1, 5.0]))
    alone = run(jax.random.key(0), 1.0, Hyper(0.1))
    assert result.status.tolist() == [Status.FINISHED, Status.DIVERGED]
    # |1 - 5|^t passes the largest double, 1.8e308, at step 512.
    assert result.diverged_at.tolist() == [-1, 1000]
    np.testing.assert_array_equal(result.records["distance"][0], alone.records["distance"])


def test_a_metric_that_is_not_finite_and_a_run_that_did_not_converge_are_told_apart():
    base = scalar_descent()
    bad = base._replace(observe=lambda problem, hyper, x: {"distance": jnp.log(x * 0 - 1)})
    unconverged = base._replace(
        conclude=lambda problem, hyper, records, x: {"converged": x < 0, "end": x * x}
    )
    key = jax.random.key(2)
    assert rollout(bad, 3)(key, 1.0, Hyper()).status == Status.NOT_FINITE
    outcome = rollout(unconverged, 3)(key, 1.0, Hyper())
    expected = Status.FINISHED if outcome.state < 0 else Status.NOT_CONVERGED
    assert outcome.status == expected
    assert set(outcome.conclusions) == {"end"}


class Pair(NamedTuple):
    first: Any
    second: Any


@pytest.mark.parametrize(
    ("start", "after", "message"),
    [
        (1.0, lambda x: x * 1j, r"complex128 for a state that init gives as float64"),
        (1, lambda x: x / 2, r"float64 for a state that init gives as int64"),
        (1.0, lambda x: jnp.stack([x, x]), r"float64\[2\] for a state that init gives as float64\[\]"),
        (
            Pair(jnp.ones(2), jnp.ones(2)),
            lambda pair: pair._replace(second=jnp.ones((2, 3))),
            r"float64\[2, 3\] for state\.second, which init gives as float64\[2\]",
        ),
        ({"x": 1.0}, lambda state: {"x": state["x"] * 1j}, r"complex128 for state\['x'\], which init gives"),
        (
            (1.0, 2.0),
            lambda state: state[0],
            r"PyTreeDef\(\*\) for a state that init gives as PyTreeDef\(\(\*, \*",
        ),
        (
            Pair(1.0, 2.0),
            tuple,
            r"PyTreeDef\(\(\*, \*\)\) for a state that init gives as .*namedtuple\[Pair\]",
        ),
    ],
)
def test_a_step_that_gives_something_else_than_a_state_is_told_so_in_one_line(start, after, message):
    odd = scalar_descent()._replace(
        init=lambda key, problem, hyper: start,
        step=lambda key, problem, hyper, state: after(state),
        observe=lambda problem, hyper, state: {},
    )
    with pytest.raises(TypeError, match=f"step gives {message}") as caught:
        trajectory(odd, 3)(jax.random.key(0), 1.0, Hyper())
    assert "\n" not in str(caught.value)


def test_zero_steps_is_a_simulation_of_a_static_object():
    still = Simulation(
        sample=lambda key, setting: 3.0,
        init=lambda key, problem, hyper: (),
        step=lambda key, problem, hyper, state: state,
        observe=lambda problem, hyper, state: {},
        setting=(),
        hyper=(),
        conclude=lambda problem, hyper, records, state: {"square": problem**2},
    )
    assert trajectory(still, 0)(jax.random.key(0), 3.0, ())["square"] == 9.0


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_keys_of_problems_never_meet_keys_of_runs(problem_seed, run_seed):
    root = jax.random.key(0)
    problem = problem_key(root, problem_seed)
    # sample may split or fold its key; none of those may be the key of a run.
    children = {tuple(jax.random.key_data(k).tolist()) for k in jax.random.split(problem, 4)}
    children |= {tuple(jax.random.key_data(jax.random.fold_in(problem, i)).tolist()) for i in range(4)}
    run = tuple(jax.random.key_data(run_key(root, problem_seed, run_seed)).tolist())
    assert run not in children
    assert run != tuple(jax.random.key_data(problem).tolist())
