"""The sub-gradient method: its field and step, the norm it divides by, masking, batching, invariances."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from theory_sim import RequestError, Sweep
from theory_sim.sensing import sign_field, sign_field_strength, subgradient, unvech
from theory_sim.sensing.robust import Hyper, State, _field, _largest_value, _residual
from theory_sim.simulation import rollout, trajectory

SEEDS = st.integers(0, 2**31 - 1)
KEY = jax.random.key(0)
SMALL = {"dim": 6, "true_rank": 2, "max_rank": 4}
CORRUPTED = {"condition_number": 2.0, "outlier_fraction": 0.3, "outlier_std": 3.0, "noise_std": 0.1}


POPULATION = subgradient(**SMALL)
INIT = jax.jit(lambda problem, hyper: POPULATION.init(jax.random.key(1), problem, hyper))
STEP = jax.jit(lambda problem, hyper, state: POPULATION.step(None, problem, hyper, state))


def drawn(seed=0, measurements=40, **shape):
    simulation = subgradient(**{**SMALL, "measurements": measurements, **shape})
    corruption = CORRUPTED if measurements else {"condition_number": 2.0}
    return simulation, simulation.sample(jax.random.key(seed), simulation.setting._replace(**corruption))


def unit_measurements(problem, samples):
    """Unit-variance matrices `[samples, n, n]` and their measurements."""
    root = np.sqrt(len(problem.observed))
    matrices = root * np.asarray(jax.vmap(unvech)(problem.operator.matrix))
    return matrices[:samples], root * np.asarray(problem.observed)[:samples]


def numpy_loss(matrices, observed, factor, loss):
    residual = np.einsum("mij,ij->m", matrices, factor @ factor.T) - observed
    return np.mean(np.abs(residual)) if loss == "l1" else np.mean(residual**2) / 2


def numpy_descent(matrices, observed, factor, loss):
    residual = np.einsum("mij,ij->m", matrices, factor @ factor.T) - observed
    weights = np.sign(residual) if loss == "l1" else residual
    field = np.einsum("m,mij->ij", weights, matrices) / len(observed)
    return field, 2 * field @ factor


def near(problem, rank=3):
    """A factor away from the target, its unused column zero."""
    columns = jax.random.normal(jax.random.key(9), (4, 6)).T * 0.4
    return jnp.where(jnp.arange(4) < rank, columns.at[:, :2].add(problem.basis), 0.0)


@pytest.mark.parametrize(("loss", "samples"), [("l1", 25), ("l1", 40), ("l2", 25)])
def test_geometric_steps_follow_a_dense_reference(loss, samples):
    simulation, problem = drawn(loss=loss, start="orthogonal")
    hyper = Hyper(rank=3, step_size=0.1, decay=0.9, init_scale=1.0, samples=samples)
    state = jax.jit(simulation.init)(jax.random.key(0), problem, hyper)._replace(factor=near(problem))
    step = jax.jit(simulation.step)
    matrices, observed = unit_measurements(problem, samples)
    factor = np.asarray(state.factor)
    for number in range(5):
        field, descent = numpy_descent(matrices, observed, factor, loss)
        norm = np.linalg.norm(np.linalg.svd(field @ np.asarray(state.directions))[1], np.inf)
        factor = factor - 0.1 * 0.9**number * descent / norm
        state = step(None, problem, hyper, state)
        np.testing.assert_allclose(state.factor, factor, atol=1e-10)
    excess = simulation.observe(problem, hyper, state)["excess_loss"]
    truth = np.asarray(problem.basis * np.sqrt(problem.singular_values))
    expected = numpy_loss(matrices, observed, factor, loss) - numpy_loss(matrices, observed, truth, loss)
    np.testing.assert_allclose(excess, expected, atol=1e-12)


@pytest.mark.parametrize("loss", ["l1", "l2"])
@pytest.mark.parametrize("scaled", [False, True])
def test_polyak_steps_follow_a_dense_reference(loss, scaled):
    simulation, problem = drawn(loss=loss, rule="polyak", scaled=scaled)
    hyper = Hyper(rank=3, step_size=0.8, samples=40)
    state = State(near(problem), jnp.ones(()), jnp.eye(6)[:, :2])
    matrices, observed = unit_measurements(problem, 40)
    truth = np.asarray(problem.basis * np.sqrt(problem.singular_values))
    factor = np.asarray(state.factor)[:, :3]
    for _ in range(4):
        _, descent = numpy_descent(matrices, observed, factor, loss)
        direction = descent @ np.linalg.inv(factor.T @ factor) if scaled else descent
        gap = numpy_loss(matrices, observed, factor, loss) - numpy_loss(matrices, observed, truth, loss)
        factor = factor - 0.8 * max(gap, 0) / np.sum(descent * direction) * direction
        state = simulation.step(None, problem, hyper, state)
        np.testing.assert_allclose(state.factor[:, :3], factor, atol=1e-10)
    assert not np.any(state.factor[:, 3:])


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_scaled_geometric_steps_follow_a_dense_reference(loss):
    simulation, problem = drawn(loss=loss, scaled=True)
    hyper = Hyper(rank=3, step_size=0.1, decay=0.9, samples=25)
    state = State(near(problem), jnp.ones(()), jnp.eye(6)[:, :2])
    matrices, observed = unit_measurements(problem, 25)
    factor, step = np.asarray(state.factor)[:, :3], jax.jit(simulation.step)
    for number in range(5):
        _, descent = numpy_descent(matrices, observed, factor, loss)
        direction = descent @ np.linalg.inv(factor.T @ factor)
        factor = factor - 0.1 * 0.9**number / np.sqrt(np.sum(descent * direction)) * direction
        state = step(None, problem, hyper, state)
        np.testing.assert_allclose(state.factor[:, :3], factor, atol=1e-10)
    assert not np.any(state.factor[:, 3:])


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_field_is_the_gradient_of_the_loss(loss):
    _, problem = drawn(loss=loss)
    hyper = Hyper(rank=3, samples=30)
    factor = near(problem)
    matrices, observed = unit_measurements(problem, 30)

    def dense_loss(factor):
        residual = jnp.einsum("mij,ij->m", matrices, factor @ factor.T) - observed
        return jnp.mean(jnp.abs(residual)) if loss == "l1" else jnp.mean(residual**2) / 2

    gradient = 2 * _field(problem, hyper, _residual(problem, factor), loss) @ factor
    np.testing.assert_allclose(gradient, jax.grad(dense_loss)(factor), atol=1e-12)


def test_norm_is_the_operator_norm_while_the_signal_grows():
    simulation = subgradient(dim=12, true_rank=3, max_rank=12, measurements=1000, start="orthogonal")
    setting = simulation.setting._replace(condition_number=2.0, outlier_fraction=0.2)
    problem = simulation.sample(jax.random.key(0), setting)
    hyper = simulation.hyper._replace(init_scale=1e-4)

    @jax.jit
    def look_and_step(state):
        field = _field(problem, hyper, _residual(problem, state.factor), "l1")
        estimate = _largest_value(field @ state.directions)
        learned = simulation.observe(problem, hyper, state)["learned"].min()
        return field, estimate, learned, simulation.step(None, problem, hyper, state)

    state = jax.jit(simulation.init)(jax.random.key(1), problem, hyper)
    shares, learned = [], []
    for _ in range(200):
        field, estimate, share, state = look_and_step(state)
        shares.append(estimate / np.linalg.norm(field, 2))
        learned.append(share)
    shares, growing = np.array(shares), np.array(learned) < 0.5
    assert growing.sum() > 40
    assert shares.max() <= 1 + 1e-12
    assert shares[growing].min() > 0.99
    np.testing.assert_allclose(state.directions.T @ state.directions, np.eye(2), atol=1e-12)


@pytest.mark.parametrize(("start", "rank", "measurements"), [("orthogonal", 1, None), ("spectral", 3, 40)])
def test_masked_rank_equals_a_smaller_array(start, rank, measurements):
    wide, problem = drawn(measurements=measurements, start=start)
    narrow = subgradient(**{**SMALL, "max_rank": rank}, measurements=measurements, start=start)
    hyper = Hyper(rank=rank, init_scale=0.1, samples=measurements or 1)
    masked, sliced = (jax.jit(rollout(s, [0, 30]))(jax.random.key(3), problem, hyper) for s in (wide, narrow))
    assert not np.any(masked.state.factor[:, rank:])
    np.testing.assert_allclose(masked.state.factor[:, :rank], sliced.state.factor, atol=1e-10)


def test_unused_samples_do_not_count():
    simulation, problem = drawn()
    hyper = Hyper(rank=3, init_scale=0.1, samples=25)
    other = problem._replace(observed=problem.observed.at[25:].set(7.0))
    run = jax.jit(trajectory(simulation, [0, 20]))
    one, two = (run(jax.random.key(1), p, hyper)["error"] for p in (problem, other))
    np.testing.assert_array_equal(one, two)
    assert run(jax.random.key(1), other, hyper._replace(samples=26))["error"][1] != one[1]


def test_starts_have_operator_norm_alpha():
    for start in ("spectral", "orthogonal"):
        simulation, problem = drawn(start=start)
        factor = jax.jit(simulation.init)(KEY, problem, Hyper(rank=3, init_scale=0.2, samples=40)).factor
        assert np.linalg.norm(factor, 2) == pytest.approx(0.2, rel=1e-9)


def test_spectral_start_takes_the_leading_eigenpairs_of_the_sign_matrix():
    simulation, problem = drawn()
    factor = jax.jit(simulation.init)(KEY, problem, Hyper(rank=3, init_scale=1.0, samples=40)).factor
    matrices, observed = unit_measurements(problem, 40)
    values, vectors = np.linalg.eigh(np.einsum("m,mij->ij", np.sign(observed), matrices))
    values = np.maximum(values, 0) / values[-1]
    expected = (vectors[:, -3:] * values[-3:]) @ vectors[:, -3:].T
    np.testing.assert_allclose(factor @ factor.T, expected, atol=1e-9)


@given(SEEDS)
@settings(max_examples=5)
def test_rotating_the_problem_rotates_the_run(seed):
    _, problem = drawn(seed=seed, measurements=None)
    rotation = jnp.linalg.qr(jax.random.normal(jax.random.key(seed + 2), (6, 6)))[0]
    target = rotation @ problem.target @ rotation.T
    turned = problem._replace(observed=target, target=target, basis=rotation @ problem.basis)
    hyper = Hyper(rank=3, init_scale=0.3)
    state = INIT(problem, hyper)
    rotated = State(rotation @ state.factor, state.shrinkage, rotation @ state.directions)
    for _ in range(15):
        state, rotated = STEP(problem, hyper, state), STEP(turned, hyper, rotated)
    np.testing.assert_allclose(rotated.factor, rotation @ state.factor, atol=1e-10)


def test_batches_of_runs_and_of_problems_equal_lone_runs():
    simulation, _ = drawn(start="orthogonal")
    setting = simulation.setting._replace(**CORRUPTED)
    problems = jax.vmap(lambda key: simulation.sample(key, setting))(jax.random.split(jax.random.key(0), 2))
    run = trajectory(simulation, [0, 10])
    keys = jax.random.split(jax.random.key(1), 3)
    hypers = Hyper(
        jnp.array([1, 2, 4]), jnp.array([0.1, 0.15, 0.2]), jnp.array([0.9, 0.95, 1.0]),
        jnp.array([0.1, 0.5, 1e-3]), jnp.array([20, 40, 33]),
    )  # fmt: skip
    batched = jax.jit(jax.vmap(jax.vmap(run, (0, None, 0)), (None, 0, None)))(keys, problems, hypers)
    lone = jax.jit(run)
    for p, r in np.ndindex(2, 3):
        problem, hyper = (jax.tree.map(lambda x, i=i: x[i], tree) for tree, i in ((problems, p), (hypers, r)))
        for name, value in lone(keys[r], problem, hyper).items():
            np.testing.assert_allclose(batched[name][p, r], value, atol=1e-9, err_msg=name)


def test_outliers_and_noise_are_those_of_unit_variance_measurements():
    simulation = subgradient(**SMALL, measurements=4000)
    sample = jax.jit(simulation.sample)
    key, plain = jax.random.key(0), simulation.setting
    outliers = np.sqrt(4000) * sample(key, plain._replace(outlier_fraction=0.25, outlier_std=3.0)).corruption
    hit = np.abs(outliers) > 1e-9
    assert abs(hit.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert abs(outliers[hit].var() / 9 - 1) < 4 * np.sqrt(2 / hit.sum())
    noise = np.sqrt(4000) * sample(key, plain._replace(noise_std=0.5)).corruption
    assert abs(noise.var() / 0.25 - 1) < 4 * np.sqrt(2 / 4000)
    more = np.sqrt(4000) * sample(key, plain._replace(outlier_fraction=0.5, outlier_std=3.0)).corruption
    assert np.all(np.abs(more[hit] - outliers[hit]) < 1e-9)  # a larger fraction keeps the outliers there were
    clean = sample(key, plain)
    assert np.abs(clean.corruption).max() < 1e-12


def test_without_outliers_the_problem_is_that_of_symmetric_gd():
    from theory_sim.sensing import symmetric_gd

    simulation, _ = drawn()
    other = symmetric_gd(**SMALL, measurements=40)
    key = jax.random.key(4)
    ours = simulation.sample(key, simulation.setting._replace(noise_std=0.3))
    theirs = other.sample(key, other.setting._replace(noise_std=0.3))
    np.testing.assert_array_equal(ours.target, theirs.target)
    np.testing.assert_array_equal(ours.observed, theirs.observed)


def test_a_run_at_the_target_stays_there_and_is_finite():
    for shape in ({}, {"rule": "polyak", "scaled": True}, {"loss": "l2"}):
        simulation = subgradient(dim=6, true_rank=2, max_rank=2, **shape)
        problem = simulation.sample(jax.random.key(0), simulation.setting)
        truth = problem.basis * jnp.sqrt(problem.singular_values)
        state = State(truth, jnp.ones(()), jnp.eye(6)[:, :2])
        exact = problem._replace(observed=truth @ truth.T)
        state = jax.jit(simulation.step)(None, exact, simulation.hyper, state)
        np.testing.assert_allclose(state.factor, truth, atol=1e-12)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 1, "true_rank": 1, "max_rank": 1}, "dim must be at least 2, got 1"),
        ({"true_rank": 7}, "true_rank must be at most dim = 6, got 7"),
        ({"max_rank": 7}, "max_rank must be at most dim = 6, got 7"),
        ({"measurements": 0}, "measurements must be at least 1, or None"),
        ({"measurements": 2.5}, "measurements must be a whole number, got 2.5"),
        (
            {"scaled": True, "max_rank": 1},
            "max_rank must be at least true_rank = 2, the rank of a scaled run, got 1",
        ),
        ({"loss": "huber"}, "loss must be one of l1, l2, got 'huber'"),
        ({"start": "zero"}, "start must be one of spectral, orthogonal, got 'zero'"),
        ({"rule": "constant"}, "rule must be one of geometric, polyak, got 'constant'"),
        ({"spectrum": "flat"}, "spectrum must be one of linear, geometric, got 'flat'"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        subgradient(**(SMALL | changes))
    assert "\n" not in str(raised.value)


def test_limits_follow_the_sizes():
    limits = subgradient(**SMALL, measurements=30).limits
    assert limits["rank"] == (1, 4)
    assert limits["samples"] == (1, 30)
    assert limits["outlier_fraction"][1] < 1
    assert limits["decay"][0] > 0
    assert limits["decay"][1] == 1
    population = subgradient(**SMALL).limits
    assert population["outlier_fraction"] == population["noise_std"] == (0, 0)


def test_sign_field_has_the_mean_and_the_spread_of_the_theory():
    simulation = sign_field(dim=6, max_rank=4, measurements=3000)
    corruption = {"outlier_fraction": 0.4, "outlier_std": 2.0, "noise_std": 0.3}
    setting = simulation.setting._replace(**corruption)
    run = trajectory(simulation, 0)

    def metrics(seed):
        key = jax.random.key(seed)
        hyper = simulation.hyper._replace(norm=0.7, rank=3)
        return run(jax.random.fold_in(key, 1), simulation.sample(jax.random.fold_in(key, 0), setting), hyper)

    results = jax.jit(jax.vmap(metrics))(jnp.arange(60))
    phi = sign_field_strength(0.7, **corruption)
    strength, deviation = results["strength"][:, 0], results["deviation"][:, 0] ** 2
    assert abs(strength.mean() - phi) < 4 * np.sqrt((1 - phi**2) / 3000 / 60)
    assert abs(strength.var(ddof=1) / ((1 - phi**2) / 3000) - 1) < 4 * np.sqrt(2 / 60)
    # 20 of the 21 directions are independent of the signs.
    assert abs(deviation.mean() * 3000 / 20 - 1) < 4 * np.sqrt(2 / 20 / 60)


@pytest.mark.parametrize(
    ("axis", "value", "interval"),
    [("outlier_fraction", 1.0, r"\[0, 1\)"), ("decay", 0.0, r"\(0, 1\]"), ("decay", 1.5, r"\(0, 1\]")],
)
def test_a_value_at_an_open_end_is_refused_by_the_interval_as_it_is(axis, value, interval):
    sizes = {"dim": [6], "true_rank": [1], "max_rank": [2], "measurements": [20]}
    kind = "problem" if axis == "outlier_fraction" else "run"
    sweep = Sweep(simulation=subgradient, shape=sizes, **{kind: {axis: [value]}}, steps=[0, 1])
    with pytest.raises(RequestError, match=f"axis '{axis}' must lie in {interval}, got {value}"):
        sweep.build(sweep.shapes[0])


@pytest.mark.parametrize("measurements", [None, 400])
def test_a_spectral_start_leaves_a_column_for_each_positive_eigenvalue(measurements):
    simulation, problem = drawn(measurements=measurements, max_rank=6)
    hyper = simulation.hyper._replace(samples=measurements or 1)
    init = jax.jit(simulation.init)
    factor = np.asarray(init(KEY, problem, hyper._replace(rank=6)).factor)
    kept = int((np.linalg.norm(factor, axis=0) > 1e-6 * hyper.init_scale).sum())
    # The target's two, and of the noise's four eigenvalues the positive ones.
    assert kept == 2 if measurements is None else 2 < kept < 6
    few = np.asarray(init(KEY, problem, hyper._replace(rank=3)).factor)
    np.testing.assert_array_equal(few[:, :3], factor[:, :3])
