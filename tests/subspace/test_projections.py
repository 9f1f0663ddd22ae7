"""What every projection owes: exact transposes, its Gram matrix, restriction, the same values however it is run."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import export
from jax.extend.core import jaxprs_in_params
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from theory_sim.subspace import PROJECTIONS, gram_moments, projection_bytes, tensorwise_projection

TENSORS = tensorwise_projection("fastfood", [3, 50, 12])
KINDS = {**PROJECTIONS, "tensorwise": TENSORS}
NESTED = ["dense", "fastfood", "sparse"]
SIZE = (65, 9)


def sizes_of(kind):
    return [SIZE] if kind == "tensorwise" else [(1, 1), SIZE]


@cache
def drawn(kind, size=SIZE, seed=0):
    return jax.jit(lambda key: KINDS[kind](key, *size))(jax.random.key(seed))


@partial(jax.jit, static_argnums=(0, 1))
def both_ways(kind, size, key, dim, x, y):
    return products(KINDS[kind](key, *size), dim, x, y)


@jax.jit
def products(projection, dim, x, y):
    restricted = projection.restricted(dim)
    return restricted.apply(x), restricted.transpose(y)


GRAM = jax.jit(lambda projection, dim: projection.restricted(dim).gram())


def columns(projection, dim):
    return np.stack([products(projection, dim, x, np.zeros(65))[0] for x in np.eye(9)])


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_transpose_is_the_adjoint_in_every_dimension(kind, data, seed, scale):
    size = data.draw(st.sampled_from(sizes_of(kind)))
    dim = data.draw(st.integers(0, size[1]))
    generator = np.random.default_rng(seed)
    x, y = scale * generator.normal(size=size[1]), generator.normal(size=size[0])
    forward, backward = map(np.asarray, both_ways(kind, size, jax.random.key(seed), dim, x, y))
    assert forward.shape == (size[0],)
    assert backward.shape == (size[1],)
    assert abs(forward @ y - x @ backward) < 1e-13 * scale * size[0]
    assert not backward[dim:].any()
    assert forward.any() == (dim > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_gram_is_the_product_of_the_columns(kind):
    projection, dim = drawn(kind), 4
    columns = np.stack([products(projection, dim, x, np.zeros(65))[0] for x in np.eye(9)])
    gram = jax.jit(lambda projection, dim: projection.restricted(dim).gram())(projection, dim)
    np.testing.assert_allclose(gram, columns @ columns.T, atol=1e-13)
    assert not gram[dim:].any()


@pytest.mark.parametrize("kind", NESTED)
def test_a_smaller_projection_is_the_first_columns_of_a_larger_one(kind):
    x, y = np.random.default_rng(0).normal(size=9), np.arange(65.0)
    small, large = drawn(kind, (65, 4)), drawn(kind)
    (forward, backward), wanted = products(large, 4, x, y), products(small, 4, x[:4], y)
    np.testing.assert_allclose(forward, wanted[0], atol=1e-12)
    np.testing.assert_allclose(backward[:4], wanted[1], atol=1e-12)


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_restriction_follows_restriction_and_the_dimension_is_traced(kind):
    projection = drawn(kind)
    x, traces = jnp.arange(1.0, 10.0), []

    @jax.jit
    def restricted(dim):
        traces.append(dim)
        return projection.restricted(dim).apply(x)

    values = [restricted(dim) for dim in range(10)]
    assert len(traces) == 1
    np.testing.assert_array_equal(values[9], jax.jit(projection.apply)(x))
    twice = jax.jit(lambda first, second: projection.restricted(first).restricted(second).apply(x))
    for dims in [(6, 3), (3, 6)]:
        np.testing.assert_allclose(twice(*dims), values[3], atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_the_same_alone_batched_and_spread_over_devices(kind):
    projection = drawn(kind)
    xs, ys = (jax.random.normal(jax.random.key(1), (8, size)) for size in (9, 65))
    dims = jnp.arange(2, 10)
    alone = [products(projection, dim, x, y) for dim, x, y in zip(dims, xs, ys, strict=True)]
    batched = jax.jit(jax.vmap(partial(products.__wrapped__, projection)))
    over_runs = NamedSharding(Mesh(np.asarray(jax.devices()), "runs"), PartitionSpec("runs"))
    for arguments in [(dims, xs, ys), jax.device_put((dims, xs, ys), over_runs)]:
        results = batched(*arguments)
        for i in range(2):
            np.testing.assert_allclose(results[i], np.stack([one[i] for one in alone]), atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_the_same_when_every_run_has_its_own_projection(kind):
    keys, x = jax.random.split(jax.random.key(3), 3), jnp.ones(9)
    together = jax.jit(jax.vmap(lambda key: KINDS[kind](key, 65, 9).apply(x)))(keys)
    for key, values in zip(keys, together, strict=True):
        alone = both_ways(kind, SIZE, key, 9, x, np.zeros(65))[0]
        np.testing.assert_allclose(values, alone, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_through_apply_is_the_transpose(kind):
    projection, y = drawn(kind), jnp.arange(65.0)
    gradient = jax.jit(jax.grad(lambda x: projection.restricted(6).apply(x) @ y))(jnp.ones(9))
    np.testing.assert_allclose(gradient, products(projection, 6, jnp.ones(9), y)[1], atol=1e-12)


@pytest.mark.parametrize(("kind", "ambient"), [*((kind, 48) for kind in PROJECTIONS), ("fastfood", 64)])
def test_gram_moments_follow_the_derivation(kind, ambient):
    draws = 4000
    gram = jax.jit(jax.vmap(lambda key: PROJECTIONS[kind](key, ambient, 4).gram()))
    grams = gram(jax.random.split(jax.random.key(1), draws))
    norms, inner = np.asarray(grams[:, 0, 0]), np.asarray(grams[:, 1, 2])
    predicted = gram_moments(kind, ambient)
    # Fastfood's law is of leading order in 1/D: allow a relative correction besides the sampling error.
    for values, variance, correction in [
        (norms - 1, predicted.norm_variance, 4 / ambient),
        (inner, predicted.inner_product_variance, 2 / ambient),
    ]:
        if variance == 0:
            np.testing.assert_allclose(values, 0, atol=1e-12)
            continue
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(draws)
        error = (values**2).std() / np.sqrt(draws)
        slack = correction * variance if kind == "fastfood" else 0
        assert abs((values**2).mean() - variance) < 4 * error + slack


@pytest.mark.parametrize("kind", PROJECTIONS)
@pytest.mark.parametrize("size", [(199_210, 750), (64, 64), (5, 1)])
@pytest.mark.parametrize("wide", [False, True])
def test_memory_is_predicted_before_a_draw(kind, size, wide):
    with jax.enable_x64(wide):
        leaves = jax.tree.leaves(jax.eval_shape(lambda key: PROJECTIONS[kind](key, *size), jax.random.key(0)))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    assert held == projection_bytes(kind, *size, itemsize=8 if wide else 4)


@pytest.mark.parametrize("kind", [kind for kind in PROJECTIONS if kind != "dense"])
def test_no_product_holds_a_matrix_of_ambient_by_dim(kind):
    ambient, dim = 20_000, 500

    def program(key, x):
        projection = PROJECTIONS[kind](key, ambient, dim)
        return projection.transpose(projection.apply(x)), projection.gram()

    largest = max(sizes_in(jax.make_jaxpr(program)(jax.random.key(0), jnp.ones(dim)).jaxpr))
    assert largest < ambient * dim / 20


def sizes_in(jaxpr):
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from sizes_in(inner)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wide", [False, True])
def test_lowers_for_every_platform(kind, wide):
    with jax.enable_x64(wide):

        def there_and_back(key, x):
            projection = KINDS[kind](key, 65, 5)
            return projection.transpose(projection.apply(x)), projection.gram()

        exported = export.export(jax.jit(there_and_back), platforms=["cpu", "cuda", "tpu"])
        for result in exported(jax.random.key(0), jnp.ones(5)).out_avals:
            assert result.dtype == (jnp.float64 if wide else jnp.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(0, 1), (10, 0), (10, 11)])
def test_sizes_out_of_range_are_refused(kind, size):
    with pytest.raises(
        ValueError, match=r"ambient must be at least 1|dim must lie between 1 and ambient=10, got"
    ):
        KINDS[kind](jax.random.key(0), *size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("restrict", [False, True])
def test_vectors_of_another_length_are_refused(kind, restrict):
    projection = drawn(kind)
    projection = projection.restricted(4) if restrict else projection
    for shape in [(8,), (10,), (1,), (65,), (3, 9)]:
        with pytest.raises(ValueError, match=rf"apply takes d = 9 numbers, got shape \({shape[0]},"):
            projection.apply(jnp.ones(shape))
    for shape in [(64,), (66,), (1,), (9,), (3, 65)]:
        with pytest.raises(ValueError, match=rf"transpose takes D = 65 numbers, got shape \({shape[0]},"):
            jax.jit(projection.transpose)(jnp.ones(shape))
