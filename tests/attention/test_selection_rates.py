"""Theory against simulation: norms, losses and directions of the three rules, with their constants."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.attention import (
    direction_error_curve,
    gradient_excess_loss,
    gradient_norm_slope,
    normalized_loss_rate,
    normalized_norm,
    polyak_loss_rate,
    polyak_norm,
    stall_norm,
    token_selection,
)
from theory_sim.attention.selection_direction import compare
from theory_sim.attention.selection_gradient import log_attention
from theory_sim.attention.token_selection import Hyper
from theory_sim.simulation import log_spaced, rollout

STEPS = log_spaced(20_000, per_decade=12)
SIZES = {"normalized": 0.2, "published": 0.2, "gradient": 5.0, "polyak": 0.2}
RUNS = 6


@pytest.fixture(scope="module")
def found():
    """Six problems by every rule, three starts from zero and three from weights of norm one half."""

    scales = jnp.repeat(jnp.array([0.0, 0.5]), RUNS // 2) / jnp.sqrt(8.0)
    seeds = jnp.arange(RUNS)
    plain = token_selection(inputs=2, tokens=3, dim=8)
    sample = partial(plain.sample, setting=plain.setting._replace(score_spread=0.0))
    problems = jax.vmap(sample)(jax.vmap(jax.random.key)(seeds))

    def runs(rule):
        simulation = token_selection(inputs=2, tokens=3, dim=8, rule=rule)

        def observe(problem, hyper, state):
            return {**simulation.observe(problem, hyper, state), "weights": state.weights}

        run = rollout(simulation._replace(observe=observe, conclude=None), STEPS)
        one = lambda seed, problem, scale: run(jax.random.key(seed), problem, Hyper(SIZES[rule], scale))  # noqa: E731
        return jax.jit(jax.vmap(one))(seeds + 100, problems, scales).records

    # One program concludes for all rules, that of a single simulation each would take four times as long to compile.
    conclude = jax.jit(jax.vmap(partial(compare, loss="logistic")))
    results = {}
    for rule in SIZES:
        records = runs(rule)
        last = jax.vmap(log_attention)(problems, records["weights"][:, -1])
        results[rule] = records | conclude(problems, records["weights"], jnp.argmax(last, axis=2))
    return jax.tree.map(np.asarray, results)


def test_every_rule_selects_the_optimal_tokens(found):
    for rule, runs in found.items():
        assert runs["global"].all(), rule
        assert runs["local"].all(), rule
        assert runs["feasible"].all(), rule


def offset(runs):
    """A bound of what bounded starts and residuals change of the norm: a few times the residual and the margin norm."""
    return 10 * (1 + runs["residual_limit"] + runs["margin_norm"])


def test_normalised_steps_add_up(found):
    runs = found["normalized"]
    missing = normalized_norm(STEPS[-1], SIZES["normalized"]) - runs["norm"][:, -1]
    assert np.all(np.abs(missing) < offset(runs))
    late = (runs["log_excess_loss"][:, -1] - runs["log_excess_loss"][:, -2]) / (STEPS[-1] - STEPS[-2])
    np.testing.assert_allclose(
        late, normalized_loss_rate(SIZES["normalized"], runs["margin_norm"]), rtol=1e-4
    )


def test_polyak_steps_have_the_length_of_the_margin(found):
    runs = found["polyak"]
    missing = polyak_norm(STEPS[-1], SIZES["polyak"], runs["margin_norm"]) - runs["norm"][:, -1]
    assert np.all(np.abs(missing) < offset(runs))
    late = (runs["log_excess_loss"][:, -1] - runs["log_excess_loss"][:, -2]) / (STEPS[-1] - STEPS[-2])
    np.testing.assert_allclose(late, polyak_loss_rate(SIZES["polyak"]), rtol=1e-4)


def test_gradient_descent_has_the_constant_of_the_loss_and_the_slope_of_the_norm(found):
    runs = found["gradient"]
    curve = gradient_excess_loss(STEPS[-1], SIZES["gradient"], runs["margin_norm"])
    share = np.exp(runs["log_excess_loss"][:, -1]) / curve
    # Above by the share of a first delay, some 100 steps of 20 000, in all; below by the squared sine of the angle that
    # is left between the gradient and the margin direction, 0.3 at most.
    assert np.all(share < 1.01)
    assert np.all(share > 0.9)
    slope = (runs["norm"][:, -1] - runs["norm"][:, -2]) / np.log(STEPS[-1] / STEPS[-2])
    np.testing.assert_allclose(slope, gradient_norm_slope(runs["margin_norm"]), rtol=0.1)


@pytest.mark.parametrize("rule", ["normalized", "polyak"])
def test_residual_and_direction_reach_their_constants(found, rule):
    runs = found[rule]
    np.testing.assert_allclose(runs["residual"][:, -1], runs["residual_limit"], rtol=1e-4)
    curve = direction_error_curve(runs["norm"][:, -1], runs["residual_limit"])
    # Started from zero with support tokens alone, the weights have no other part; in general the curve is a bound.
    whole = (runs["support_share"] == 1) & (np.arange(RUNS) < RUNS // 2)
    assert whole.any()
    np.testing.assert_allclose(runs["direction_error"][whole, -1], curve[whole], rtol=1e-3)
    assert np.all(runs["direction_error"][:, -1] > 0.999 * curve)


def test_all_rules_go_along_one_path(found):
    """From the same start the rules differ in their speed alone, up to the curvature of the path in a step."""
    slow, fast = found["gradient"], found["normalized"]
    for run in range(RUNS):
        reached = fast["norm"][run]
        log_error = np.interp(
            np.log(slow["norm"][run, -1]), np.log(reached[1:]), np.log(fast["direction_error"][run, 1:])
        )
        if slow["norm"][run, -1] > reached[1]:
            assert slow["direction_error"][run, -1] == pytest.approx(np.exp(log_error), rel=0.15)


def test_the_published_rule_stalls_near_its_epsilon(found):
    runs = found["published"]
    stalled, free = runs["direction_error"][:, -1], found["normalized"]["direction_error"][:, -1]
    assert np.all(stalled > 3 * free)
    aligned = np.exp(runs["log_unselected"][:, -1]) < 1e-12
    assert aligned.all()
    assert np.all(found["normalized"]["norm"][:, -1] > 10 * stall_norm(runs["margin_norm"]))
