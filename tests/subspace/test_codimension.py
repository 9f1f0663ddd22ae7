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
    fastfood_loss_law,
    gram_moments,
    mlp_parameter_count,
    reachable_loss_law,
    unaligned,
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
    # The problem draws its projection from the first half of its key.
    matrix = np.asarray(dense_projection(jax.random.split(key)[0], 60, 9).rows).T[:, :dim]
    init_key = jax.random.fold_in(jax.random.fold_in(key, 1), 0)
    theta_0 = scale * np.asarray(jax.random.normal(init_key, (60,)))
    groups = np.repeat(np.eye(6), 10, axis=1)
    wanted = np.arange(1, 7) - groups @ theta_0
    solution = np.linalg.lstsq(groups @ matrix, wanted, rcond=None)[0]
    best = np.mean((groups @ matrix @ solution - wanted) ** 2)
    np.testing.assert_allclose(got["best_loss"], best, rtol=1e-8, atol=1e-20)
    np.testing.assert_allclose(got["best_ratio"], best / np.mean(wanted**2), rtol=1e-8, atol=1e-20)
    np.testing.assert_allclose(got["loss"][0], np.mean(wanted**2), rtol=1e-12)


@pytest.mark.parametrize(("projection", "dim"), [("dense", 4), ("fastfood", 9), ("one_hot", 7)])
def test_training_on_the_group_sums_is_training_on_all_coordinates(projection, dim):
    toy = codimension_toy(ambient=60, groups=6, max_dim=9, projection=projection)
    key = jax.random.key(3)
    problem = toy.sample(key, toy.setting)
    measured = jax.jit(trajectory(toy, [0, 1, 20]))(key, problem, toy.hyper._replace(dim=dim))["loss"]
    full = PROJECTIONS[projection](jax.random.split(key)[0], 60, 9).restricted(dim)

    @jax.jit
    def loss(z):
        theta = full.apply(z)
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
    problem = jax.jit(toy.sample)(jax.random.key(0), toy.setting)
    start = jax.jit(trajectory(toy, [0]))(jax.random.key(0), problem, toy.hyper)
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


def test_law_of_positive_one_hot_entries_has_the_exact_mean():
    for dim in range(2, 10):
        law = reachable_loss_law(10, dim, positive=True)
        np.testing.assert_allclose(law.mean(), (10 - dim) / 42)
        assert law.support() == (0, unaligned(10))


@pytest.mark.parametrize("dim", [1, 4])
def test_law_of_fastfood_is_that_of_one_vector_across_and_the_rest_along(dim):
    # With D = L, one direction alone reaches the all-ones one, and the others are orthogonal to it.
    generator, share, draws = np.random.default_rng(1), 1 - unaligned(10), 4000
    left = generator.beta((10 - dim) / 2, (dim - 1) / 2, draws) if dim > 1 else np.ones(draws)
    g, z = generator.normal(size=(2, draws))
    rest = generator.chisquare(10 - dim - 1, draws)
    reached = np.sqrt(share * dim) * g + np.sqrt((1 - share) * left) * z
    ratios = share + (1 - share) * left - reached**2 / (dim * g**2 + z**2 + rest)
    law, levels = fastfood_loss_law(1024, 10, dim), np.linspace(0.01, 0.99)
    assert scipy.stats.kstest(ratios, law.cdf).statistic < 0.01 + 1.95 / np.sqrt(draws)
    from_beta = np.max(np.abs(law.cdf(reachable_loss_law(10, dim).ppf(levels)) - levels))
    assert (from_beta < 0.015) == (dim == 1)


def test_coordinates_can_be_scattered_signed_and_left_free():
    sample = jax.jit(TOY.sample)
    changed, plain = (
        np.asarray(
            sample(jax.random.key(0), TOY.setting._replace(scattered=on, flipped=on, free=0.3 * on)).members
        )
        for on in (1, 0)
    )
    np.testing.assert_array_equal(plain, np.repeat(np.eye(6), 10, axis=1))
    np.testing.assert_array_equal(np.abs(changed).sum(axis=1), 7)
    np.testing.assert_array_equal(np.unique(changed), [-1, 0, 1])
    assert np.abs(changed).sum(axis=0).max() == 1
    assert np.any((changed != 0) & (plain == 0))


@pytest.mark.parametrize("kind", ["dense", "one_hot"])
def test_singular_values_are_those_of_numpy(kind):
    toy = codimension_toy(ambient=60, groups=6, max_dim=9, projection=kind)
    problem = jax.jit(toy.sample)(jax.random.key(4), toy.setting)
    run = jax.jit(trajectory(toy, [0]))
    for dim in (3, 9):
        got = run(jax.random.key(0), problem, toy.hyper._replace(dim=dim))
        columns = jax.jit(jax.vmap(problem.projection.restricted(dim).apply))(np.eye(9)[:dim])
        values = np.linalg.svd(np.asarray(problem.members) @ np.asarray(columns).T, compute_uv=False)
        np.testing.assert_allclose(got["top"], values[0], rtol=1e-9)
        np.testing.assert_allclose(got["condition"], values[0] / values[-1], rtol=1e-7)
        if kind == "one_hot":
            np.testing.assert_allclose(got["top"], np.sqrt(10), rtol=1e-9)


@pytest.mark.parametrize("ambient", [100, 10_000])
def test_free_coordinates_do_not_change_the_threshold(ambient):
    toy = codimension_toy(ambient=ambient, max_dim=12)
    run = jax.jit(trajectory(toy, [0]))
    key = jax.random.key(2)
    problem = jax.jit(toy.sample)(key, toy.setting)
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
        (lambda: reachable_loss_law(10, 1, positive=True), "between 2 and codimension-1=9, got 1"),
        (lambda: fastfood_loss_law(1024, 10, 10), "between 1 and codimension-1=9, got 10"),
        (lambda: reachable_loss_law(10, 10), "between 1 and codimension-1=9, got 10"),
        (lambda: gram_moments("sparce", 10), "unknown projection 'sparce'"),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
