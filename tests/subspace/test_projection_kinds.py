"""Each projection against its own definition: explicit matrices, counts of entries and of loads, blocks of tensors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from theory_sim.subspace import (
    dense_projection,
    fastfood_projection,
    hadamard_transform,
    one_hot_projection,
    projection_bytes,
    sparse_projection,
    tensorwise_projection,
)
from theory_sim.subspace.sparse import column_entries


@jax.jit
def image_of(projection, x):
    return jax.vmap(projection.apply)(x)


def matrix(projection, dim):
    return np.asarray(image_of(projection, jnp.eye(dim))).T


def drawn(draw, *arguments, seed=0, **options):
    return jax.jit(lambda key: draw(key, *arguments, **options))(jax.random.key(seed))


@pytest.mark.parametrize("draw", [dense_projection, sparse_projection, one_hot_projection])
@pytest.mark.parametrize("size", [(1, 1), (7, 3)])
def test_columns_have_unit_norm(draw, size):
    norms = np.linalg.norm(matrix(drawn(draw, *size), size[1]), axis=0)
    np.testing.assert_allclose(norms, 1, rtol=1e-14)


@pytest.mark.parametrize("bits", [0, 1, 5, 7, 11])
def test_hadamard_transform_is_sylvesters_matrix(bits):
    size = 2**bits
    x = np.random.default_rng(bits).normal(size=size)
    np.testing.assert_allclose(
        hadamard_transform(jnp.asarray(x)), scipy.linalg.hadamard(size) @ x, atol=1e-10
    )


def test_hadamard_refuses_other_sizes():
    with pytest.raises(ValueError, match="power of two, got size 12"):
        hadamard_transform(jnp.ones(12))


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (300, 40)])
def test_fastfood_is_the_explicit_product_of_its_factors(size):
    ambient, dim = size
    p = drawn(fastfood_projection, ambient, dim)
    big = 1 << (ambient - 1).bit_length()
    hadamard = scipy.linalg.hadamard(big).astype(float)
    gaussian = np.asarray(p.gaussians)
    signs = np.ones(big)
    signs[:dim] = p.signs
    shuffle = np.eye(big)[np.asarray(p.permutation)]
    whole = hadamard @ np.diag(gaussian) @ shuffle @ hadamard @ np.diag(signs)
    whole /= np.sqrt(big * np.sum(gaussian**2)) * np.sqrt(ambient / big)
    np.testing.assert_allclose(matrix(p, dim), whole[:ambient, :dim], atol=1e-12)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(p.transpose))(jnp.eye(ambient)), whole[:ambient, :dim], atol=1e-12
    )


def test_sparse_entries_are_signs_at_independent_places():
    ambient, dim = 400, 400
    p = drawn(sparse_projection, ambient, dim)
    values = np.asarray(p.values)
    counts = (values != 0).sum(axis=1)
    law = scipy.stats.binom(ambient, 1 / 20)
    assert abs(counts.mean() - law.mean()) < 4 * law.std() / np.sqrt(dim)
    spread = np.sqrt(((counts - counts.mean()) ** 2).var() / dim)
    assert abs(counts.var() - law.var()) < 4 * spread
    # Equal entries of a column, and signs and rows without preference.
    np.testing.assert_allclose(np.abs(values), np.where(values != 0, 1 / np.sqrt(counts)[:, None], 0))
    assert abs(np.sign(values).sum()) < 4 * np.sqrt(counts.sum())
    rows = np.asarray(p.positions)[values != 0]
    assert scipy.stats.chisquare(np.bincount(rows, minlength=ambient)).pvalue > 1e-3
    # No row twice: padding alone repeats one.
    kept = np.where(values != 0, p.positions, ambient + np.arange(values.shape[1]))
    assert all(len(set(column)) == len(column) for column in kept)


def test_sparse_layers_have_densities_of_their_own_and_equal_energy_per_row():
    sizes = [100, 900]
    p = drawn(sparse_projection, 1000, 1000, sizes=sizes)
    dense = matrix(p, 1000)
    present = dense != 0
    for part, size in ((slice(100), 100), (slice(100, None), 900)):
        # A count over all columns: binomial with density 1/sqrt(size).
        density, cells = 1 / np.sqrt(size), size * 1000
        assert abs(present[part].sum() - density * cells) < 4 * np.sqrt(density * cells)
    energy = (dense[:100] ** 2).sum(axis=0)
    # Before the joint normalisation the energies have ratio 1 : 9, with relative spread 1/sqrt(10) and 1/sqrt(30).
    assert abs(energy.mean() - 0.1) < 4 * energy.std() / np.sqrt(1000) + 0.1 * 0.9 * 0.1
    for wrong in ([100, 800], [0, 1000], []):
        with pytest.raises(ValueError, match="sizes must be positive and sum to ambient=1000"):
            sparse_projection(jax.random.key(0), 1000, 3, sizes=wrong)


@pytest.mark.parametrize("size", [1, 7, 1000, 199_210])
def test_sparse_columns_hardly_ever_need_more_places(size):
    assert scipy.stats.binom(size, 1 / np.sqrt(size)).sf(column_entries(size)) < 1e-8


ONE_HOT = [
    jax.jit(partial(one_hot_projection, ambient=83, dim=30, signed=signed)) for signed in (False, True)
]


@given(seed=st.integers(0, 2**31), dim=st.integers(1, 30), signed=st.booleans())
def test_one_hot_is_balanced_and_isometric_for_every_dimension(seed, dim, signed):
    p = ONE_HOT[signed](jax.random.key(seed)).restricted(dim)
    order, signs = np.asarray(p.order), 1 if p.signs is None else np.asarray(p.signs)
    loads = np.bincount(order % dim, minlength=30)
    assert set(loads[:dim]) <= {83 // dim, -(-83 // dim)}
    np.testing.assert_array_equal(p.loads(), loads)
    explicit = np.zeros((83, 30))
    explicit[np.arange(83), order % dim] = signs / np.sqrt(loads[order % dim])
    x = np.random.default_rng(seed).normal(size=30)
    np.testing.assert_allclose(image_of(p, x[None])[0], explicit @ x, atol=1e-14)
    np.testing.assert_allclose((explicit.T @ explicit)[:dim, :dim], np.eye(dim), atol=1e-14)
    np.testing.assert_allclose(p.gram(), explicit.T @ explicit, atol=1e-14)
    assert (signed and dim > 1) <= (np.min(explicit) < 0)


def test_one_hot_assignments_are_uniform_among_the_balanced():
    keys = jax.random.split(jax.random.key(2), 6000)
    columns = np.asarray(jax.jit(jax.vmap(lambda key: one_hot_projection(key, 4, 2).order % 2))(keys))
    codes = np.bincount(columns @ [8, 4, 2, 1], minlength=16)
    balanced = [code for code in range(16) if code.bit_count() == 2]
    assert codes.sum() == codes[balanced].sum()
    assert scipy.stats.chisquare(codes[balanced]).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["dense", "fastfood"])
def test_a_projection_for_each_tensor_has_columns_of_root_m(kind):
    sizes, dim = [40, 300, 25], 20
    p = drawn(tensorwise_projection(kind, sizes), 365, dim)
    whole = matrix(p, dim)
    bounds = np.cumsum([0, *sizes])
    for part, start, stop in zip(p.parts, bounds, bounds[1:], strict=False):
        np.testing.assert_allclose(whole[start:stop], matrix(part, dim), atol=1e-15)
    squares = (whole**2).sum(axis=0)
    if kind == "fastfood":  # its variance is that of gram_moments, summed over the tensors
        variance = sum(2 * (1 / size - 1 / (1 << (size - 1).bit_length())) for size in sizes)
        assert abs(squares.mean() - 3) < 4 * np.sqrt(variance / dim)
    else:
        np.testing.assert_allclose(squares, 3, rtol=1e-13)
    np.testing.assert_array_equal(p.spread(jnp.arange(1.0, 4)), np.repeat([1.0, 2, 3], sizes))


def test_a_tensor_smaller_than_the_subspace_still_meets_every_coordinate():
    p = drawn(tensorwise_projection("fastfood", [10, 100]), 110, 30)
    of_bias = matrix(p.parts[0], 30)
    assert of_bias.shape == (10, 30)
    assert p.parts[0].gaussians.size == 32
    assert np.all(np.linalg.norm(of_bias, axis=0) > 0.2)


def test_one_hot_tensors_smaller_than_the_subspace_leave_columns_out():
    p = drawn(tensorwise_projection("one_hot", [10, 100]), 110, 30)
    of_bias = matrix(p.parts[0], 30)
    np.testing.assert_allclose(of_bias.sum(axis=1), 1)
    assert ((of_bias**2).sum(axis=0) == 0).sum() == 20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tensorwise_projection("dens", [3]), "unknown projection 'dens', expected one of"),
        (
            lambda: tensorwise_projection("dense", [3, 0]),
            r"one positive number for each tensor, got \[3, 0\]",
        ),
        (lambda: tensorwise_projection("dense", []), r"one positive number for each tensor, got \[\]"),
        (lambda: tensorwise_projection("dense", [3])(jax.random.key(0), 4, 2), "must sum to ambient=4"),
        (lambda: projection_bytes("dens", 10, 2), "unknown projection 'dens'"),
        (
            lambda: projection_bytes("dense", 10, 2, structure="tensor"),
            "unknown structure 'tensor', expected whole",
        ),
        (lambda: projection_bytes("dense", 10, 2, structure="tensors"), "must sum to ambient=10, got None"),
        (lambda: projection_bytes("sparse", 10, 2, sizes=[4, 5]), r"must sum to ambient=10, got \[4, 5\]"),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
