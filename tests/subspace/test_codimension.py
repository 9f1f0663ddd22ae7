"""The problem of known codimension: least squares, the Beta law, the threshold, and the reduced dynamics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from jax import export

from theory_sim.simulation import trajectory
from theory_sim.subspace import (
    PROJECTIONS,
    codimension_toy,
    compression,
    dense_projection,
    gram_moments,
    mlp_parameter_count,
    reachable_loss_law,
)

TOY = codimension_toy(ambient=60, groups=6, max_dim=9)


@jax.jit
def conclusions(key, dim, initial_scale):
    problem = TOY.sample(key, TOY.setting)
    hyper = TOY.hyper._replace(dim=dim, initial_scale=initial_scale)
    return trajectory(TOY, [0])(jax.random.fold_in(key, 1), problem, hyper)


@given(seed=st.integers(0, 2**31), dim=st.integers(0, 9), scale=st.sampled_from([0.0, 1.0]))
def test_best_loss_is_that_of_numpy_least_squares(seed, dim, scale):
    key = jax.random.key(seed)
    got = conclusions(key, dim, scale)
    matrix = np.asarray(dense_projection(key, 60, 9).rows).T[:, :dim]
    init_key = jax.random.fold_in(jax.random.fold_in(key, 1), 0)
    theta_0 = scale * np.asarray(jax.random.normal(init_key, (60,)))
    groups = np.repeat(np.eye(6), 10, axis=1)
    wanted = np.arange(1, 7) - groups @ theta_0
    solution = np.linalg.lstsq(groups @ matrix, wanted, rcond=None)[0]
    best = np.mean((groups @ matrix @ solution - wanted) ** 2)
    np.testing.assert_allclose(got["best_loss"], best, rtol=1e-8, atol=1e-20)
    np.testing.assert_allclose(got["best_ratio"], best / np.mean(wanted**2), rtol=1e-8, atol=1e-20)
    np.testing.assert_allclose(got["loss"][0], np.mean(wanted**2), rtol=1e-12)


@pytest.mark.parametrize(("projection", "dim"), [("dense", 4), ("fastfood", 9)])
def test_training_on_the_group_sums_is_training_on_all_coordinates(projection, dim):
    toy = codimension_toy(ambient=60, groups=6, max_dim=9, projection=projection)
    key = jax.random.key(3)
    problem = toy.sample(key, toy.setting)
    measured = jax.jit(trajectory(toy, [0, 1, 20]))(key, problem, toy.hyper._replace(dim=dim))["loss"]
    full = PROJECTIONS[projection](key, 60, 9)

    @jax.jit
    def loss(z):
        theta = full.apply(jnp.where(jnp.arange(9) < dim, z, 0))
        return jnp.mean((theta.reshape(6, 10).sum(axis=1) - jnp.arange(1, 7)) ** 2)

    rule = optax.adam(0.5, b1=0.9, b2=0.99)

    @jax.jit
    def advance(z, memory):
        update, memory = rule.update(jax.grad(loss)(z), memory)
        return z + update, memory

    z = jnp.zeros(9)
    memory, losses = rule.init(z), [loss(z)]
    for _ in range(20):
        z, memory = advance(z, memory)
        losses.append(loss(z))
    np.testing.assert_allclose(measured, np.asarray(losses)[[0, 1, 20]], rtol=1e-9)


def test_initial_loss_is_the_published_one():
    toy = codimension_toy()
    start = trajectory(toy, [0])(jax.random.key(0), toy.sample(jax.random.key(0), toy.setting), toy.hyper)
    np.testing.assert_allclose(start["loss"], 38.5)


@pytest.mark.parametrize(("codimension", "dim"), [(2, 1), (5, 2), (10, 1), (10, 5), (10, 9), (20, 7)])
def test_law_is_that_of_least_squares_in_numpy(codimension, dim):
    generator = np.random.default_rng(dim)
    columns = generator.normal(size=(3000, codimension, dim))
    target = np.arange(1, codimension + 1.0)
    basis = np.linalg.qr(columns)[0]
    missed = target - np.einsum("nkd,njd,j->nk", basis, basis, target)
    ratio = np.sum(missed**2, axis=1) / np.sum(target**2)
    law = reachable_loss_law(codimension, dim)
    assert scipy.stats.kstest(ratio, law.cdf).pvalue > 1e-3
    assert scipy.stats.kstest(ratio, reachable_loss_law(2 * codimension, dim).cdf).pvalue < 1e-9
    np.testing.assert_allclose(law.mean(), 1 - dim / codimension)
    variance = 2 * dim * (codimension - dim) / (codimension**2 * (codimension + 2))
    np.testing.assert_allclose(law.var(), variance)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_simulated_ratios_follow_the_law(scale):
    keys = jax.random.split(jax.random.key(11), 1500)
    for dim in (1, 3, 5):
        ratios = jax.vmap(conclusions, in_axes=(0, None, None))(keys, dim, scale)["best_ratio"]
        assert scipy.stats.kstest(np.asarray(ratios), reachable_loss_law(6, dim).cdf).pvalue > 1e-3
    # From the codimension on, everything is reachable.
    for dim in (6, 9):
        assert np.max(jax.vmap(conclusions, in_axes=(0, None, None))(keys, dim, scale)["best_ratio"]) < 1e-20


@pytest.mark.parametrize("ambient", [100, 10_000])
def test_free_coordinates_do_not_change_the_threshold(ambient):
    toy = codimension_toy(ambient=ambient, max_dim=12)
    run = trajectory(toy, [0])
    key = jax.random.key(2)
    problem = toy.sample(key, toy.setting)
    best = [float(run(key, problem, toy.hyper._replace(dim=dim))["best_ratio"]) for dim in (9, 10, 12)]
    assert best[0] > 1e-6
    assert max(best[1:]) < 1e-20


@pytest.mark.parametrize("wide", [False, True])
def test_lowers_for_every_platform(wide):
    with jax.enable_x64(wide):
        toy = codimension_toy(ambient=60, groups=6, max_dim=9)

        def program(key, hyper):
            return trajectory(toy, [0, 3])(key, toy.sample(key, toy.setting), hyper)["best_ratio"]

        hyper = jax.tree.map(jnp.asarray, toy.hyper)
        exported = export.export(jax.jit(program), platforms=["cpu", "cuda", "tpu"])(jax.random.key(0), hyper)
        assert exported.out_avals[0].dtype == (jnp.float64 if wide else jnp.float32)


def test_published_parameter_counts():
    grid = [mlp_parameter_count(784, [width] * depth + [10]) for width in (50, 400) for depth in (1, 5)]
    assert grid == [39_760, 49_960, 318_010, 959_610]
    assert mlp_parameter_count(784, [200, 200, 10]) == 199_210
    assert round(compression(199_210, 750)) == 265


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: codimension_toy(groups=7), "groups must divide ambient=1000 into equal parts, got groups=7"),
        (lambda: codimension_toy(groups=0), "groups must divide"),
        (lambda: codimension_toy(max_dim=1001), "between 1 and ambient=1000, got 1001"),
        (lambda: codimension_toy(projection="dens"), "did you mean 'dense'"),
        (lambda: reachable_loss_law(10, 10), "between 1 and codimension-1=9, got 10"),
        (lambda: gram_moments("sparce", 10), "unknown projection 'sparce'"),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
