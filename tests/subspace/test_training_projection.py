"""The projection that training draws: its floating type, its density by tensor, and the memory it holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from theory_sim.subspace import MLP, PROJECTIONS, projection_bytes, subspace_training


def small_data():
    draw = np.random.default_rng(0)
    (train_x, train_y), (test_x, test_y) = (
        (draw.normal(size=(count, 4)), np.resize(np.arange(3), count)) for count in (50, 20)
    )
    return train_x, train_y, test_x, test_y


def test_the_data_and_a_dense_matrix_are_held_and_drawn_in_the_type_asked_for():
    simulation = subspace_training(MLP([5, 3]), small_data(), max_dim=8, dtype="float32")
    sets = [simulation.step.args[0], *simulation.observe.args[0]]
    assert {examples.x.dtype for examples in sets} == {jnp.dtype("float32")}
    drawn = jax.make_jaxpr(lambda key: simulation.sample(key, simulation.setting))(jax.random.key(0))
    ambient = 4 * 5 + 5 + 5 * 3 + 3
    assert not [size for size, dtype in arrays_in(drawn.jaxpr) if dtype == "float64" and size >= ambient * 8]
    wide = subspace_training(MLP([5, 3]), small_data(), max_dim=8, dtype="float64")
    drawn = jax.make_jaxpr(lambda key: wide.sample(key, wide.setting))(jax.random.key(0))
    assert [size for size, dtype in arrays_in(drawn.jaxpr) if dtype == "float64" and size >= ambient * 8]


def arrays_in(jaxpr):
    for equation in jaxpr.eqns:
        yield from ((variable.aval.size, str(variable.aval.dtype)) for variable in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from arrays_in(inner)


def test_a_sparse_projection_has_the_density_of_each_tensor_in_training():
    model, dim = MLP([10, 10, 3]), 60
    simulation = subspace_training(model, small_data(), max_dim=dim, projection="sparse")
    problem = jax.jit(lambda key: simulation.sample(key, simulation.setting))(jax.random.key(0))
    tree = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4)))["params"]
    sizes = [leaf.size for leaf in jax.tree.leaves(tree)]
    positions = np.asarray(problem.positions)[np.asarray(problem.values) != 0]
    tensor = np.searchsorted(np.cumsum(sizes), positions, side="right")
    # Entries of all columns: binomial with mean sqrt(D_i) a column.
    means = dim * np.sqrt(sizes)
    assert np.all(np.abs(np.bincount(tensor, minlength=len(sizes)) - means) < 4 * np.sqrt(means) + 1)
    of_one_density = dim * np.asarray(sizes) / np.sqrt(sum(sizes))
    assert np.any(np.abs(of_one_density - means) > 8 * np.sqrt(means))


@pytest.mark.parametrize("kind", PROJECTIONS)
@pytest.mark.parametrize("structure", ["whole", "tensors", "scaled_tensors"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_memory_of_a_projection_in_training_is_predicted(kind, structure, dtype):
    model = MLP([5, 3])
    simulation = subspace_training(
        model, small_data(), max_dim=12, projection=kind, structure=structure, dtype=dtype
    )
    problem = jax.jit(lambda key: simulation.sample(key, simulation.setting))(jax.random.key(0))
    tree = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4)))["params"]
    sizes = [leaf.size for leaf in jax.tree.leaves(tree)]
    options = {"itemsize": jnp.dtype(dtype).itemsize, "sizes": sizes, "structure": structure}
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(problem))
    assert held == projection_bytes(kind, sum(sizes), 12, **options)
