"""Step sizes beyond the bound of each method are cautioned, and a run that does not converge is flagged."""

from functools import partial

import jax
import numpy as np
import pytest

from theory_sim import Sweep, run
from theory_sim.sensing import (
    asymmetric_gd,
    gauss_newton,
    prec_gd,
    scaled_gd,
    subgradient,
    symmetric_gd,
    weight_normalized,
)
from theory_sim.sensing.problems import settled
from theory_sim.sensing.symmetric import State
from theory_sim.simulation import Status, rollout

DIM, RANK = 12, 2
EXACT = {"dim": DIM, "true_rank": RANK, "max_rank": RANK}
OVER = EXACT | {"max_rank": 2 * RANK}
POLYAK = partial(subgradient, **EXACT, rule="polyak", start="orthogonal")


def spread(freedom, measurements=5 * DIM * RANK):
    """The factor on the curvature with `m = 5 n r`."""
    return (1 + np.sqrt(freedom / measurements)) ** 2


SYMMETRIC, CORE = spread((DIM + 1) * RANK / 2), spread(10)
CASES = {
    # method, axis, other hyperparameters, the bound in the population, and with m = 5nr
    "symmetric_gd": (partial(symmetric_gd, **EXACT), "step_size", {}, 1.0, 1 / SYMMETRIC),
    "asymmetric_gd": (
        partial(asymmetric_gd, rows=DIM, cols=DIM, true_rank=RANK, max_rank=RANK),
        "step_size",
        {"init_scale": 0.2},
        1.0,
        1 / spread(DIM * RANK),
    ),
    "scaled_gd": (partial(scaled_gd, **EXACT), "step_size", {}, 1.1, 1.1 / SYMMETRIC),
    "prec_gd": (partial(prec_gd, **EXACT), "step_size", {}, 1.0, 1 / SYMMETRIC),
    "gauss_newton": (partial(gauss_newton, **EXACT), "step_size", {}, 2.0, 2 / spread(DIM * RANK)),
    "weight_normalized": (
        partial(weight_normalized, **OVER),
        "step_size",
        {"core_step_size": 1.0},
        2.0,
        2 / spread((DIM - 2 * RANK) * RANK),
    ),
    "weight_normalized, core": (partial(weight_normalized, **OVER), "core_step_size", {}, 4.0, 4 / CORE),
    "subgradient": (POLYAK, "step_size", {"init_scale": 1.0}, 2.0, 2.0),
    "subgradient, scaled": (partial(POLYAK, scaled=True), "step_size", {"init_scale": 1.0}, 2.0, 2.0),
    "subgradient, l2": (partial(POLYAK, loss="l2"), "step_size", {"init_scale": 1.0}, 4.0, 4.0),
}


def only_what_is_asked(simulation):
    """The error and `converged` alone: what else a method concludes takes long to compile."""
    return simulation._replace(
        observe=lambda *given: {"error": simulation.observe(*given)["error"]},
        conclude=lambda *given: {"converged": simulation.conclude(*given)["converged"]},
    )


@pytest.mark.parametrize("measurements", [None, 5 * DIM * RANK])
@pytest.mark.parametrize("name", CASES)
def test_below_the_bound_a_run_recovers_and_above_it_is_cautioned_and_flagged(name, measurements):
    """With measurements the curvature is known up to the slack of Chevet's inequality: far above is 1.8 times."""
    factory, axis, others, population, finite = CASES[name]
    simulation = factory(measurements=measurements)
    bound, factors = (population, (0.95, 1.05)) if measurements is None else (finite, (0.75, 1.8))
    values = np.array(factors) * bound
    hypers = simulation.hyper._replace(**others)

    def ended(value):
        problem = simulation.sample(jax.random.key(3), simulation.setting)
        hyper = hypers._replace(**{axis: value})
        result = rollout(only_what_is_asked(simulation), [800])(jax.random.key(1), problem, hyper)
        return result.status, result.records["error"][-1]

    statuses, errors = jax.jit(jax.vmap(ended))(values)
    assert statuses[0] == Status.FINISHED
    assert errors[0] < 1e-6
    assert statuses[1] in (Status.NOT_CONVERGED, Status.DIVERGED, Status.NOT_FINITE)
    for value, told in ((0.999 * bound, False), (1.001 * bound, True)):
        masks = simulation.caution(simulation.setting, hypers._replace(**{axis: value}))
        assert any(np.any(mask) for mask in masks.values()) is told


