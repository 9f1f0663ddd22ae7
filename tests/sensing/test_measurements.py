"""The measurement operator: packing, adjointness, isotropy, and its rule for batches."""

from itertools import product

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from theory_sim.sensing import (
    adjoint,
    asymmetric_gd,
    gaussian,
    general_gaussian,
    measure,
    normal_product,
    packed_size,
    symmetric_gd,
    unvech,
    vech,
    with_gram,
)
from theory_sim.simulation import trajectory

SEEDS = st.integers(0, 2**31 - 1)
SHAPES = st.sampled_from([(1, 3), (2, 1), (5, 7), (8, 40)])


def symmetric(seed, *shape):
    matrix = np.random.default_rng(seed).normal(size=shape)
    return matrix + np.swapaxes(matrix, -1, -2)


def dense_matrices(operator):
    """The matrices A_i, `[m, n, n]`, unpacked entry by entry."""
    packed = np.asarray(operator.matrix)
    dim = int(np.sqrt(2 * packed.shape[1]))
    matrices = np.zeros((len(packed), dim, dim))
    entries = [(i, i) for i in range(dim)] + [(i, j) for i in range(dim) for j in range(i + 1, dim)]
    for place, (i, j) in enumerate(entries):
        scale = 1.0 if i == j else np.sqrt(0.5)
        matrices[:, i, j] = matrices[:, j, i] = packed[:, place] * scale
    return matrices


@given(SEEDS, st.sampled_from([1, 2, 5, 20]))
def test_packing_is_an_isometry_and_unpacking_its_inverse(seed, dim):
    first, second = symmetric(seed, 2, dim, dim)
    assert vech(jnp.asarray(first)).shape == (packed_size(dim),)
    np.testing.assert_allclose(vech(jnp.asarray(first)) @ vech(jnp.asarray(second)), np.sum(first * second))
    np.testing.assert_allclose(unvech(vech(jnp.asarray(first))), first, rtol=1e-14)


@given(SEEDS, SHAPES)
def test_packed_products_equal_dense_ones(seed, shape):
    dim, measurements = shape
    operator = gaussian(jax.random.key(seed), dim=dim, measurements=measurements)
    matrices, matrix = dense_matrices(operator), symmetric(seed, dim, dim)
    vector = np.random.default_rng(seed).normal(size=measurements)
    np.testing.assert_allclose(
        measure(operator, jnp.asarray(matrix)), np.einsum("mij,ij->m", matrices, matrix), atol=1e-13
    )
    np.testing.assert_allclose(
        adjoint(operator, jnp.asarray(vector)), np.einsum("m,mij->ij", vector, matrices), atol=1e-13
    )


@given(SEEDS, SHAPES)
def test_adjoint_identity(seed, shape):
    dim, measurements = shape
    operator = gaussian(jax.random.key(seed), dim=dim, measurements=measurements)
    matrix = jnp.asarray(symmetric(seed, dim, dim))
    vector = jax.random.normal(jax.random.key(seed + 1), (measurements,))
    left = jnp.vdot(measure(operator, matrix), vector)
    np.testing.assert_allclose(left, jnp.vdot(matrix, adjoint(operator, vector)), rtol=1e-10, atol=1e-12)


@given(SEEDS, st.sampled_from([(1, 3, 2), (4, 2, 9), (5, 5, 3)]))
def test_general_products_equal_dense_ones_and_are_adjoint(seed, shape):
    rows, cols, measurements = shape
    operator = general_gaussian(jax.random.key(seed), rows=rows, cols=cols, measurements=measurements)
    matrices = np.asarray(operator.matrix).reshape(measurements, rows, cols)
    draw = np.random.default_rng(seed)
    batch, vectors = draw.normal(size=(3, rows, cols)), draw.normal(size=(3, measurements))
    measured = jax.vmap(measure, (None, 0))(operator, jnp.asarray(batch))
    returned = jax.vmap(adjoint, (None, 0))(operator, jnp.asarray(vectors))
    np.testing.assert_allclose(measured, np.einsum("mij,bij->bm", matrices, batch), atol=1e-13)
    np.testing.assert_allclose(returned, np.einsum("bm,mij->bij", vectors, matrices), atol=1e-13)
    np.testing.assert_allclose(measure(operator, jnp.asarray(batch[0])), measured[0], atol=1e-13)
    np.testing.assert_allclose(np.vdot(measured, vectors), np.vdot(batch, returned), rtol=1e-10)


