r"""The max margin problems that attention converges to in direction, solved to a certified gap.

    (Att-SVM)   min ||W||    s.t.   (x_i,opt - x_it)^T W z_i >= 1    for all t != opt_i, all i

in the Frobenius norm for training of W, in the nuclear norm for `W = K Q^T` (arXiv:2308.16898; AT-A-M6). Everything is
jitted and may be mapped: under `jax.vmap` on a CPU, a few instances at a time are solved (`batching`).

>>> import jax
>>> import jax.numpy as jnp
>>> jax.config.update("jax_enable_x64", True)
>>> tokens, queries = jnp.array([[[1.0, 0.0], [0.0, 1.0]]]), jnp.array([[0.0, 2.0]])
>>> found = max_margin(tokens, queries, jnp.array([0]))
>>> (jnp.round(found.weights, 9) + 0.0).tolist(), bool(found.gap < 1e-8), bool(found.feasible)
([[0.0, 0.25], [0.0, -0.25]], True, True)
>>> bool(max_margin(jnp.ones((1, 2, 2)), queries, jnp.array([0])).feasible)
False
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from theory_sim.attention.batching import in_pieces
from theory_sim.attention.instances import check_queries, floats, places_of, selection
from theory_sim.attention.interior_point import Separation, above_zero, separate
from theory_sim.attention.nuclear import separate_rank_one
from theory_sim.decompositions import covering_rows, leading_directions, span_basis

NORMS = ("frobenius", "nuclear")
RESOLUTION = 1e-5
"""The least singular value that counts towards a rank, in units of the nuclear norm of the weights."""


WIDTH = 4
"""How many instances are solved side by side on a CPU."""

_separate, _separate_rank_one = in_pieces(separate, WIDTH), in_pieces(separate_rank_one, WIDTH)


class MaxMargin(NamedTuple):
    """The least-norm weights that meet the constraints, and the proof of it; or the proof that there are none.

    With the dual matrix `D = sum_it dual_it (x_i,opt - x_it) z_i^T`, `dual >= 0`, zero at the selected token:

    - feasible: `weights` meet every constraint, `D` has dual norm 1 (Frobenius, or operator norm), so that no weights
      have a norm below `sum(dual)`, and `||weights|| <= sum(dual) / (1 - gap)`. In the Frobenius norm, `D` is
      `weights / ||weights||` up to the gap: the multipliers of AT-A-U5 are `dual ||weights||`.
    - not feasible: `weights`, `rank` and `rank_bound` are zero, `sum(dual) = 1`, and `gap` is `||D||_F` in units of
      the largest `||(x_i,opt - x_it) z_i^T||_F`, or `||D||_op` for the nuclear norm. Zero is Farkas' proof, and a gap
      g proves that no weights have a norm below 1/g in the inverse of those units: rounding leaves up to 1e-7. A gap
      far above that says undecided.

    `rank` counts the singular values of the weights above `RESOLUTION` times their sum. `rank_bound` bounds that count
    for every optimum: in the nuclear norm by the number of unit singular values of `D`, to `gap / RESOLUTION`
    (AT-A-U6; derived: `sum_i s_i (1 - u_i^T D v_i) <= gap ||W||` for `W = sum_i s_i u_i v_i^T`), and in the Frobenius
    norm, whose optimum is unique, by `min(n, d)` (arXiv:2308.16898, Lemma 1).
    """

    weights: Float[Array, "dim dim"]
    dual: Float[Array, "samples tokens"]
    gap: Float[Array, ""]
    rank: Int[Array, ""]
    rank_bound: Int[Array, ""]
    feasible: Bool[Array, ""]


def max_margin(
    tokens: Float[Array, "samples tokens dim"],
    queries: Float[Array, "samples dim"],
    selected: Int[Array, " samples"],
    *,
    norm: str = "frobenius",
) -> MaxMargin:
    """Solve (Att-SVM) for the selected token of each sequence, in the norm "frobenius" or "nuclear" (AT-A-M6).

    The relative gap is within 1e-8 in float64 unless an instance is nearly infeasible or, in the nuclear norm, the
    norms of its constraints differ by orders of magnitude; it is always told. Where the nuclear norm has several
    optima, the weights are one of the largest rank.

    Raises ValueError on a mismatch of shapes, one token a sequence, or an unknown norm, and, where values are known
    (not under a transformation), on tokens that are not finite, a zero query, or a selected token that does not exist.
    Under one the gap is then not a number, and the instance not feasible.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    tokens, queries = floats(tokens=tokens, queries=queries)
    check_queries(tokens, queries)
    return _max_margin(tokens, queries, places_of(selected, tokens), norm=norm)