def test_few_measurements_are_cautioned_and_a_cycle_is_not_called_finished(tmp_path):
    """The population's bound is 1: with 5nr measurements runs go round in a cycle well below it."""
    sweep = Sweep(
        simulation=symmetric_gd,
        shape={"dim": [20], "true_rank": [3], "max_rank": [3], "measurements": [300]},
        run={"step_size": [0.4, 0.8, 0.9], "init_scale": [0.3]},
        steps=[0, 1000],
    )
    told = r"2 of 3 cells: step_size \* \(1 \+ sqrt\(q/m\)\)\^2 >= 1, q = \(n \+ 1\) r/2: .* step_size=0.8"
    with pytest.warns(RuntimeWarning, match=told):
        summary = run(sweep, tmp_path / "out")
    assert summary.statuses == {Status.FINISHED: 1, Status.NOT_CONVERGED: 2}


def test_settled_is_about_one_step_of_any_factor():
    simulation = symmetric_gd(**EXACT)
    problem = simulation.sample(jax.random.key(0), simulation.setting)

    def ended(size, step_size):
        factor = size * problem.basis
        hyper = simulation.hyper._replace(step_size=step_size)
        return bool(
            settled(simulation.step, lambda s: s.factor @ s.factor.T, problem, hyper, State(factor, factor))
        )

    assert ended(1.0, 0.9)
    assert ended(0.6, 0.01)  # slow, and far from the target
    assert not ended(0.6, 0.9)  # cut where it grows fastest
    assert not ended(np.nan, 0.1)


def test_a_factor_that_changes_its_sign_at_every_step_is_not_settled():
    """Its square stands still, as it may under Polyak's rule with a step above the bound."""
    problem = symmetric_gd(**EXACT).sample(jax.random.key(0), symmetric_gd(**EXACT).setting)
    estimate = lambda factor: factor @ factor.T  # noqa: E731
    assert not settled(lambda key, problem, hyper, factor: -factor, estimate, problem, None, problem.basis)
    assert settled(lambda key, problem, hyper, factor: factor, estimate, problem, None, problem.basis)


def test_noise_and_schedules_are_finished_and_constant_steps_are_not():
    simulation = subgradient(**OVER, measurements=200)

    def status(decay):
        setting = simulation.setting._replace(noise_std=0.3)
        problem = simulation.sample(jax.random.key(0), setting)
        hyper = simulation.hyper._replace(step_size=0.15, init_scale=0.1, decay=decay)
        return rollout(simulation, [300])(jax.random.key(1), problem, hyper).status

    statuses = jax.jit(jax.vmap(status))(np.array([0.98, 1.0]))
    assert statuses.tolist() == [Status.FINISHED, Status.NOT_CONVERGED]


def test_a_scaled_schedule_that_cannot_make_good_its_first_step_is_cautioned():
    """`eta_0 (1 - rho) > 2 alpha^2`: with 0.15 and 0.98 below alpha = 0.039, at which one direction ends far off."""
    simulation = subgradient(dim=8, true_rank=1, max_rank=1, scaled=True)

    def last(scale):
        problem = simulation.sample(jax.random.key(0), simulation.setting)
        hyper = simulation.hyper._replace(init_scale=scale)
        return rollout(simulation, [800])(jax.random.key(1), problem, hyper).records["error"][0]

    scales = np.array([0.03, 0.05])
    errors = jax.jit(jax.vmap(last))(scales)
    assert errors[0] > 1 > 1e-4 > errors[1]
    (told,) = simulation.caution(simulation.setting, simulation.hyper._replace(init_scale=scales)).values()
    assert told.tolist() == [True, False]


def test_noise_that_may_prevent_the_change_of_factors_is_cautioned():
    """`||y||^2` is `||M*||^2 + noise^2`, 2 + noise^2 here: a change below 0.1 of it needs a noise below 0.142."""
    simulation = asymmetric_gd(rows=12, cols=10, true_rank=2, max_rank=4, measurements=150)
    setting = simulation.setting._replace(noise_std=np.array([0.0, 0.14, 0.15]))
    told = {}
    for beta in (0.0, 0.5):
        hyper = simulation.hyper._replace(rebalance=beta, step_size=0.05)
        messages = simulation.caution(setting, hyper)
        told[beta] = np.array(
            messages["noise_std > rebalance_below * ||y||: the factors may never be changed"]
        )
    assert told[0.5].tolist() == [False, False, True]
    assert not told[0.0].any()
