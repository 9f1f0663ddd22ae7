"""Preconditioned descent: the steps against NumPy, masking, invariances, and closed forms."""

from functools import cache

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from theory_sim import RequestError, Sweep
from theory_sim.sensing import gauss_newton, prec_gd, scaled_gd, symmetric_gd
from theory_sim.simulation import rollout, trajectory

SEEDS = st.integers(0, 2**31 - 1)
SMALL = {"dim": 6, "true_rank": 2, "max_rank": 4}
FACTORIES = {"scaled": scaled_gd, "prec": prec_gd, "gauss_newton": gauss_newton}


def dense(problem):
    """The operator as dense `[m, n, n]` matrices; the population operator as all unit matrices."""
    dim = problem.target.shape[0]
    observed = np.asarray(problem.observed).reshape(-1)
    if problem.operator is None:
        return np.eye(dim * dim).reshape(-1, dim, dim), observed
    entries = np.asarray(problem.operator.matrix)
    if problem.operator.shape is not None:
        return entries.reshape(-1, dim, dim), observed
    upper = np.triu_indices(dim, 1)
    matrices = np.zeros((len(entries), dim, dim))
    matrices[:, upper[0], upper[1]] = entries[:, dim:] / np.sqrt(2)
    matrices += np.swapaxes(matrices, 1, 2)
    matrices[:, np.arange(dim), np.arange(dim)] = entries[:, :dim]
    return matrices, observed


def residual_of(matrices, observed, estimate):
    return np.einsum("mij,ij->m", matrices, estimate) - observed


def numpy_scaled(problem, factor, step_size, damping, steps):
    """ScaledGD(lambda), or PrecGD for `damping=None`, with NumPy's solver."""
    matrices, observed = dense(problem)
    for _ in range(steps):
        residual = residual_of(matrices, observed, factor @ factor.T)
        gradient = np.einsum("m,mij->ij", residual, matrices) @ factor
        added = np.sqrt(np.sum(residual**2) / 4) if damping is None else damping
        gram = factor.T @ factor + added * np.eye(factor.shape[1])
        factor = factor - step_size * np.linalg.solve(gram, gradient.T).T
    return factor


def numpy_alternating(problem, left, right, step_size, steps):
    matrices, observed = dense(problem)
    for _ in range(steps):
        z = np.einsum("m,mij->ij", residual_of(matrices, observed, left @ right.T), matrices)
        left = left - step_size * z @ right @ np.linalg.pinv(right.T @ right)
        z = np.einsum("m,mij->ij", residual_of(matrices, observed, left @ right.T), matrices)
        right = right - step_size * z.T @ left @ np.linalg.pinv(left.T @ left)
    return left, right


@cache
def advance(factory, steps):
    """Some steps of a population's run, compiled once for all drawn problems."""
    simulation = factory(**SMALL)

    def run(problem, hyper, state):
        return jax.lax.fori_loop(0, steps, lambda _, s: simulation.step(None, problem, hyper, s), state)

    return jax.jit(run)


def drawn(factory, seed=0, *, condition_number=3.0, **sizes):
    simulation = factory(**(SMALL | sizes))
    noise = 0.1 if sizes.get("measurements") else 0.0
    setting = simulation.setting._replace(condition_number=condition_number, noise_std=noise)
    return simulation, simulation.sample(jax.random.key(seed), setting)


