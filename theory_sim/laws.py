"""How far samples are from a law: Kolmogorov's distance with its interval, and what it is for samples of that law.

>>> import scipy.stats
>>> laws, draws = [scipy.stats.beta(4, 1), scipy.stats.beta(1, 4)], np.random.default_rng(0)
>>> samples = np.stack([law.rvs(512, random_state=draws) for law in laws], axis=1)
>>> bool(np.all(law_distance(samples, laws).low < right_law_distance(512, 2)))
True
>>> bool(np.all(law_distance(samples, laws[::-1]).low > right_law_distance(512, 2)))
True
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import kolmogi

from theory_sim.estimate import Estimate, bootstrap, resampled

LEVELS = np.linspace(0.05, 0.95, 19)
"""Where distributions are compared."""


def law_distance(samples: Float[np.ndarray, "seeds laws"], laws: Sequence[Any]) -> Estimate:
    """Estimate the Kolmogorov distance between each column of samples and its law, a scipy distribution.

    Each sample is mapped through the law of its own column, and is then uniform; the distance is the largest at 19
    levels. No column is averaged with another, where errors of opposite sign would cancel.
    """
    mapped = np.stack([law.cdf(column) for law, column in zip(laws, samples.T, strict=True)], axis=1)
    below, count = (mapped[..., None] <= LEVELS).astype(float), len(mapped)
    if count < 2:
        return bootstrap(np.abs(below - LEVELS).max(axis=-1))

    def distance(seeds: np.ndarray) -> np.ndarray:
        # How often each seed was drawn, times what it adds: a copy of all draws would be a gigabyte.
        times = np.apply_along_axis(np.bincount, -1, seeds, minlength=count)
        return np.abs(np.tensordot(times / count, below, 1) - LEVELS).max(axis=-1)

    doubts = bootstrap(samples).doubts  # too few seeds, or some that are not finite
    return Estimate(distance(np.arange(count)), *resampled(count, distance), doubts=doubts)


def right_law_distance(seeds: int, laws: int = 1) -> float:
    """Return what the intervals of the distances from `laws` right laws begin below, all together in 95% of draws.

    Kolmogorov's distance at a `laws`-th of 5% (Bonferroni), `c / sqrt(seeds)`, times sqrt(2) for the resampling of the
    bootstrap. An interval that begins above it refutes a law; one that only ends above it is inconclusive, as those of
    some right laws are. Infinity without a seed.
    """
    return float(kolmogi(0.05 / laws) * np.sqrt(2 / seeds)) if seeds else float("inf")
