r"""Predictions for subspace training: laws, moments and counts that the simulations are compared with.

Pure functions of numbers; nothing here is simulated.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from theory_sim.subspace.sparse import column_entries


class GramMoments(NamedTuple):
    """Moments of the entries of `P^T P`: the diagonal has mean 1, the rest mean 0."""

    norm_variance: float
    inner_product_variance: float


def reachable_loss_law(codimension: int, dim: int, *, positive: bool = False) -> Any:
    """Return the law of `best loss / initial loss` on a quadratic of codimension k: `Beta((k-d)/2, d/2)`.

    A scipy distribution with `mean()`, `cdf`, `ppf`, ...; its mean is `1 - d/k`. At dim >= codimension the ratio
    is exactly 0 and no density exists: ValueError unless 1 <= dim < codimension. SU-A1-1, derived: with Gaussian
    P the reachable residuals form a uniformly oriented d-dimensional subspace of R^k, and the squared sine of the
    angle between a fixed vector and it is a ratio of chi-squares with k-d and k degrees of freedom.

    With `positive`, the law of a one-hot P of positive entries on the targets 1 .. k, from d = 2: its columns always
    reach the all-ones direction, and to leading order in k/D the other d - 1 are uniformly oriented in the k - 1
    dimensions orthogonal to it. Of the targets, `1 - c^2` lies there (`c^2 = 3 (k+1) / (2 (2k+1))`), hence
    `(1 - c^2) Beta((k-d)/2, (d-1)/2)`, with mean `(1 - c^2) (k-d)/(k-1)`: (10-d)/42 for k = 10 (SU-A3-3, its mean
    exact by exchangeability of the groups). At d = 1 the ratio is `1 - c^2` itself.
    """
    if not 1 + positive <= dim < codimension:
        least = 1 + positive
        raise ValueError(f"dim must lie between {least} and codimension-1={codimension - 1}, got {dim}")
    if not positive:
        return scipy.stats.beta((codimension - dim) / 2, dim / 2)
    return scipy.stats.beta((codimension - dim) / 2, (dim - 1) / 2, scale=unaligned(codimension))


@lru_cache
def fastfood_loss_law(
    ambient: int, codimension: int, dim: int, *, draws: int = 20_000
) -> scipy.stats.rv_histogram:
    """Return the law of `best loss / initial loss` for the published Fastfood on coordinates grouped at random.

    Derived. `H G Pi H B` has no random signs on its left: the sum of all D entries of column j is
    `sum_l (1^T H)_l g_l s_lj`, with signs s. Of the squares of `1^T H`, the share D/L lies on the constant mode l = 0
    alone: up to signs, all columns share that part of their component along the all-ones direction. Orthogonal to
    it many modes meet, and the group sums are Gaussian to leading order. So S P has the span of a k x d Gaussian
    matrix whose first row is `sqrt(D/L) g (1 .. 1) + sqrt(1 - D/L) h`, the all-ones direction being the first; the
    targets 1 .. k have the share `1 - unaligned(k)` there. It is sampled, to a Kolmogorov distance of 0.01; at d = 1 it
    is Beta((k-1)/2, 1/2) exactly. Raises ValueError unless 1 <= dim < codimension.
    """
    if not 1 <= dim < codimension:
        raise ValueError(f"dim must lie between 1 and codimension-1={codimension - 1}, got {dim}")
    generator = np.random.default_rng(0)
    sums = generator.normal(size=(draws, codimension, dim))
    share = ambient / (1 << (ambient - 1).bit_length())
    common = generator.normal(size=(draws, 1))
    sums[:, 0] = math.sqrt(share) * common + math.sqrt(1 - share) * sums[:, 0]
    target = np.zeros(codimension)
    target[:2] = math.sqrt(1 - unaligned(codimension)), math.sqrt(unaligned(codimension))
    basis = np.linalg.qr(sums)[0]
    reached = np.einsum("nkd,k->nd", basis, target)
    ratios = 1 - np.sum(reached**2, axis=1)
    # Bins of equal mass, since the density is infinite at 1 for d = 1.
    edges = np.unique(np.quantile(ratios, np.linspace(0, 1, 401)))
    return scipy.stats.rv_histogram(np.histogram(ratios, bins=edges), density=False)


def unaligned(codimension: int) -> float:
    """Return the share of the targets 1 .. k orthogonal to the all-ones vector: `1 - (sum t)^2 / (k sum t^2)`.

    >>> round(42 * unaligned(10), 12)
    9.0
    """
    return 1 - 3 * (codimension + 1) / (2 * (2 * codimension + 1))


def condition_ratio(ambient: int, codimension: int, dim: int) -> float:
    """Return how much worse conditioned the group sums of a positive one-hot P are than those of a Gaussian P.

    The largest singular value is exactly `sqrt(D/k)`, against `1 + sqrt(d/k)` to leading order (the edge of a k x d
    Gaussian matrix with entries of variance 1/k); the smallest, for d > k, is the same to leading order. SU-A3-4.
    """
    return math.sqrt(ambient / codimension) / (1 + math.sqrt(dim / codimension))


def gram_moments(projection: str, ambient: int) -> GramMoments:
    """Return the variances of squared column norms and of inner products of two columns of P, with D = `ambient`.

    dense and sparse: 0 and 1/D, exact, since squared entries have mean 1/D and, given them, signs are random. one_hot
    and signed_one_hot: 0 and 0. fastfood: `2 (1/D - 1/L)` and `1/D + 1/L`, leading order in 1/D, with L the least
    power of two >= D. Source: derived in SU-A1-F7. Raises ValueError for another projection.
    """
    size = 1 << (ambient - 1).bit_length()
    match projection:
        case "dense" | "sparse":
            return GramMoments(0.0, 1 / ambient)
        case "one_hot" | "signed_one_hot":
            return GramMoments(0.0, 0.0)
        case "fastfood":
            return GramMoments(2 * (1 / ambient - 1 / size), 1 / ambient + 1 / size)
    raise _unknown(projection)


def projection_bytes(
    projection: str,
    ambient: int,
    dim: int,
    *,
    itemsize: int = 8,
    sizes: Sequence[int] | None = None,
    structure: str = "whole",
) -> int:
    """Return the memory that a projection holds, with floats of `itemsize` bytes: known before one is drawn.

    dense: 2 D d floats, its columns and its rows. sparse: an index of 4 bytes and a float for each place of each column
    (`column_entries`). fastfood: two indices and a float for each of L entries, and d + 1 floats. one_hot: two indices
    for each of D rows, a byte for its sign when it has one, and d.

    `sizes` are the numbers of parameters of the network's tensors; `structure` is that of `subspace_training`. A sparse
    projection of the whole has places in each tensor when `sizes` are given, as in training; "tensors" and
    "scaled_tensors" need them: the blocks of all tensors, of d coordinates, or of what the scales leave of them.
    Raises ValueError for another projection or structure, and for sizes that do not sum to D = `ambient`.

    >>> projection_bytes("dense", 199_210, 750, itemsize=4) / 1e6, projection_bytes("one_hot", 199_210, 750) / 1e6
    (1195.26, 1.593684)
    """
    if structure not in ("whole", "tensors", "scaled_tensors"):
        raise ValueError(f"unknown structure {structure!r}, expected whole, tensors or scaled_tensors")
    if (sizes is None and structure != "whole") or (sizes is not None and sum(sizes) != ambient):
        raise ValueError(f"the sizes of the tensors must sum to ambient={ambient}, got {sizes}")
    if structure == "scaled_tensors":
        dim -= len(sizes or ())
    # Positions and values are what the tensors of a whole sparse projection hold, each for itself.
    apart = structure != "whole" or projection == "sparse"
    return sum(
        _block_bytes(projection, size, dim, itemsize) for size in (sizes if apart and sizes else [ambient])
    )


def _block_bytes(projection: str, size: int, dim: int, itemsize: int) -> int:
    match projection:
        case "dense":
            return 2 * size * dim * itemsize
        case "sparse":
            return dim * column_entries(size) * (4 + itemsize)
        case "fastfood":
            return (1 << (max(size, dim) - 1).bit_length()) * (8 + itemsize) + (dim + 1) * itemsize
        case "one_hot":
            return 8 * size + 4
        case "signed_one_hot":
            return 9 * size + 4
    raise _unknown(projection)


def _unknown(projection: str) -> ValueError:
    known = ["dense", "fastfood", "one_hot", "signed_one_hot", "sparse"]
    return ValueError(f"unknown projection {projection!r}, expected one of {known}")


def adapter_spread(ambient: int, dim: int, *, rank: int, start: float) -> float:
    """Return the root mean square of the entries of B A when theta_d starts in U(-start, start), P being one-hot.

    `sqrt(rank) (start^2 / 3) d/D` to leading order (SU-A3-8): entries of theta_D have variance `start^2/3 d/D`. Two of
    them read one coordinate with probability `p = (D - d) / (d (D - 1))`, which makes the variance larger by
    `1 + 0.8 p + 3 (rank - 1) p^2`: a fourth moment of 9/5, and three pairings of the factors of two products.
    """
    coincidence = (ambient - dim) / (dim * max(ambient - 1, 1))
    more = 1 + 0.8 * coincidence + 3 * (rank - 1) * coincidence**2
    return math.sqrt(rank * more) * start**2 / 3 * dim / ambient


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
