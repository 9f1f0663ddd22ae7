import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import seeded
from theory_sim import (
    bootstrap,
    by_seed,
    cellwise,
    crossing,
    decay,
    exponent,
    first_reach,
    proportion,
    rate,
    time_to,
)

STEPS = np.geomspace(10, 10_000, 25)


def noisy(curve, *, seeds=12, noise=0.02, seed=0):
    return curve * np.exp(noise * np.random.default_rng(seed).normal(size=(seeds, len(curve))))


@given(st.floats(-3, 3).filter(lambda a: abs(a) > 0.05), st.floats(1e-5, 1e5), st.integers(0, 1000))
def test_exponent_recovers_a_planted_power(power, scale, seed):
    fit = exponent(STEPS, noisy(scale * STEPS**power, seed=seed, noise=1e-4), window=(10, 10_000))
    assert abs(fit.value - power) < 1e-4
    assert fit.doubts == ()


def test_the_interval_covers_a_planted_exponent_as_often_as_it_says():
    fits = [exponent(STEPS, noisy(STEPS**-1.0, seed=seed), window=(10, 10_000)) for seed in range(300)]
    covered = sum(bool(fit.low <= -1 <= fit.high) for fit in fits)
    # 95% nominal; a percentile bootstrap of 12 runs covers a little less. Fails below 88% with p < 1e-3.
    assert covered >= 265


@given(st.floats(0.001, 0.5))
def test_rate_recovers_a_planted_exponential(decay):
    steps = np.arange(0, 40)
    fit = rate(steps, noisy(np.exp(-decay * steps), noise=1e-5), window=(0, 39))
    assert abs(fit.value + decay) < 1e-4


def test_a_wrong_functional_form_is_doubted():
    exponential = noisy(np.exp(-STEPS / 2000), noise=1e-6)
    assert any("not straight" in doubt for doubt in exponent(STEPS, exponential, window=(10, 10_000)).doubts)
    power = noisy(STEPS**-1.0, noise=1e-6)
    assert any("not straight" in doubt for doubt in rate(STEPS, power, window=(10, 10_000)).doubts)


def test_a_window_at_the_edge_or_too_short_is_doubted():
    power = noisy(STEPS**-1.0, noise=1e-6)
    assert "the window reaches outside the record" in exponent(STEPS, power, window=(10, 1e6)).doubts
    assert "the window holds fewer than four points" in exponent(STEPS, power, window=(10, 15)).doubts
    assert "the window holds fewer than two points" in exponent(STEPS, power, window=(2, 3)).doubts


def test_one_seed_has_no_interval_and_a_lost_run_is_not_dropped():
    alone = bootstrap(np.array([[1.0, 2.0]]))
    assert np.isneginf(alone.low).all()
    assert alone.doubts == ("one seed: no interval",)
    lost = bootstrap(np.array([1.0, np.nan, 1.0]))
    assert np.isnan(lost.value)
    assert lost.doubts == ("1 of 3 runs are not finite",)


