r"""Predictions for random max margin problems: the nuclear rank, when there is a solution, and with what support.

>>> int(largest_rank(60)), round(float(feasibility_inputs(6, 5))), round(float(support_dim(5, 5)))
(10, 28, 58)
"""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

DRAWS = 4000


def largest_rank(active: ArrayLike) -> NDArray[np.int64]:
    """Return the largest `r` with `r (r + 1) / 2 <= active`, which bounds the rank of a unique nuclear solution.

    Derived (AT-A-P6): let `W = U S V^T` have rank r, and S + E vary over symmetric matrices. With fewer constraints
    active than the `r (r + 1) / 2` entries of E, some E other than 0 changes none of them; it changes the norm by its
    trace, which optimality makes 0: the optimum is not unique.
    """
    found = np.floor((np.sqrt(8 * np.asarray(active, float) + 1) - 1) / 2 + 1e-9)
    return np.asarray(found, dtype=np.int64)


def feasibility_inputs(dim: int, tokens: int, *, unit: bool = True) -> float:
    """Return the number of sequences with random tokens up to which any of their tokens can be selected.

    Derived: a sequence allows the vectors `W z` of a convex cone `C` in `R^d`. With `n >= d` queries, `(W z_1, ..,
    W z_n)` runs over a subspace of dimension `d^2` of `R^(n d)`, which meets the product of the cones, of statistical
    dimension n delta(C), until `d^2 + n delta(C) = n d` (approximate kinematic formula, arXiv:1303.6672, Theorem I;
    the subspace is not uniformly random, so that this is no theorem here). Hence `n = d^2 / delta(C polar)`, with
    `delta(C) + delta(C polar) = d`, and never below d for unit tokens: any token of a sphere is the most aligned with
    itself, and `W z_i` is free for independent queries.
    """
    return max(dim**2 / polar_dimension(dim, tokens, unit), dim if unit else 0.0)


def support_dim(inputs: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
    """Return the dimension at which all tokens of half of the random problems are support tokens (B.1).

    Derived, for unit tokens and queries of large dimension d: the multipliers `K^-1 1` of a sequence of orthonormal
    tokens are `1/T`; to first order in products of tokens, `1/T - e_t (T-1)/T` with `e_t` of variance `1/d` from the
    selected token of the same sequence and `1/d^2` from that of each other one, taken as n for n - 1. All `n (T - 1)`
    are positive in half of the problems where `Phi(s)^(n (T-1)) = 1/2`, `s^-2 = (T-1)^2 (1/d + n/d^2)`: a quadratic
    equation for d.
    """
    inputs, others = np.asarray(inputs, float), np.asarray(tokens, float) - 1
    share = (others * ndtri(0.5 ** (1 / (inputs * others)))) ** 2
    return np.asarray((share + np.sqrt(share**2 + 4 * share * inputs)) / 2)


@cache
def polar_dimension(dim: int, tokens: int, unit: bool) -> float:
    """Return `E |P g|^2`, `P` projecting a Gaussian `g` on the cone of all `x_t - x_sel`, by Monte Carlo to 2%."""
    from scipy.optimize import nnls  # a quarter of a second, and no simulation needs it

    draw = np.random.default_rng(0)
    squares = []
    for _ in range(DRAWS):
        points = draw.normal(size=(tokens, dim))
        if unit:
            points /= np.linalg.norm(points, axis=1, keepdims=True)
        target = draw.normal(size=dim)
        _, distance = nnls((points[1:] - points[0]).T, target)
        squares.append(target @ target - distance**2)
    return float(np.mean(squares))
