"""The separation of points from the origin: both bounds, and the linear algebra that it stands on."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings

from theory_sim.attention.interior_point import separate
from theory_sim.attention.nuclear import separate_rank_one
from theory_sim.decompositions import (
    cholesky,
    covering_rows,
    forward_substitution,
    solve_cholesky,
    span_basis,
)

SEEDS = st.integers(0, 2**31 - 1)
SIZE = 17


def check(found, combined, margins, dual_norm):
    """A direction in the unit ball and multipliers in the simplex, with the bounds that belong to them."""
    assert found.multipliers.sum() == pytest.approx(1)
    assert found.multipliers.min() >= 0
    assert dual_norm(combined) == pytest.approx(float(found.distance), abs=1e-12)
    assert max(margins.min(), 0) == pytest.approx(float(found.margin), abs=1e-12)


@settings(max_examples=15)
@given(SEEDS, st.sampled_from([0.0, 0.3, 3.0]), st.sampled_from([1e-6, 1.0, 1e6]))
def test_euclidean_bounds_meet(seed, shift, scale):
    points = scale * (np.random.default_rng(seed).normal(size=(6, 4)) + shift)
    found = jax.jit(separate)(points)
    unit = found._replace(margin=found.margin / scale, distance=found.distance / scale)
    check(unit, found.multipliers @ points / scale, points @ found.direction / scale, np.linalg.norm)
    assert np.linalg.norm(found.direction) <= 1 + 1e-12
    assert 0 <= unit.distance - unit.margin <= 1e-7
    if unit.margin > 1e-3:
        assert unit.margin / unit.distance > 1 - 1e-11


@settings(max_examples=10)
@given(SEEDS, st.sampled_from([0.0, 1.0]))
def test_nuclear_bounds_meet(seed, shift):
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(6, 3)) + shift, rng.normal(size=(6, 2)) + shift
    found = jax.jit(separate_rank_one)(left, right)
    combined = np.einsum("k,kp,kq->pq", found.multipliers, left, right)
    margins = np.einsum("kp,pq,kq->k", left, found.direction, right)
    norm = np.linalg.norm(combined, 2)
    assert norm * (1 - 1e-12) <= found.distance <= norm + 1e-9  # a bound, which a Cholesky factor has proved
    check(found._replace(distance=norm), combined, margins, lambda matrix: np.linalg.norm(matrix, 2))
    assert np.linalg.norm(found.direction, "nuc") <= 1 + 1e-9
    assert 0 <= found.distance - found.margin <= 1e-7


def test_float32_has_its_precision():
    with jax.enable_x64(False):
        rng = np.random.default_rng(0)
        left, right = (jnp.asarray(rng.normal(size=(6, 3)) + 1, jnp.float32) for _ in range(2))
        for found in (jax.jit(separate)(left), jax.jit(separate_rank_one)(left, right)):
            assert found.margin.dtype == jnp.float32
            assert 0 < found.margin <= found.distance * (1 + 1e-5)
            assert found.margin / found.distance > 0.97


@settings(max_examples=10)
@given(SEEDS, st.sampled_from([1e-8, 1e-2, 1.0]))
def test_cholesky_is_scipys_and_solves(seed, ridge):
    rng = np.random.default_rng(seed)
    half, right = rng.normal(size=(SIZE, SIZE)), rng.normal(size=(SIZE, 3))
    matrix = half @ half.T + ridge * np.eye(SIZE)
    factor = jax.jit(jax.vmap(cholesky))(matrix[None])[0]
    np.testing.assert_allclose(factor.T @ factor, matrix, atol=1e-12 * np.linalg.norm(matrix))
    np.testing.assert_array_equal(factor, np.triu(factor))
    half_way = jax.jit(forward_substitution)(factor, right)
    np.testing.assert_allclose(factor.T @ half_way, right, atol=1e-8)
    expected = scipy.linalg.cho_solve((np.asarray(factor), False), right)
    np.testing.assert_allclose(jax.jit(solve_cholesky)(factor, right), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("bad", [0, 9, SIZE - 1])
def test_cholesky_says_in_its_last_entry_that_a_matrix_is_not_definite(bad):
    indefinite = np.diag(np.where(np.arange(SIZE) == bad, -1.0, 1.0))
    assert np.isnan(cholesky(jnp.asarray(indefinite))[-1, -1])


@pytest.mark.parametrize("rank", [0, 1, 3, 5])
def test_bases_span_the_rows_whatever_their_rank(rank):
    rng = np.random.default_rng(rank)
    rows = rng.normal(size=(5, rank)) @ rng.normal(size=(rank, 8))
    covering = np.asarray(jax.jit(covering_rows)(rows))
    np.testing.assert_allclose(covering @ covering.T, np.eye(5), atol=1e-13)
    np.testing.assert_allclose(rows @ covering.T @ covering, rows, atol=1e-12)
    basis = np.asarray(jax.jit(span_basis)(rows))
    assert np.linalg.matrix_rank(basis) == rank == np.sum(np.any(basis, axis=1))
    np.testing.assert_allclose(rows @ basis.T @ basis, rows, atol=1e-12)
    # Rows that repeat leave rounding errors of rounding errors: the squares of some underflow.
    repeated = np.asarray(jax.jit(covering_rows)(np.repeat(rng.normal(size=(1, 20)), 15, axis=0)))
    np.testing.assert_allclose(repeated @ repeated.T, np.eye(15), atol=1e-13)
