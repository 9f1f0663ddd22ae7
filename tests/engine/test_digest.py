"""The digest of a computation: the same whatever the process did before, another for every other formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.engine.digest import digest
from theory_sim.engine.inspection import inspect
from theory_sim.simulation import Simulation


def traced(function, *arguments):
    return digest([jax.make_jaxpr(function)(*(arguments or (1.0, 2.0)))], [])


def twice(x, y, *, between=lambda: None):
    first = jnp.linalg.norm(jnp.where(x > 0, jnp.stack([x, y]), 0.0))
    between()
    return first + jnp.linalg.norm(jnp.where(y > 0, jnp.stack([y, x]), 0.0))


def test_functions_that_left_the_cache_of_traces_do_not_change_it():
    def forgetful(x, y):
        return twice(x, y, between=jax.clear_caches)

    jax.clear_caches()
    shared, apart = (jax.make_jaxpr(function)(1.0, 2.0) for function in (twice, forgetful))
    assert str(shared) != str(apart)  # what makes the text no digest
    assert digest([shared], []) == digest([apart], [])


def test_names_do_not_change_it():
    def shift(x, y):
        return jax.jit(lambda a: a + 1)(x) * y

    def other(first, second):
        def anything(value):
            return value + 1

        return jax.jit(anything)(first) * second

    assert traced(shift) == traced(other)


TABLE = np.arange(300.0)
LOOPS = [lambda i, c: c + i, lambda i, c: c - i]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x, y: x - y, lambda x, y: y - x),
        (lambda x, y: x + 1.0 * y, lambda x, y: x + 1.5 * y),
        (lambda x, y: (x, y), lambda x, y: (y, x)),
        (lambda x, y: jnp.exp(x) * y, lambda x, y: jnp.exp(y) * x),
        (lambda x, y: x * y, lambda x, y: x + y),
        (lambda x, y: (x + y) * (x - y) + x, lambda x, y: (x + y) * (x - y) + y),
        (lambda x, y: y * jnp.asarray(TABLE)[:2], lambda x, y: y * jnp.asarray(TABLE)[1:3]),
        (lambda x, y: jnp.dot(TABLE, TABLE * x), lambda x, y: jnp.dot(TABLE, (TABLE + 1) * x)),
        (
            lambda x, y: jax.lax.fori_loop(0, 3, LOOPS[0], x),
            lambda x, y: jax.lax.fori_loop(0, 3, LOOPS[1], x),
        ),
        (lambda x, y: jax.nn.relu(x), lambda x, y: jax.nn.silu(x)),
        (
            lambda x, y: jax.lax.cond(x > 0, jnp.sin, jnp.cos, y),
            lambda x, y: jax.lax.cond(x > 0, jnp.cos, jnp.sin, y),
        ),
        (
            lambda x, y: jax.random.normal(jax.random.key(1)) * x,
            lambda x, y: jax.random.normal(jax.random.key(2)) * x,
        ),
    ],
)
def test_another_computation_has_another(one, other):
    assert traced(one) != traced(other)


def test_variables_are_told_apart_in_long_computations():
    """Two of many values swapped at the end, each choice another computation."""

    def chain(pick):
        def function(x, y):
            values = [x, y]
            for _ in range(6):
                values += jnp.split(jnp.stack([values[-1] + 1, values[-2] * 2]), 2)
                values[-2:] = [values[-2][0], values[-1][0]]
            return values[pick] - y

        return traced(function)

    assert len({chain(pick) for pick in range(14)}) == 14


def test_data_bound_into_a_simulation_count():
    def simulation(data):
        return Simulation(
            sample=jax.tree_util.Partial(lambda data, key, setting: data, data),
            init=lambda key, problem, hyper: jnp.zeros(()),
            step=lambda key, problem, hyper, state: state + problem.sum(),
            observe=lambda problem, hyper, state: {"state": state},
            setting=(),
            hyper=(),
        )

    found = [inspect(simulation(np.arange(3.0) + shift), np.arange(2)).digest for shift in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
