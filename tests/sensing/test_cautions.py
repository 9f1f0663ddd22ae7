"""Step sizes beyond the bound of each method are cautioned, and it is there that a run stops converging."""

from functools import partial

import jax
import numpy as np
import pytest

from theory_sim.sensing import (
    gauss_newton,
    prec_gd,
    scaled_gd,
    symmetric_gd,
    weight_normalized,
)
from theory_sim.simulation import trajectory

SIZES = {"dim": 8, "true_rank": 2, "max_rank": 2}
CASES = {
    "symmetric_gd": (partial(symmetric_gd, **SIZES), "step_size", 1.0),
    "scaled_gd": (partial(scaled_gd, **SIZES), "step_size", 1.1),
    "prec_gd": (partial(prec_gd, **SIZES), "step_size", 1.0),
    "gauss_newton": (partial(gauss_newton, **SIZES), "step_size", 2.0),
    "weight_normalized core": (partial(weight_normalized, **SIZES), "core_step_size", 4.0),
    "weight_normalized": (partial(weight_normalized, **SIZES), "step_size", 2.0),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_converges_below_the_bound_that_is_cautioned_and_not_above(name):
    factory, axis, bound = CASES[name]
    simulation = factory()
    problem = simulation.sample(jax.random.key(3), simulation.setting)
    steps = np.array([0.95, 1.05]) * bound
    run = jax.jit(jax.vmap(trajectory(simulation, [0, 600]), (None, None, 0)))
    hyper = jax.tree.map(lambda x: np.full(2, x, float), simulation.hyper)
    errors = run(jax.random.key(1), problem, hyper._replace(**{axis: steps}))["error"][:, -1]
    assert errors[0] < 1e-6
    assert not errors[1] < 1e-3
    for step, told in zip(steps, (False, True), strict=True):
        masks = simulation.caution(simulation.setting, simulation.hyper._replace(**{axis: step}))
        assert any(np.any(mask) for mask in masks.values()) is told


def test_few_measurements_make_the_core_of_the_weight_normalised_method_unstable_at_smaller_steps():
    simulation = weight_normalized(**SIZES, measurements=20)
    (core, _) = simulation.caution(simulation.setting, simulation.hyper._replace(core_step_size=2.4)).values()
    assert core  # 2.4 (1 + sqrt(3/20))^2 = 4.6