@pytest.mark.parametrize("measurements", [None, 10, 60])
@pytest.mark.parametrize(("rank", "damping"), [(2, 0.0), (3, 0.2), (3, None)])
def test_trajectory_follows_a_dense_reference(measurements, rank, damping):
    simulation, problem = drawn(prec_gd if damping is None else scaled_gd, measurements=measurements)
    hyper = simulation.hyper._replace(rank=rank, step_size=0.2, init_scale=0.4)
    hyper = hyper if damping is None else hyper._replace(damping=damping)
    start = np.asarray(simulation.init(jax.random.fold_in(jax.random.key(1), 0), problem, hyper).factor)
    result = jax.jit(rollout(simulation, [0, 5, 30]))(jax.random.key(1), problem, hyper)
    for number, steps in enumerate((0, 5, 30)):
        factor = numpy_scaled(problem, start[:, :rank], 0.2, damping, steps)
        estimate = factor @ factor.T
        np.testing.assert_allclose(
            result.records["error"][number], np.linalg.norm(estimate - problem.target), atol=1e-10
        )
        loss = np.sum(residual_of(*dense(problem), estimate) ** 2) / 4
        np.testing.assert_allclose(result.records["loss"][number], loss, atol=1e-10)
        basis = np.asarray(problem.basis)
        off_range = np.linalg.norm(factor - basis @ (basis.T @ factor))
        np.testing.assert_allclose(result.records["off_range"][number], off_range, atol=1e-10)
    np.testing.assert_allclose(result.state.factor[:, :rank], factor, atol=1e-10)
    assert not np.any(result.state.factor[:, rank:])


@pytest.mark.parametrize("measurements", [None, 80])
def test_alternating_trajectory_follows_a_dense_reference(measurements):
    simulation, problem = drawn(gauss_newton, measurements=measurements)
    hyper = simulation.hyper._replace(rank=3, step_size=0.4, init_scale=0.4)
    start = simulation.init(jax.random.fold_in(jax.random.key(1), 0), problem, hyper)
    result = jax.jit(rollout(simulation, [0, 1, 12]))(jax.random.key(1), problem, hyper)
    for number, steps in enumerate((0, 1, 12)):
        left, right = numpy_alternating(
            problem, np.asarray(start.left)[:, :3], np.asarray(start.right)[:, :3], 0.4, steps
        )
        estimate = left @ right.T
        np.testing.assert_allclose(
            result.records["error"][number], np.linalg.norm(estimate - problem.target), atol=1e-10
        )
        loss = np.sum(residual_of(*dense(problem), estimate) ** 2) / 2
        np.testing.assert_allclose(result.records["loss"][number], loss, atol=1e-10)
    assert not np.any(result.state.left[:, 3:])
    assert not np.any(result.state.right[:, 3:])


def test_whole_alternating_steps_solve_the_population_at_once():
    simulation, problem = drawn(gauss_newton, condition_number=100.0)
    hyper = simulation.hyper._replace(rank=3, step_size=1.0, init_scale=1.0)
    errors = trajectory(simulation, [0, 1])(jax.random.key(1), problem, hyper)["error"]
    assert errors[0] > 0.1
    assert errors[1] < 1e-12


@given(SEEDS, st.floats(0.1, 1.5))
@settings(max_examples=10)
def test_a_half_step_projects_the_error(seed, step_size):
    simulation, problem = drawn(gauss_newton, seed)
    hyper = simulation.hyper._replace(rank=3, step_size=step_size, init_scale=1.0)
    start = simulation.init(jax.random.key(seed + 1), problem, hyper)
    new = advance(gauss_newton, 1)(problem, hyper, start)

    def projection(factor):
        basis = np.linalg.qr(np.asarray(factor)[:, :3])[0]
        return np.eye(6) - step_size * basis @ basis.T

    error = start.left @ start.right.T - problem.target
    expected = projection(new.left) @ error @ projection(start.right)
    np.testing.assert_allclose(new.left @ new.right.T - problem.target, expected, atol=1e-9)


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("measurements", [None, 60])
def test_masked_rank_equals_a_smaller_array(name, measurements):
    wide, problem = drawn(FACTORIES[name], measurements=measurements)
    narrow = FACTORIES[name](**(SMALL | {"max_rank": 2}), measurements=measurements)
    results = []
    for simulation in (wide, narrow):
        hyper = simulation.hyper._replace(rank=2, init_scale=0.3)
        hyper = hyper._replace(damping=0.0) if name == "scaled" else hyper
        results.append(jax.jit(rollout(simulation, [0, 25]))(jax.random.key(3), problem, hyper))
    np.testing.assert_allclose(results[0].records["error"], results[1].records["error"], atol=1e-11)
    for masked, sliced in zip(results[0].state, results[1].state, strict=True):
        np.testing.assert_allclose(masked[..., :2], sliced, atol=1e-11)


