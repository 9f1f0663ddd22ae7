r"""Predictions for subspace training: laws, moments and counts that the simulations are compared with.

Pure functions of numbers; nothing here is simulated.
"""

from collections.abc import Sequence
from typing import NamedTuple

import scipy.stats
from scipy.stats._distn_infrastructure import rv_frozen


class GramMoments(NamedTuple):
    """Moments of the entries of `P^T P`: the diagonal has mean 1, the rest mean 0."""

    norm_variance: float
    inner_product_variance: float


def reachable_loss_law(codimension: int, dim: int) -> rv_frozen:
    """Return the law of `best loss / initial loss` on a quadratic of codimension k: `Beta((k-d)/2, d/2)`.

    A scipy distribution with `mean()`, `cdf`, `ppf`, ...; its mean is `1 - d/k`. At dim >= codimension the ratio
    is exactly 0 and no density exists: ValueError unless 1 <= dim < codimension. SU-A1-1, derived: with Gaussian
    P the reachable residuals form a uniformly oriented d-dimensional subspace of R^k, and the squared sine of the
    angle between a fixed vector and it is a ratio of chi-squares with k-d and k degrees of freedom.
    """
    if not 1 <= dim < codimension:
        raise ValueError(f"dim must lie between 1 and codimension-1={codimension - 1}, got {dim}")
    return scipy.stats.beta((codimension - dim) / 2, dim / 2)


def gram_moments(projection: str, ambient: int) -> GramMoments:
    """Return the variances of squared column norms and of inner products of two columns of P, with D = `ambient`.

    dense: 0 and 1/D, exact. fastfood: `2 (1/D - 1/L)` and `1/D + 1/L`, leading order in 1/D, with L the least
    power of two >= D. Source: derived in SU-A1-F7. Raises ValueError for another projection.
    """
    size = 1 << (ambient - 1).bit_length()
    if projection == "dense":
        return GramMoments(0.0, 1 / ambient)
    if projection == "fastfood":
        return GramMoments(2 * (1 / ambient - 1 / size), 1 / ambient + 1 / size)
    raise ValueError(f"unknown projection {projection!r}, expected 'dense' or 'fastfood'")


def mlp_parameter_count(inputs: int, widths: Sequence[int]) -> int:
    """Return the number of weights and biases of a fully connected network (SU-A1-C1).

    >>> mlp_parameter_count(784, [200, 200, 10])
    199210
    """
    return sum((a + 1) * b for a, b in zip([inputs, *widths[:-1]], widths, strict=True))


def compression(ambient: int, dim: int, seeds: int = 2) -> float:
    """Return how many times shorter a subspace solution is than the D weights: `D / (d + seeds)`.

    The description is d numbers and the seeds of theta_0 and of P. Source: arXiv:1804.08838, abstract (an upper
    bound on the minimum description length); SU-A1-F5, derived.
    """
    return ambient / (dim + seeds)
