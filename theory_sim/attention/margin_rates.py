r"""Predictions for random max margin problems: the nuclear rank, when there is a solution, and with what support.

>>> int(largest_rank(60)), round(float(feasibility_inputs(6, 5))), round(float(support_dim(5, 5)))
(10, 28, 51)
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

    Derived, for unit tokens and queries of large dimension d, `e_tu` being products of tokens, of variance 1/d, and
    `e_t` those with the selected one. A sequence's own block of K is `I + 1 1^T + dK`, `dK_tu = e_tu - e_t - e_u` and
    `dK_tt = -2 e_t`; its multipliers `K^-1 1` are 1/T to zeroth order, and to first `(1 + (T-1) e_t - sum_u e_tu
    - (T-2)/T sum_u e_u + 1/T sum_uv e_uv) / T`, of variance `V / (T^2 d)` with `V = ((T^2 - 2T + 2)^2 + 2 (T-2)^3 +
    2 (T-2)(T-3)) / T^2`. Each other sequence adds `(T-1)^2 / (T^2 d^2)`. Taken as independent, all `n (T-1)` are
    positive in half of the problems where `Phi(s)^(n (T-1)) = 1/2`, `s^-2 = V/d + (n-1) (T-1)^2 / d^2`: a quadratic
    equation for d.
    """
    inputs, others = np.asarray(inputs, float), np.asarray(tokens, float) - 1
    share = ndtri(0.5 ** (1 / (inputs * others))) ** 2
    linear, constant = share * own_variance(tokens), share * (inputs - 1) * others**2
    return np.asarray((linear + np.sqrt(linear**2 + 4 * constant)) / 2)


def own_variance(tokens: ArrayLike) -> NDArray[np.float64]:
    """Return V of `support_dim`: the variance, times `T^2 d`, that a sequence's own tokens give its multipliers."""
    t = np.asarray(tokens, float)
    return np.asarray(((t**2 - 2 * t + 2) ** 2 + 2 * (t - 2) ** 3 + 2 * (t - 2) * (t - 3)) / t**2)


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