@pytest.mark.parametrize("name", FACTORIES)
def test_derivatives_through_masked_columns_are_finite(name):
    simulation, problem = drawn(FACTORIES[name])

    def error(scale):
        hyper = simulation.hyper._replace(rank=2, init_scale=scale)
        hyper = hyper._replace(damping=0.0) if name == "scaled" else hyper
        state = simulation.init(jax.random.key(1), problem, hyper)
        state = advance(FACTORIES[name], 3)(problem, hyper, state)
        return simulation.observe(problem, hyper, state)["error"]

    error = jax.jit(error)
    forward, backward = jax.jvp(error, (0.3,), (1.0,))[1], jax.grad(error)(0.3)
    finite = (error(0.3 + 1e-6) - error(0.3 - 1e-6)) / 2e-6
    np.testing.assert_allclose([forward, backward], finite, rtol=1e-6)


@pytest.mark.parametrize("factory", [scaled_gd, prec_gd])
@given(seed=SEEDS)
@settings(max_examples=5)
def test_rotating_problem_or_columns_rotates_the_run(factory, seed):
    simulation, problem = drawn(factory, seed)
    hyper = simulation.hyper._replace(rank=4, init_scale=0.5)
    state = simulation.init(jax.random.key(seed + 1), problem, hyper)
    keys = jax.random.split(jax.random.key(seed + 2))
    outer, inner = (np.linalg.qr(jax.random.normal(k, (n, n)))[0] for k, n in zip(keys, (6, 4), strict=True))
    target = outer @ problem.target @ outer.T
    turned = problem._replace(observed=target, target=target, basis=outer @ problem.basis)
    rotated = state._replace(factor=outer @ state.factor @ inner)
    state = advance(factory, 20)(problem, hyper, state)
    rotated = advance(factory, 20)(turned, hyper, rotated)
    np.testing.assert_allclose(rotated.factor, outer @ state.factor @ inner, atol=1e-11)


@given(SEEDS)
@settings(max_examples=5)
def test_rotating_either_side_or_the_columns_rotates_the_alternating_run(seed):
    simulation, problem = drawn(gauss_newton, seed)
    hyper = simulation.hyper._replace(rank=4, init_scale=0.5)
    state = simulation.init(jax.random.key(seed + 1), problem, hyper)
    keys, sizes = jax.random.split(jax.random.key(seed + 2), 3), (6, 6, 4)
    rows, cols, inner = (
        np.linalg.qr(jax.random.normal(k, (n, n)))[0] for k, n in zip(keys, sizes, strict=True)
    )
    target = rows @ problem.target @ cols.T
    turned = problem._replace(observed=target, target=target)
    rotated = state._replace(left=rows @ state.left @ inner, right=cols @ state.right @ inner)
    state = advance(gauss_newton, 5)(problem, hyper, state)
    rotated = advance(gauss_newton, 5)(turned, hyper, rotated)
    np.testing.assert_allclose(rotated.left, rows @ state.left @ inner, atol=1e-9)
    np.testing.assert_allclose(rotated.right, cols @ state.right @ inner, atol=1e-9)


@given(SEEDS)
@settings(max_examples=10)
def test_undamped_steps_scale_with_any_invertible_mixing_of_the_columns(seed):
    """Without damping the preconditioner is natural: `L -> L B`, `R -> R B^{-T}` leaves the alternating product."""
    simulation, problem = drawn(gauss_newton, seed)
    hyper = simulation.hyper._replace(rank=4, step_size=0.5, init_scale=1.0)
    state = simulation.init(jax.random.key(seed + 1), problem, hyper)
    mixing = jnp.eye(4) + 0.2 * jax.random.normal(jax.random.key(seed + 2), (4, 4))
    mixed = state._replace(left=state.left @ mixing, right=state.right @ np.linalg.inv(mixing).T)
    state, mixed = (advance(gauss_newton, 3)(problem, hyper, s) for s in (state, mixed))
    np.testing.assert_allclose(mixed.left @ mixed.right.T, state.left @ state.right.T, atol=1e-8)