def max_margin_of_pairs(
    left: Float[Array, "points dim"],
    right: Float[Array, "points dim"],
    *,
    norm: str = "frobenius",
    tolerance: Float[Array, ""] | float = 0.0,
) -> MaxMargin:
    """Solve `min ||W||` subject to `left_k^T W right_k >= 1`, as `max_margin` does; the dual is `[points]`.

    For constraints that are listed one by one: a repeated one changes nothing but how the multipliers are shared.
    The solver stops at a relative gap of `tolerance`, or where it gains nothing more. Raises ValueError on an unknown
    norm or shapes that do not fit.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    left, right = floats(left=left, right=right)
    if left.ndim != 2 or left.shape != right.shape or not left.size:
        raise ValueError(
            f"left and right must be of one shape [points, dim], got {left.shape} and {right.shape}"
        )
    return _max_margin_of_pairs(left, right, tolerance, norm=norm)


def generalized_max_margin(
    tokens: Float[Array, "samples tokens dim"],
    queries: Float[Array, "samples dim"],
    selected: Bool[Array, "samples tokens"],
) -> MaxMargin:
    """Solve (Gen-SVM) in the Frobenius norm: all selected tokens of a sequence score alike, the others lower by 1.

    `(x_it - x_i,tau)^T W z_i` is 0 where t and tau are both selected, at least 1 where t alone is (arXiv:2308.16898,
    Section 6; AT-A-M6). The equalities are eliminated: `D` is made of differences with the first selected token, less
    their part in the span of the equalities. Each other field is as in `max_margin`.

    Raises ValueError as `max_margin` does, and, where values are known, when a sequence has no selected token, or all
    tokens of all sequences are selected. (Under a transformation: the weights are then zero, and feasible.)
    """
    tokens, queries = floats(tokens=tokens, queries=queries)
    check_queries(tokens, queries)
    return _generalized_max_margin(tokens, queries, selection(selected, tokens))


def attention_margins(
    weights: Float[Array, "dim dim"],
    tokens: Float[Array, "samples tokens dim"],
    queries: Float[Array, "samples dim"],
    selected: Int[Array, " samples"],
) -> Float[Array, "samples tokens"]:
    """Return `(x_i,opt - x_it)^T W z_i`; 1 at the support tokens of max margin weights (AT-A-T9)."""
    return jnp.einsum("ntd,de,ne->nt", differences_from(tokens, selected), weights, queries)


@partial(jax.jit, static_argnames="norm")
def _max_margin(tokens: Array, queries: Array, selected: Array, *, norm: str) -> MaxMargin:
    _, count, dim = tokens.shape
    others = places_beside(selected, count)
    left = at_places(differences_from(tokens, selected), others).reshape(-1, dim)
    right = jnp.repeat(queries, count - 1, axis=0)
    found = _of_pairs(left, right, queries, 0.0, norm)
    return found._replace(dual=over_all_tokens(found.dual, others, count))


@partial(jax.jit, static_argnames="norm")
def _max_margin_of_pairs(left: Array, right: Array, tolerance: Array, *, norm: str) -> MaxMargin:
    return _of_pairs(left, right, right, tolerance, norm)


def _of_pairs(left: Array, right: Array, queries: Array, tolerance: Array | float, norm: str) -> MaxMargin:
    """Solve for the constraints `left_k^T W right_k >= 1`, the right sides being in the span of the queries."""
    samples, dim = queries.shape
    if norm == "frobenius":
        found = _separate(_products(left, right), tolerance)
        direction = found.direction.reshape(dim, dim)
        values, _ = leading_directions(direction)
    else:
        # Optimal weights live on the spans of the differences and of the queries: the matrices shrink to those.
        rows = covering_rows(left) if len(left) < dim else jnp.eye(dim, dtype=left.dtype)
        columns = covering_rows(queries) if samples < dim else jnp.eye(dim, dtype=left.dtype)
        found = _separate_rank_one(left @ rows.T, right @ columns.T, tolerance)
        direction = rows.T @ found.direction @ columns
        of_dual = (left * found.multipliers[:, None]).T @ right
        (values, dual_values), _ = jax.vmap(leading_directions)(jnp.stack([direction, of_dual]))
        found = found._replace(distance=dual_values[0])
    margin = jnp.min(jnp.sum((left @ direction) * right, axis=1))
    scale = jnp.max(jnp.linalg.norm(left, axis=1) * jnp.linalg.norm(right, axis=1))
    weights, multipliers, gap, feasible = certified(found, direction, margin, scale)
    if norm == "frobenius":
        bound = jnp.asarray(min(samples, dim))
    else:
        bound = unit_values(dual_values / above_zero(found.distance), gap)
    return _ranked(weights, multipliers, gap, feasible, values, bound)


@jax.jit
def _generalized_max_margin(tokens: Array, queries: Array, selected: Array) -> MaxMargin:
    samples, count, dim = tokens.shape
    differences = differences_from(tokens, jnp.argmax(selected, axis=1))
    rows = _products(differences.reshape(-1, dim), jnp.repeat(queries, count, axis=0))
    norms = jnp.linalg.norm(rows, axis=1)
    left_out = ~selected.reshape(-1)
    basis = span_basis(jnp.where(left_out[:, None], 0.0, rows))
    points = rows
    for _ in range(2):
        points = points - (points @ basis.T) @ basis
    least = jnp.sqrt(jnp.finfo(rows.dtype).eps) * norms
    points = jnp.where((jnp.linalg.norm(points, axis=1) > least)[:, None], points, 0.0)
    # A copy of a constraint in the place of an equality changes nothing; its multiplier goes to the original.
    first = jnp.argmax(left_out)
    found = _separate(jnp.where(left_out[:, None], points, points[first]))
    copies = jnp.sum(jnp.where(left_out, 0.0, found.multipliers))
    found = found._replace(multipliers=jnp.where(left_out, found.multipliers, 0.0).at[first].add(copies))
    margin = jnp.min(jnp.where(left_out, rows @ found.direction, jnp.inf))
    scale = jnp.max(jnp.where(left_out, norms, 0.0))
    weights, dual, gap, feasible = certified(found, found.direction, margin, scale)
    free = ~jnp.any(left_out)
    weights, dual, gap = (jnp.where(free, 0.0, value) for value in (weights, dual, gap))
    weights, bound = weights.reshape(dim, dim), jnp.asarray(min(samples, dim))
    values, _ = leading_directions(weights)
    return _ranked(weights, dual.reshape(samples, count), gap, feasible | free, values, bound)


def certified(
    found: Separation, direction: Array, margin: Array, scale: Array
) -> tuple[Array, Array, Array, Array]:
    """Return weights, multipliers, gap and feasibility as `MaxMargin` has them; the margin is that of the data."""
    feasible = margin > 1e4 * jnp.finfo(margin.dtype).eps * scale
    weights = jnp.where(feasible, direction / jnp.where(feasible, margin, 1.0), 0.0)
    multipliers = found.multipliers / jnp.where(feasible, found.distance, 1.0)
    gap = jnp.maximum(1 - margin / jnp.where(feasible, found.distance, 1.0), 0.0)
    proof = found.distance / jnp.where(scale > 0, scale, 1.0)
    return weights, multipliers, jnp.where(feasible, gap, proof), feasible


def _ranked(
    weights: Array, dual: Array, gap: Array, feasible: Array, values: Array, bound: Array
) -> MaxMargin:
    """Return the solution with its rank, from singular values of the weights up to a factor, and the rank's bound."""
    rank, bound = (jnp.where(feasible, count, 0) for count in (resolved_rank(values), bound))
    return MaxMargin(weights, dual, gap, rank, bound, feasible)


