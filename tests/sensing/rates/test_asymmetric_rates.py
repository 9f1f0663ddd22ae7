"""Theory against simulation: the linear rate, its least curvature, and finite measurements."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.sensing import (
    asymmetric_gd,
    asymmetric_linear_rate,
    finite_rate_edge,
    finite_rate_factor,
    slowest_curvature,
)
from theory_sim.sensing.asymmetric import Hyper
from theory_sim.simulation import rollout


@pytest.mark.parametrize("rank", [2, 4], ids=["exact", "over"])
def test_late_rate_is_that_of_the_slowest_excited_curvature(rank):
    simulation = asymmetric_gd(rows=12, cols=10, true_rank=2, max_rank=4)
    problem = simulation.sample(jax.random.key(0), simulation.setting._replace(condition_number=2.0))
    scales = jnp.array([0.0, 0.3, 0.6, 0.9, 1.0, 2.0])
    hyper = Hyper(jnp.full(6, rank), jnp.full(6, 0.2), jnp.full(6, 0.7), scales, jnp.zeros(6), jnp.zeros(6))
    # The last steps are far enough for one mode to be left, and before rounding.
    steps = np.arange(0, 6000, 20)
    result = jax.jit(jax.vmap(rollout(simulation, steps), (0, None, 0)))(
        jax.random.split(jax.random.key(1), 6), problem, hyper
    )
    curvature = slowest_curvature(
        *(result.conclusions[f"{name}_curvature"] for name in ("tail", "left", "right")), scales
    )
    for error, predicted in zip(
        np.asarray(result.records["error"]), asymmetric_linear_rate(0.2, curvature), strict=True
    ):
        late = np.flatnonzero(error > 1e-12)[-8:]
        slope = np.diff(np.log(error[late[[0, -1]]]))[0] / (steps[late[-1]] - steps[late[0]])
        # What is left of the next mode steepens it, by its gap at most.
        assert slope == pytest.approx(predicted, rel=0.03)


def test_imbalance_changes_at_second_order_in_the_step_size():
    simulation = asymmetric_gd(rows=8, cols=8, true_rank=2, max_rank=3)
    problem = simulation.sample(jax.random.key(0), simulation.setting)
    drifts = []
    for step_size in (0.01, 0.005):
        hyper = Hyper(3, step_size, 0.7)
        state = simulation.init(jax.random.key(1), problem, hyper)
        after = simulation.step(jax.random.key(0), problem, hyper, state)
        drifts.append(float(simulation.observe(problem, hyper, after)["drift"]))
    assert drifts[0] / drifts[1] == pytest.approx(4, rel=1e-6)


def test_finite_rate_factor_counts_the_tangent_space():
    assert finite_rate_factor(100, 6, 5, 2) == pytest.approx(1 - 18 / 100)
    assert finite_rate_factor(1e12, 6, 5, 2) == pytest.approx(1)


def test_finite_rate_edge_is_the_smallest_eigenvalue_of_a_wishart_matrix():
    draw = np.random.default_rng(0)
    # n = 22, r = 2, k = 12: 84 tangent and 200 slow directions.
    samples, slow = 800 - 84, 200
    edges = [np.linalg.svd(draw.normal(size=(samples, slow)))[1][-1] ** 2 / 800 for _ in range(10)]
    # The smallest eigenvalue lies above the edge by the mean of the Tracy-Widom law, 1.2 (D/m)^(-1/6) D^(-2/3) or so.
    assert np.mean(edges) == pytest.approx(finite_rate_edge(800, 22, 22, 2, 12), rel=0.06)
    assert np.mean(edges) > finite_rate_edge(800, 22, 22, 2, 12)
    assert finite_rate_edge(90, 22, 22, 2, 12) == 0
