"""Asymmetric matrix sensing: the step, masking, invariances, the change of factors, and what instability does."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from theory_sim import Sweep, open_results, run
from theory_sim.sensing import asymmetric_gd, rebalance
from theory_sim.sensing.asymmetric import Hyper
from theory_sim.simulation import Status, rollout, trajectory

SEEDS = st.integers(0, 2**31 - 1)
SMALL = {"rows": 6, "cols": 5, "true_rank": 2, "max_rank": 4}
STEP = jax.jit(asymmetric_gd(**SMALL).step)


def dense(problem):
    """The operator as `[m, rows, cols]` matrices; the population operator as all unit matrices."""
    shape = problem.target.shape
    matrices = (
        np.eye(problem.target.size) if problem.operator is None else np.asarray(problem.operator.matrix)
    )
    return matrices.reshape(-1, *shape), np.asarray(problem.observed).reshape(-1)


def numpy_descent(problem, left, right, step_size, steps, change=None):
    """Plain descent; `change=(beta, below)` changes factors by the singular value decomposition, once.

    Returns the factors and the step of the change, -1 without one.
    """
    matrices, observed = dense(problem)
    changed_at = -1
    for step in range(steps):
        residual = np.einsum("mij,ij->m", matrices, left @ right.T) - observed
        if change and np.linalg.norm(residual) <= change[1] * np.linalg.norm(observed):
            u, s, vt = np.linalg.svd(left, full_matrices=False)
            left, right, change, changed_at = change[0] * u, right @ vt.T * s / change[0], None, step
        pull = np.einsum("m,mij->ij", residual, matrices)
        left, right = left - step_size * pull @ right, right - step_size * pull.T @ left
    return left, right, changed_at


@pytest.mark.parametrize("measurements", [None, 20, 40])
@pytest.mark.parametrize("change", [None, (0.6, 0.5)], ids=["plain", "one change"])
def test_trajectory_follows_a_dense_reference(measurements, change):
    simulation = asymmetric_gd(**SMALL, measurements=measurements)
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=3.0))
    beta, below = change or (0.0, 0.0)
    hyper = Hyper(4, 0.1, 0.5, 0.4, beta, below)
    steps = [0, 7, 150]
    result = jax.jit(rollout(simulation, steps))(jax.random.key(1), problem, hyper)
    # The reference starts where the run does.
    start = simulation.init(jax.random.fold_in(jax.random.key(1), 0), problem, hyper)
    for number, count in enumerate(steps):
        left, right, changed_at = numpy_descent(
            problem, np.asarray(start.left), np.asarray(start.right), 0.1, count, change
        )
        error = np.linalg.norm(left @ right.T - problem.target)
        np.testing.assert_allclose(result.records["error"][number], error, atol=1e-10)
    assert (changed_at >= 0) == bool(change)
    assert int(result.conclusions["rebalanced_at"]) == changed_at
    np.testing.assert_allclose(result.state.left @ result.state.right.T, left @ right.T, atol=1e-10)


@given(SEEDS, st.sampled_from([None, 40]))
@settings(max_examples=6)
def test_step_goes_along_the_gradient_of_the_loss(seed, measurements):
    simulation = asymmetric_gd(**SMALL, measurements=measurements)
    problem = simulation.sample(jax.random.key(seed), simulation.setting)
    matrices, observed = (jnp.asarray(part) for part in dense(problem))

    def loss(left, right):
        return jnp.sum((jnp.einsum("mij,ij->m", matrices, left @ right.T) - observed) ** 2) / 2

    hyper = Hyper(4, 1.0, 0.7)
    state = simulation.init(jax.random.key(seed + 1), problem, hyper)
    after = simulation.step(jax.random.key(0), problem, hyper, state)
    gradients = jax.grad(loss, (0, 1))(state.left, state.right)
    np.testing.assert_allclose(state.left - after.left, gradients[0], atol=1e-11)
    np.testing.assert_allclose(state.right - after.right, gradients[1], atol=1e-11)
    np.testing.assert_allclose(
        simulation.observe(problem, hyper, state)["loss"], loss(state.left, state.right)
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_masked_rank_equals_a_smaller_array(rank, beta):
    wide, narrow = asymmetric_gd(**SMALL), asymmetric_gd(**(SMALL | {"max_rank": max(rank, 2)}))
    problem = wide.sample(jax.random.key(2), wide.setting)
    hyper = Hyper(rank, 0.1, 0.5, 0.3, beta, 0.8)
    masked, sliced = (jax.jit(rollout(s, [0, 80]))(jax.random.key(3), problem, hyper) for s in (wide, narrow))
    assert not np.any(masked.state.left[:, rank:])
    assert not np.any(masked.state.right[:, rank:])
    np.testing.assert_allclose(masked.records["error"], sliced.records["error"], atol=1e-12)
    for name, value in sliced.conclusions.items():
        np.testing.assert_allclose(masked.conclusions[name], value, atol=1e-7, err_msg=name)


def test_a_derivative_through_masked_columns_and_the_change_is_finite():
    simulation = asymmetric_gd(**SMALL)._replace(conclude=None)
    problem = simulation.sample(jax.random.key(0), simulation.setting)

    def error(scale):
        return trajectory(simulation, [9])(jax.random.key(1), problem, Hyper(2, 0.1, scale, 0.3, 0.5, 0.9))[
            "error"
        ][0]

    assert np.isfinite(jax.jvp(error, (0.5,), (1.0,))[1])


@given(SEEDS)
@settings(max_examples=5)
def test_rotating_both_sides_rotates_the_run(seed):
    simulation = asymmetric_gd(**SMALL)
    problem = simulation.sample(jax.random.key(seed), simulation.setting)
    hyper = Hyper(3, 0.1, 0.5, 0.5, 0.5, 0.9)
    state = simulation.init(jax.random.key(seed + 1), problem, hyper)
    draw = np.random.default_rng(seed)
    rows, cols = (jnp.asarray(np.linalg.qr(draw.normal(size=(n, n)))[0]) for n in (6, 5))
    target = rows @ problem.target @ cols.T
    turned = problem._replace(observed=target, target=target)
    rotated = state._replace(left=rows @ state.left, right=cols @ state.right)
    for _ in range(15):
        state = STEP(jax.random.key(0), problem, hyper, state)
        rotated = STEP(jax.random.key(0), turned, hyper, rotated)
    np.testing.assert_allclose(rotated.left, rows @ state.left, atol=1e-12)
    np.testing.assert_allclose(rotated.right, cols @ state.right, atol=1e-12)


@given(SEEDS, st.floats(0.1, 2.0))
def test_change_of_factors_leaves_the_product_and_orthonormalises_the_left_one(seed, beta):
    draw = np.random.default_rng(seed)
    left, right = draw.normal(size=(6, 4)), draw.normal(size=(5, 4))
    left[:, 3] = right[:, 3] = 0
    new_left, new_right = rebalance(jnp.asarray(left), jnp.asarray(right), beta)
    np.testing.assert_allclose(new_left @ new_right.T, left @ right.T, atol=1e-12)
    np.testing.assert_allclose(new_left.T @ new_left, beta**2 * np.diag([1, 1, 1, 0]), atol=1e-12)


def test_batched_runs_change_factors_at_their_own_times():
    simulation = asymmetric_gd(**SMALL)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    hypers = Hyper(
        jnp.array([4, 3, 2]), jnp.array([0.1, 0.2, 0.1]), jnp.array([0.5, 0.2, 0.4]), jnp.full(3, 0.3),
        jnp.array([0.5, 0.0, 0.7]), jnp.array([0.5, 0.9, 0.2]),
    )  # fmt: skip
    run_one = rollout(simulation, [0, 20, 60])
    keys = jax.random.split(jax.random.key(1), 3)
    batched = jax.jit(jax.vmap(run_one, (0, None, 0)))(keys, problem, hypers)
    assert (batched.conclusions["rebalanced_at"] >= 0).tolist() == [True, False, True]
    for i in range(3):
        alone = run_one(keys[i], problem, jax.tree.map(lambda x, i=i: x[i], hypers))
        np.testing.assert_allclose(batched.records["error"][i], alone.records["error"], atol=1e-12)


def test_tied_starts_on_a_symmetric_target_stay_tied():
    """Exact balance is the symmetric descent: the reason for its slow rate."""
    simulation = asymmetric_gd(rows=6, cols=6, true_rank=2, max_rank=4)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    target = (problem.left_basis * problem.singular_values) @ problem.left_basis.T
    problem = problem._replace(observed=target, target=target)
    hyper = Hyper(4, 0.1, 0.5)
    state = simulation.init(jax.random.key(1), problem, hyper)
    state = state._replace(right=state.left)
    for _ in range(30):
        state = STEP(jax.random.key(0), problem, hyper, state)
    np.testing.assert_allclose(state.left, state.right, atol=1e-14)


@pytest.mark.parametrize(
    ("step_size", "status"),
    [(0.9, Status.FINISHED), (1.1, Status.NOT_CONVERGED), (3.0, Status.DIVERGED)],
)
def test_an_unstable_step_size_is_warned_of_and_flagged(tmp_path, step_size, status):
    sweep = Sweep(
        simulation=asymmetric_gd,
        shape={"rows": [8], "cols": [8], "true_rank": [1], "max_rank": [2]},
        run={"step_size": [step_size], "init_scale": [0.3]},
        steps=[0, 2000],
    )
    if status is Status.FINISHED:
        summary = run(sweep, tmp_path / "out")
    else:
        told = rf"1 of 1 cells: step_size \* .* >= 2: unstable at the solution .* \(first: step_size={step_size:g}"
        with pytest.warns(RuntimeWarning, match=told):
            summary = run(sweep, tmp_path / "out")
    assert summary.statuses == {status: 1}


def test_a_change_that_noise_prevents_is_cautioned_and_told(tmp_path):
    sweep = Sweep(
        simulation=asymmetric_gd,
        shape={"rows": [8], "cols": [8], "true_rank": [1], "max_rank": [2], "measurements": [400]},
        problem={"noise_std": [0.0, 0.3]},
        run={"rebalance": [0.0, 0.5], "init_scale": [0.3]},
        steps=[0, 300],
    )
    told = r"1 of 4 cells: noise_std > rebalance_below \* \|\|y\|\|: .* \(first: noise_std=0.3, rebalance=0.5"
    with pytest.warns(RuntimeWarning, match=told):
        run(sweep, tmp_path / "out")
    changed = (
        open_results(tmp_path / "out")["rebalanced_at"]
        .squeeze()
        .transpose("noise_std", "rebalance")
        .to_numpy()
    )
    assert 0 < changed[0, 1] < 300
    assert changed[[0, 1, 1], [0, 0, 1]].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"max_rank": 6}, "max_rank must be at most cols = 5, got 6"),
        ({"true_rank": 6}, "true_rank must be at most cols = 5, got 6"),
        ({"measurements": 0}, "measurements must be at least 1, or None"),
        ({"cols": 5.5}, "cols must be a whole number, got 5.5"),
        ({"spectrum": "flat"}, "spectrum must be one of linear, geometric, got 'flat'"),
    ],
)
def test_bad_sizes_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        asymmetric_gd(**(SMALL | changes))
    assert "\n" not in str(raised.value)