def test_general_operators_are_isotropic():
    """Over operators `||A(M)||^2` of a unit matrix is a chi-square over m: of mean 1 and variance 2/m."""
    left, right = np.random.default_rng(0).normal(size=(2, 400, 6, 1))
    unit = left @ np.swapaxes(right, 1, 2)
    unit = jnp.asarray(unit / np.linalg.norm(unit, axis=(1, 2), keepdims=True))

    def square(key, matrix):
        operator = general_gaussian(key, rows=6, cols=6, measurements=200)
        return jnp.sum(measure(operator, matrix) ** 2)

    squares = np.asarray(jax.vmap(square)(jax.random.split(jax.random.key(0), 400), unit))
    assert abs(squares.mean() - 1) < 4.5 * squares.std() / np.sqrt(400)
    assert squares.std() == pytest.approx(np.sqrt(2 / 200), rel=0.2)


def best_of_rank(matrices, rank, symmetric):
    """The nearest matrices of a rank, symmetric ones of symmetric ones, of unit Frobenius norm."""
    if symmetric:
        values, left = np.linalg.eigh(matrices)
        order = np.argsort(-np.abs(values), axis=1)[:, :rank]
        values, left = (
            np.take_along_axis(values, order, 1),
            np.take_along_axis(left, order[:, None, :], 2),
        )
        right = np.swapaxes(left, 1, 2)
    else:
        left, values, right = np.linalg.svd(matrices)
    near = (left[..., :rank] * values[:, None, :rank]) @ right[:, :rank]
    return near / np.linalg.norm(near, axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("packed", [False, True], ids=["general", "symmetric"])
@pytest.mark.parametrize(("rank", "measurements"), [(1, 800), (3, 800), (3, 3200)])
def test_one_operator_is_nearly_isometric_on_all_matrices_of_low_rank(packed, rank, measurements):
    """The supremum of `| ||A(M)||^2 / ||M||_F^2 - 1 |`: random starts, then ascent and descent of the quotient.

    By Gordon's theorem `| ||A(M)|| - 1 | <= (w + t)/sqrt(m)` for all M at once, but for a chance of `2 exp(-t^2/2)`,
    8e-5 here, where `w = E ||G||_(r) <= sqrt(r) E ||G||` is the width of the unit matrices of rank r:
    `2 sqrt(n r)` for general ones and `sqrt(2 n r)` for symmetric ones.
    """
    dim, draw = 16, np.random.default_rng(rank)
    key = jax.random.key(rank)
    if packed:
        operator = gaussian(key, dim=dim, measurements=measurements)
    else:
        operator = general_gaussian(key, rows=dim, cols=dim, measurements=measurements)
    table = np.asarray(jax.vmap(lambda entry: measure(operator, entry))(basis_of(dim, packed)))
    gram = table @ table.T
    elements = np.asarray(basis_of(dim, packed)).reshape(len(gram), -1)

    def normal(matrices):
        coordinates = matrices.reshape(len(matrices), -1) @ elements.T
        return (coordinates @ gram @ elements).reshape(matrices.shape)

    start = draw.normal(size=(200, dim, rank))
    other = start * draw.choice([-1, 1], size=rank) if packed else draw.normal(size=(200, dim, rank))
    start = best_of_rank(start @ np.swapaxes(other, 1, 2), rank, packed)
    found = [np.abs(np.sum(start * normal(start), axis=(1, 2)) - 1)]
    for sign in (1, -1):
        matrices = start[:30]
        for _ in range(40):
            # Projected power iterations of `A*A`, and of 2 - `A*A`: the shift keeps the least ones ahead.
            matrices = best_of_rank((1 - sign) * matrices + sign * normal(matrices), rank, packed)
        found.append(np.abs(np.sum(matrices * normal(matrices), axis=(1, 2)) - 1))
    width = np.sqrt((2 if packed else 4) * dim * rank)
    share = (width + 4.5) / np.sqrt(measurements)
    largest = np.max(np.concatenate(found))
    assert largest < (1 + share) ** 2 - 1
    # Far above what one matrix deviates by, and of the order of the bound: this is a supremum.
    assert largest > 2 * np.max(found[0])
    assert largest > width / np.sqrt(measurements)


def basis_of(dim, packed):
    """An orthonormal basis of the matrices that an operator measures."""
    if not packed:
        return jnp.eye(dim * dim).reshape(-1, dim, dim)
    return jax.vmap(unvech)(jnp.eye(packed_size(dim)))


def test_normal_operator_is_the_identity_in_expectation():
    matrix = jnp.asarray(symmetric(0, 4, 4))

    def normal(key):
        operator = gaussian(key, dim=4, measurements=3)
        return adjoint(operator, measure(operator, matrix))

    draws = np.asarray(jax.vmap(normal)(jax.random.split(jax.random.key(1), 4000)))
    scores = (draws.mean(0) - matrix) / (draws.std(0) / np.sqrt(len(draws)))
    # Ten independent entries: |z| > 4.5 has probability 7e-5 if the mean is right.
    assert np.abs(scores).max() < 4.5


def test_dense_entries_have_the_variances_of_the_symmetric_convention():
    draws = dense_matrices(gaussian(jax.random.key(0), dim=3, measurements=20_000)) * np.sqrt(20_000)
    assert draws[:, 0, 0].var() == pytest.approx(1.0, abs=5 * np.sqrt(2 / 20_000))
    assert draws[:, 0, 1].var() == pytest.approx(0.5, abs=5 * 0.5 * np.sqrt(2 / 20_000))


def test_population_operator_measures_a_matrix_as_itself():
    matrix = jnp.asarray(symmetric(0, 3, 3))
    assert measure(None, matrix) is matrix
    assert adjoint(None, matrix) is matrix


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("function", [measure, adjoint, normal_product])
def test_every_batch_equals_a_loop(function, axes):
    given = batch_of(function, (3,))

    def part(x, axis, i):
        return jax.tree.map(lambda leaf: leaf[i if axis == 0 else 0], x)

    whole = map(part, given, axes, [slice(None)] * 2)
    batched = jax.jit(jax.vmap(function, axes))(*whole)
    for i in range(3):
        np.testing.assert_allclose(batched[i], function(*map(part, given, axes, [i] * 2)), atol=1e-13)


@pytest.mark.parametrize("function", [measure, adjoint, normal_product])
@pytest.mark.parametrize("axes", list(product([(0, None), (None, 0), (0, 0)], repeat=2)), ids=str)
def test_nested_batches_equal_a_loop(function, axes):
    outer, inner = axes
    operators, arguments = batch_of(function, (2, 3))

    def part(tree, which, i, j):
        """Element (i, j), where the axes that are not mapped have element 0 alone."""
        return jax.tree.map(lambda x: x[i if outer[which] == 0 else 0, j if inner[which] == 0 else 0], tree)

    whole = slice(None)
    given = part(operators, 0, whole, whole), part(arguments, 1, whole, whole)
    batched = jax.vmap(jax.vmap(function, inner), outer)(*given)
    for i, j in product(range(2), range(3)):
        alone = function(part(operators, 0, i, j), part(arguments, 1, i, j))
        np.testing.assert_allclose(batched[i, j], alone, atol=1e-13)


def test_forward_derivative_of_a_batch_is_the_linear_map_itself():
    operator = gaussian(jax.random.key(0), dim=4, measurements=6)
    matrices = jnp.asarray(symmetric(0, 3, 4, 4))
    many = jax.vmap(lambda matrix: measure(operator, matrix))
    _, derivative = jax.jvp(many, (matrices,), (matrices,))
    np.testing.assert_allclose(derivative, many(matrices), atol=1e-13)


def test_a_packed_operator_has_half_the_bytes_and_keeps_them_in_a_program():
    size = {"dim": 40, "measurements": 100}
    packed = jax.tree.leaves(gaussian(jax.random.key(0), **size))
    general = jax.tree.leaves(general_gaussian(jax.random.key(0), rows=40, cols=40, measurements=100))
    assert [leaf.nbytes for leaf in packed] == [100 * 820 * 8] * 2
    assert [leaf.nbytes for leaf in general] == [100 * 1600 * 8] * 2
    matrix = jnp.eye(40)
    memory = jax.jit(measure).lower(gaussian(jax.random.key(0), **size), matrix).compile().memory_analysis()
    assert memory.argument_size_in_bytes <= 2 * 100 * 820 * 8 + matrix.nbytes + 1024
    # No unpacked copy.
    assert memory.temp_size_in_bytes < 100 * 820 * 8 / 4


@pytest.mark.parametrize("form", ["symmetric", "asymmetric"])
def test_a_run_more_takes_no_array_of_the_operators_size(form):
    """Of one problem: what a program needs for 16 runs beyond what it needs for 8, from the compiler's own account."""
    dim, measurements, ranks = 24, 600, {"true_rank": 2, "max_rank": 4, "measurements": 600}
    simulation = (
        symmetric_gd(dim=dim, **ranks) if form == "symmetric" else asymmetric_gd(rows=dim, cols=dim, **ranks)
    )
    run = trajectory(simulation, [0, 5, 10])
    problem = simulation.sample(jax.random.key(0), simulation.setting)

    def temporary(count):
        keys = jax.random.split(jax.random.key(1), count)
        many = jax.jit(jax.vmap(lambda key, problem: run(key, problem, simulation.hyper), (0, None)))
        return many.lower(keys, problem).compile().memory_analysis().temp_size_in_bytes

    each = (temporary(16) - temporary(8)) / 8
    # A run has its residuals, its estimate and their likes: far from m n^2 numbers, or half of them if packed.
    assert each < 8 * measurements * dim**2 / 20
    assert each < 8 * 20 * (measurements + dim**2)


@pytest.mark.parametrize(("dim", "measurements", "name"), [(0, 3, "dim"), (3, 0, "measurements")])
def test_sizes_below_one_are_refused(dim, measurements, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        gaussian(jax.random.key(0), dim=dim, measurements=measurements)
    if name == "measurements":
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            general_gaussian(jax.random.key(0), rows=dim, cols=dim, measurements=measurements)


def test_sizes_that_are_no_whole_numbers_are_refused():
    with pytest.raises(ValueError, match=r"^measurements must be a whole number, got 2.5$"):
        gaussian(jax.random.key(0), dim=3, measurements=2.5)
    with pytest.raises(ValueError, match=r"^rows must be a whole number, got 3.0$"):
        general_gaussian(jax.random.key(0), rows=3.0, cols=3, measurements=2)
    assert gaussian(jax.random.key(0), dim=np.int64(3), measurements=2).matrix.shape == (2, 6)


def batch_of(function, sizes):
    """Operators and arguments for them, with leading axes of these sizes."""
    operator_keys, argument_keys = (jax.random.split(jax.random.key(seed), sizes) for seed in (0, 1))

    def draw_operator(key):
        operator = gaussian(key, dim=4, measurements=6)
        return with_gram(operator) if function is normal_product else operator

    def draw_argument(key):
        square = jax.random.normal(key, (4, 4))
        return jax.random.normal(key, (6,)) if function is adjoint else square + square.T

    for _ in sizes:
        draw_operator, draw_argument = jax.vmap(draw_operator), jax.vmap(draw_argument)
    return draw_operator(operator_keys), draw_argument(argument_keys)
