"""Kolmogorov's distance to planted laws, its interval, and how far samples of the right law are."""

import numpy as np
import pytest
import scipy.stats

from theory_sim import bootstrap, law_distance, right_law_distance
from theory_sim.laws import LEVELS

LAWS = [scipy.stats.beta(4, 1), scipy.stats.beta(1, 4)]


def drawn(seeds=200, laws=LAWS, seed=0):
    draws = np.random.default_rng(seed)
    return np.stack([law.rvs(seeds, random_state=draws) for law in laws], axis=1)


def test_the_distance_is_the_largest_between_shares_and_levels_with_their_bootstrap():
    samples = drawn(7)
    shares = np.stack(
        [column[:, None] <= law.ppf(LEVELS) for law, column in zip(LAWS, samples.T, strict=True)], axis=1
    )
    direct = bootstrap(shares, lambda rows, axis: np.abs(rows.mean(axis=axis) - LEVELS).max(axis=-1))
    found = law_distance(samples, LAWS)
    for ours, theirs in zip(found[:3], direct[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_a_wrong_law_is_refuted_and_the_right_one_is_not():
    bound = right_law_distance(200, 2)
    close = [law_distance(drawn(seed=seed), LAWS) for seed in range(20)]
    assert not any((found.low > bound).any() for found in close)
    assert sum(bool((found.high <= bound).all()) for found in close) >= 12
    assert (law_distance(drawn(), LAWS[::-1]).low > bound).all()


def test_errors_of_opposite_sign_do_not_cancel():
    higher, lower = scipy.stats.beta(4, 2), scipy.stats.beta(2, 4)
    samples = drawn(512, [higher, lower])
    wrong = scipy.stats.beta(3, 3)
    assert (law_distance(samples, [wrong, wrong]).low > right_law_distance(512, 2)).all()


def test_the_right_laws_distance_falls_with_the_seeds_and_grows_with_the_laws():
    assert right_law_distance(100) == pytest.approx(1.358 * np.sqrt(2 / 100), rel=1e-3)
    assert right_law_distance(400) == pytest.approx(right_law_distance(100) / 2)
    assert right_law_distance(100, 9) > right_law_distance(100)
    assert right_law_distance(0) == np.inf


@pytest.mark.parametrize(
    ("seeds", "doubt"),
    [(0, "no seed was computed at all of these cells"), (1, "one seed: no interval"), (3, "3 seeds: ")],
)
def test_few_seeds_are_doubted(seeds, doubt):
    found = law_distance(drawn(seeds), LAWS)
    assert np.shape(found.value) == (2,)
    assert found.doubts[0].startswith(doubt)


def test_a_sample_that_is_not_finite_is_doubted():
    samples = drawn()
    samples[3, 1] = np.nan
    assert law_distance(samples, LAWS).doubts == ("1 of 200 runs are not finite",)


def test_a_law_is_needed_for_each_column():
    with pytest.raises(ValueError, match="argument 2 is longer"):
        law_distance(drawn(), LAWS[:1])