def resolved_rank(values: Float[Array, " rank"]) -> Int[Array, ""]:
    """Return the `rank` of `MaxMargin` from the singular values of weights."""
    return jnp.sum(values > RESOLUTION * jnp.sum(values))


def unit_values(values: Float[Array, " rank"], gap: Float[Array, ""]) -> Int[Array, ""]:
    """Return the `rank_bound` of `MaxMargin` from the singular values of a dual matrix of norm 1."""
    return jnp.sum(values >= 1 - jnp.maximum(gap, 1e3 * jnp.finfo(gap.dtype).eps) / RESOLUTION)


def differences_from(tokens: Array, selected: Array) -> Array:
    """Return `x_i,opt - x_it`, not a number where the selected token does not exist.

    An index that is not known cannot be refused: a negative one, which would count from the end, is moved beyond it.
    """
    selected = jnp.where(selected < 0, tokens.shape[1], selected)
    return jnp.take_along_axis(tokens, selected[:, None, None], axis=1) - tokens


def places_beside(selected: Array, count: int) -> Array:
    """Return the places of the tokens that are not selected: the selected one would ask for 0 >= 1."""
    return (selected[:, None] + 1 + jnp.arange(count - 1)) % count


def at_places(values: Array, places: Array) -> Array:
    """Return the vectors of each sequence at some places."""
    return jnp.take_along_axis(values, places[:, :, None], axis=1)


def over_all_tokens(multipliers: Array, others: Array, count: int) -> Array:
    """Return the multipliers as an array over all tokens, zero at the selected ones."""
    samples = len(others)
    spread = jnp.zeros((samples, count), multipliers.dtype)
    return spread.at[jnp.arange(samples)[:, None], others].set(multipliers.reshape(samples, -1))


def _products(left: Array, right: Array) -> Array:
    """Return the matrices `left_k right_k^T`, each as one row."""
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)