def test_bootstrap_agrees_with_scipy():
    samples = np.random.default_rng(1).gamma(2.0, size=40)
    ours = bootstrap(samples, np.median)
    wider = scipy.stats.norm.cdf(-np.sqrt(40 / 39) * scipy.stats.t.ppf(0.975, df=39))
    reference = scipy.stats.bootstrap(
        (samples,),
        np.median,
        method="percentile",
        confidence_level=1 - 2 * wider,
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    spread = reference.high - reference.low
    assert abs(ours.low - reference.low) < 0.15 * spread
    assert abs(ours.high - reference.high) < 0.15 * spread


@pytest.mark.parametrize("seeds", [5, 6, 8, 12])
def test_the_interval_of_few_seeds_covers_the_truth(seeds):
    # Plain percentiles cover it in 85, 86, 88 and 91% of cases; 1000 draws tell 95% to 0.7.
    drawn = np.random.default_rng(3).normal(size=(seeds, 1000))
    found = bootstrap(drawn)
    assert 0.91 < np.mean((found.low <= 0) & (found.high >= 0)) < 0.97


def test_the_interval_does_not_depend_on_the_order_of_few_seeds():
    samples = np.random.default_rng(5).normal(size=7)
    one, other = bootstrap(samples), bootstrap(samples[[3, 1, 6, 0, 5, 2, 4]])
    np.testing.assert_allclose(one[:3], other[:3], rtol=1e-12)


def test_the_interval_of_the_mean_is_student_s():
    samples = np.random.default_rng(4).normal(size=12)
    found = bootstrap(samples)
    student = scipy.stats.t.interval(0.95, 11, samples.mean(), scipy.stats.sem(samples))
    np.testing.assert_allclose([found.low, found.high], student, atol=0.08 * np.ptp(student))


@given(st.floats(0.1, 0.9), st.integers(2, 20))
def test_crossing_of_a_straight_line_is_exact(level, seeds):
    x = np.array([0.0, 1.0, 2.5, 4.0, 10.0])
    found = crossing(x, np.tile(x / 10, (seeds, 1)), level)
    np.testing.assert_allclose([found.value, found.low, found.high], 10 * level)


def test_each_curve_of_any_shape_first_reaches_its_own_level():
    x = np.array([0.0, 1.0, 3.0])
    curves = np.array([[[0.0, 1.0, 5.0], [2.0, 0.0, 9.0]], [[0.0, 0.2, 0.4], [0.0, 4.0, 0.0]]])
    np.testing.assert_allclose(first_reach(x, curves, 2.0), [[1.5, 0.0], [np.inf, 0.5]])
    np.testing.assert_allclose(first_reach(x, curves[:, 0], np.array([3.0, 0.3])), [2.0, 2.0])
    assert first_reach(x, curves[0, 0], 3.0) == 2.0


def test_a_level_never_reached_is_crossed_at_infinity_and_one_always_reached_is_doubted():
    x = np.arange(4.0)
    assert np.isinf(crossing(x, np.zeros((3, 4)), 0.5).value)
    first = crossing(x, np.ones((3, 4)), 0.5)
    assert first.value == 0
    assert first.doubts


def test_proportion_is_the_wilson_interval():
    found = proportion(np.arange(50) < 45)
    z = scipy.stats.norm.ppf(0.975)
    centre, width = (
        (0.9 + z**2 / 100) / (1 + z**2 / 50),
        z * np.sqrt(0.09 / 50 + z**2 / 10_000) / (1 + z**2 / 50),
    )
    np.testing.assert_allclose([found.low, found.high], [centre - width, centre + width])
    assert (found.value, found.window) == (0.9, "45 of 50")
    none = proportion(np.array([]))
    assert (np.isnan(none.value), none.low, none.high, none.doubts) == (True, 0, 1, ("no trial",))
    for bad in ([1.0, 2.0], [np.nan]):
        with pytest.raises(ValueError, match="needs numbers from 0 to 1"):
            proportion(np.array(bad))


def test_proportions_are_taken_one_by_one():
    trials = np.random.default_rng(0).random((30, 4, 2)) < 0.3
    found = proportion(trials)
    for index in np.ndindex(4, 2):
        single = proportion(trials[:, *index])
        assert [part[index] for part in found[:3]] == [single.value, single.low, single.high]


def test_cells_without_a_seed_computed_at_all_of_them_are_told_so():
    data = seeded()
    data["complete"][:2, :, 0] = False  # the seeds that the first value lacks are those that the second has
    data["complete"][2:, :, 1] = False
    nothing = seeded().isel(problem_seed=[3])
    told = ("no seed was computed at all of these cells",)
    for found in (bootstrap(by_seed(data, "x", "dim")), bootstrap(by_seed(nothing, "x"))):
        assert np.isnan(found.value).all()
        assert np.isneginf(found.low).all()
        assert found.doubts == told
    assert bootstrap(by_seed(data, "x", "dim")).value.shape == (2,)
    none = np.empty((0, 25))
    assert exponent(STEPS, none, window=(10, 10_000)).doubts == told
    assert crossing(STEPS, none, 0.5).doubts == told
    assert crossing([], none[:, :0], 0.5).doubts == told


@pytest.mark.parametrize(("values", "told"), [(0.0, "5 of 5 runs are zero"), (-1.0, "5 of 5 runs are zero")])
def test_a_curve_without_a_logarithm_is_told_so(values, told):
    found = rate(STEPS, np.full((5, 25), values), window=(10, 10_000))
    assert found.doubts[0].startswith(told)
    with pytest.raises(ValueError, match="must begin after step 0"):
        exponent(np.arange(10), np.ones((5, 10)), window=(0, 9))


@given(st.floats(2e-3, 0.05), st.floats(0.5, 2.0))
def test_decay_recovers_a_planted_rate_in_each_curve_s_own_window(slow, ratio):
    steps = np.arange(0, 40_000, 50)
    curves = np.exp(-np.outer([slow, slow * ratio], steps))[None]
    rates = decay(steps, curves, between=(1e-3, 1e-9))
    np.testing.assert_allclose(rates, [[slow, slow * ratio]], rtol=1e-6)
    np.testing.assert_allclose(time_to(steps, curves, 1e-3)[0, 0], np.log(1e3) / slow, rtol=1e-6)


def test_a_level_that_is_not_reached_has_no_time_and_no_rate():
    steps, curves = np.arange(5), np.array([[1, 0.5, 0.25, 0.2, 0.2], [1e-3, 1e-3, 1e-3, 1e-3, np.nan]])
    assert time_to(steps, curves, 0.1).tolist() == [np.inf, 0.0]
    assert np.isnan(decay(steps, curves, between=(0.5, 0.1))[0])
    with pytest.raises(ValueError, match=r"decay needs levels high > low > 0, got 0\.1 and 0\.5"):
        decay(steps, curves, between=(0.1, 0.5))


def test_times_are_where_the_log_of_a_curve_crosses():
    errors = 0.5 ** np.arange(20)
    assert time_to(np.arange(20), errors, 0.5**7.25) == pytest.approx(7.25)
    assert time_to(np.arange(0, 20, 5), errors[::5], 0.5**7.25) == pytest.approx(7.25)
    assert time_to(np.arange(4), [1.0, 0.1, 1.0, 0.01], 0.1) == pytest.approx(1.0)


def test_cellwise_measures_computed_cells_alone_and_collects_their_doubts():
    values = np.arange(24.0).reshape(2, 3, 4)
    complete = np.ones((2, 3, 4), bool)
    complete[1, 2] = False
    dims = ("rank", "step_size", "problem_seed")
    data = xr.Dataset(
        {"error": (dims, values), "complete": (dims, complete)},
        {"rank": [1, 2], "step_size": [0.1, 0.2, 0.3]},
    )

    def measure(cell):
        doubts = ("large",) if float(cell["rank"]) == 2 else ()
        return bootstrap(by_seed(cell, "error"))._replace(doubts=doubts)

    all_cells = cellwise(measure)(data)
    np.testing.assert_allclose(all_cells.value, values.mean(axis=2).ravel()[:5])
    assert all_cells.doubts == ("large",)
    assert cellwise(measure)(data.sel(rank=1, step_size=0.2)).value.tolist() == [5.5]

    def over_steps(cell):
        assert cell.sizes == {"step_size": 3, "problem_seed": 4}
        return bootstrap(by_seed(cell, "error", "step_size"))

    assert cellwise(over_steps, keep=["step_size"])(data.sel(rank=[1])).value.tolist() == [1.5, 5.5, 9.5]
