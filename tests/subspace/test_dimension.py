"""The intrinsic dimension of planted curves, its interval, and what few numbers describe and bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_sim import Estimate, crossing
from theory_sim.subspace import (
    compression,
    description_length,
    generalization_bound,
    intrinsic_dimension,
    log_dimension_ratio,
    solution_dimensions,
    solved_dimension,
)

DIMS = np.array([10, 20, 40, 80])


def saturating(scale, seeds=40, noise=0.01, dims=DIMS):
    draw = np.random.default_rng(0)
    return 1 - np.exp(-dims / scale) + noise * draw.normal(size=(seeds, len(dims)))


def test_a_planted_dimension_is_found_and_inside_its_interval():
    fine = np.arange(10, 200, 2)
    found = intrinsic_dimension(fine, saturating(20.0, dims=fine))
    planted = 20 * np.log(10)
    assert found.low < planted < found.high
    assert found.value == pytest.approx(planted, rel=0.05)
    assert found.window == "0.9 of the baseline, linear between 95 dimensions, 10 to 198"


def test_with_a_global_baseline_it_is_the_crossing_of_the_mean_curve():
    scores = saturating(20.0)
    ours, theirs = intrinsic_dimension(DIMS, scores), crossing(DIMS, scores, 0.9)
    np.testing.assert_allclose(ours[:3], theirs[:3], rtol=1e-12)
    assert Estimate(*ours).window == ours.window


@given(st.floats(0.2, 1.0), st.floats(0.5, 1.0))
def test_an_individual_baseline_is_a_threshold_on_the_mean(direct, share):
    scores = saturating(20.0, seeds=5)
    found = intrinsic_dimension(DIMS, scores, baseline=np.full(5, direct), share=share)
    assert found.value == pytest.approx(crossing(DIMS, scores, share * direct).value)


def test_scores_and_baseline_of_a_seed_are_drawn_together():
    """Seeds differ by a factor in all they do: the ratio is certain, the scores are not."""
    factors = np.random.default_rng(1).uniform(0.5, 1.0, size=(30, 1))
    scores = factors * (1 - np.exp(-DIMS / 20))
    own = intrinsic_dimension(DIMS, scores, baseline=factors[:, 0])
    alone = intrinsic_dimension(DIMS, scores, baseline=float(factors.mean()))
    assert own.high - own.low < 1e-9 < 1 < alone.high - alone.low


def test_the_dimension_from_which_the_median_is_high_is_not_interpolated():
    scores = np.array([[0.0, 0.2, 0.95, 1.0]] * 5)
    assert solved_dimension(DIMS, scores)[:3] == (40, 40, 40)
    scores[:2, 2] = 0.0  # two runs of five fail
    assert solved_dimension(DIMS, scores).value == 40
    scores[2, 2] = 0.0
    assert solved_dimension(DIMS, scores).value == 80
    assert solved_dimension(DIMS, scores, level=2.0)[:3] == (np.inf, np.inf, np.inf)


def test_solutions_begin_where_every_draw_of_every_kind_holds_one():
    missed = np.full((5, 2, 4), 1e-30)
    missed[..., :2] = 0.3
    np.testing.assert_array_equal(solution_dimensions(DIMS, missed).value, [20, 40])
    missed[1, 1, 1], missed[2, 0, 2] = 1e-30, 0.1  # one holds a solution earlier, one later
    np.testing.assert_array_equal(solution_dimensions(DIMS, missed).value, [10, 80])
    np.testing.assert_array_equal(solution_dimensions(DIMS, np.full((5, 2, 4), 1e-17)).value, [0, np.inf])


def test_what_is_not_reached_is_infinite_and_what_comes_first_is_doubted():
    never = intrinsic_dimension(DIMS, saturating(1000.0))
    assert never[:3] == (np.inf, np.inf, np.inf)
    at_once = intrinsic_dimension(DIMS, saturating(1.0))
    assert at_once.value == 10
    assert "lies below" in at_once.doubts[0]
    alone = intrinsic_dimension(DIMS, saturating(20.0, seeds=1))
    assert alone.doubts == ("one seed: no interval",)
    broken = saturating(20.0)
    broken[3, 2] = np.nan
    assert intrinsic_dimension(DIMS, broken).doubts == ("some runs are not finite",)


def test_the_ratio_of_two_dimensions_is_planted():
    fine = np.arange(5, 300, 5)
    ratio = log_dimension_ratio(fine, saturating(20.0, dims=fine), saturating(30.0, dims=fine))
    assert ratio.low < np.log(1.5) < ratio.high
    same = saturating(20.0)
    assert log_dimension_ratio(DIMS, same, same)[:3] == (0.0, 0.0, 0.0)
    assert log_dimension_ratio(DIMS, same, saturating(1000.0)).low == np.inf
    halved = log_dimension_ratio(DIMS, same, same / 2, baselines=(np.ones(40), np.full(40, 0.5)))
    assert halved[:3] == pytest.approx((0, 0, 0), abs=1e-12)


@pytest.mark.parametrize(
    ("dims", "scores", "baseline", "message"),
    [
        ([10, 10], np.ones((2, 2)), 1.0, "dims must increase"),
        ([10, 20], np.ones((2, 3)), 1.0, r"scores must be \[seeds, 2 dims\], got shape \(2, 3\)"),
        ([10, 20], np.ones((2, 2)), np.ones(3), "baseline must be a number or one for each of 2 seeds"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(dims, scores, baseline, message):
    with pytest.raises(ValueError, match=message):
        intrinsic_dimension(dims, scores, baseline=baseline)


def test_a_description_counts_the_numbers_and_the_seeds():
    assert description_length(750) == 32 * 752
    assert description_length(750, levels=16, seeds=0) == 3000
    assert 32 * 199_210 / description_length(750) == pytest.approx(compression(199_210, 750))
    with pytest.raises(ValueError, match="levels >= 2, got 5, 2 and 1"):
        description_length(5, levels=1)


def test_the_bound_holds_for_the_worst_of_all_functions():
    """m coin flips for each of r^d functions: the largest deviation exceeds the bound with probability <= failure."""
    draw = np.random.default_rng(0)
    dim, levels, examples, trials = 3, 4, 200, 400
    errors = draw.binomial(examples, 0.5, size=(trials, levels**dim)) / examples
    deviation = (0.5 - errors).max(axis=1)
    bound = generalization_bound(dim, levels, examples)
    assert np.mean(deviation > bound) < 0.05
    assert np.mean(deviation > bound / 2) > 0.5
    assert bound == pytest.approx(np.sqrt((3 * np.log(4) + np.log(20)) / 400))
    np.testing.assert_allclose(
        generalization_bound([4, 16], 2, 10**9, failure=1 - 1e-9)[1]
        / generalization_bound(4, 2, 10**9, failure=1 - 1e-9),
        2,
    )
    # A scale chosen by the data among s costs log s: as much as one more number of s values.
    np.testing.assert_allclose(generalization_bound(5, 7, 40, scales=7), generalization_bound(6, 7, 40))
    with pytest.raises(ValueError, match="levels >= 2"):
        generalization_bound(3, 1, 10)
    with pytest.raises(ValueError, match=r"scales >= 1 .* got .*, 0, 0\.05"):
        generalization_bound(3, 2, 10, scales=0)


def test_interpolation_in_the_logarithm_finds_a_planted_power_law():
    # Accuracies linear in log d: the dimension at which they are 0.9 is theirs whatever the grid.
    generator = np.random.default_rng(0)
    shifts = 0.02 * generator.normal(size=(8, 1))
    few, many = np.array([20, 40, 90]), np.array([100, 400, 500])
    planted = [0.9 + 0.2 * np.log(dims / at) + shifts for dims, at in ((few, 50), (many, 200))]
    exact = log_dimension_ratio(few, *planted, others=many, logarithmic=True)
    assert abs(exact.value - np.log(4)) < 1e-12
    assert exact.high - exact.low < 1e-12
    assert abs(intrinsic_dimension(few, planted[0], logarithmic=True).value / 50 - 1) < 0.1
    # Linear interpolation misses it by what the grid makes of the curve.
    assert abs(log_dimension_ratio(few, *planted, others=many).value - np.log(4)) > 0.02


def test_a_second_curve_has_its_own_dimensions():
    scores = np.tile([0.5, 0.8, 1.0], (3, 1))
    ratio = log_dimension_ratio([10, 20, 30], scores, scores, others=[20, 40, 60])
    np.testing.assert_allclose(ratio.value, np.log(2))
    below = log_dimension_ratio([10, 20, 30], scores, scores + 0.45, others=[20, 40, 60])
    assert "reached at the first dimension: it lies below" in below.doubts
    with pytest.raises(ValueError, match=r"scores must be \[seeds, 2 dims\]"):
        log_dimension_ratio([10, 20, 30], scores, scores, others=[20, 40])