def test_large_damping_is_gradient_descent():
    scaled, problem = drawn(scaled_gd, measurements=60)
    plain = symmetric_gd(**SMALL, measurements=60)
    key, steps = jax.random.key(1), [0, 40]
    damped = scaled.hyper._replace(init_scale=0.3, step_size=1e8, damping=1e9)
    slow = trajectory(scaled, steps)(key, problem, damped)["error"]
    hyper = plain.hyper._replace(init_scale=0.3, step_size=0.1)
    np.testing.assert_allclose(slow, trajectory(plain, steps)(key, problem, hyper)["error"], atol=1e-7)


def test_signal_start_is_the_distance_from_earlier_rows():
    simulation, problem = drawn(scaled_gd, dim=8, true_rank=3, max_rank=5)
    hyper = simulation.hyper._replace(rank=4, init_scale=0.7)
    state = simulation.init(jax.random.key(1), problem, hyper)
    signal = np.asarray(problem.basis.T @ state.factor)
    diagonal = np.diag(np.linalg.qr(signal.T)[1])
    np.testing.assert_allclose(state.signal_start, diagonal**2, rtol=1e-10)
    few = simulation.init(jax.random.key(1), problem, hyper._replace(rank=2)).signal_start
    assert few[2] == 0 < few[1]


def test_the_targets_of_all_methods_are_the_same():
    targets = [drawn(factory, measurements=30)[1].target for factory in (*FACTORIES.values(), symmetric_gd)]
    for target in targets[1:]:
        np.testing.assert_array_equal(target, targets[0])


@pytest.mark.parametrize("name", FACTORIES)
def test_a_batch_equals_lone_runs(name):
    simulation, problem = drawn(FACTORIES[name], measurements=60)
    run = jax.jit(trajectory(simulation, [0, 12]))
    ranks, scales = jnp.array([2, 3, 4]), jnp.array([0.3, 0.4, 0.2])
    broadcast = lambda value: jnp.full(3, value)  # noqa: E731
    hypers = type(simulation.hyper)(*map(broadcast, simulation.hyper))._replace(rank=ranks, init_scale=scales)
    keys = jax.random.split(jax.random.key(1), 3)
    batched = jax.jit(jax.vmap(trajectory(simulation, [0, 12]), (0, None, 0)))(keys, problem, hypers)
    for i in range(3):
        alone = run(keys[i], problem, jax.tree.map(lambda x, i=i: x[i], hypers))
        for metric, value in alone.items():
            np.testing.assert_allclose(batched[metric][i], value, atol=1e-10, err_msg=metric)


@pytest.mark.parametrize("factory", FACTORIES.values())
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"max_rank": 7}, "max_rank must be at most dim = 6, got 7"),
        ({"measurements": 0}, "measurements must be at least 1, or None"),
        ({"measurements": 2.5}, "measurements must be a whole number, got 2.5"),
        ({"spectrum": "flat"}, "spectrum must be one of linear, geometric, got 'flat'"),
    ],
)
def test_bad_sizes_are_refused_in_one_line(factory, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        factory(**(SMALL | changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("axis", "value"), [("damping", -0.1), ("rank", 5), ("rank", 0), ("step_size", -1.0)]
)
def test_bad_values_are_refused_in_one_line(axis, value):
    sweep = Sweep(scaled_gd, shape={name: [size] for name, size in SMALL.items()}, run={axis: [value]})
    with pytest.raises(RequestError, match=f"axis '{axis}' must lie in") as raised:
        sweep.build(sweep.shapes[0])
    assert "\n" not in str(raised.value)
