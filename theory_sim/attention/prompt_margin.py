r"""The max margin problems of attention to a prompt, and of the head that reads what is attended to.

    (p-SVM)  min ||p||  s.t.  (k_i,sel - k_it)^T p >= b_i  for all t != sel_i, all i,       b_i = 1
    (v-SVM)  min ||v||  s.t.  Y_i v^T x_i,sel >= 1         for all i

(arXiv:2306.13596; AT-D-U1). Where head and prompt are trained together, an input that is no support vector of the head
is relaxed: `b_i = 0`.

>>> import jax
>>> import jax.numpy as jnp
>>> jax.config.update("jax_enable_x64", True)
>>> keys = jnp.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
>>> chosen = jnp.array([0, 0])
>>> jnp.round(prompt_max_margin(keys, chosen).prompt, 9).tolist()
[1.0, 2.0]
>>> jnp.round(prompt_max_margin(keys, chosen, required=jnp.array([1.0, 0.0])).prompt, 9).tolist()
[1.0, 1.0]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from theory_sim.attention.batching import in_pieces
from theory_sim.attention.instances import check_tokens, floats, known, places_of
from theory_sim.attention.interior_point import Separation, separate
from theory_sim.attention.margin import (
    WIDTH,
    at_places,
    certified,
    differences_from,
    over_all_tokens,
    places_beside,
)

_separate = in_pieces(separate, WIDTH)


def _relaxed(
    points: Float[Array, "points dim"], asked: Float[Array, " points"], inside: Float[Array, " dim"]
) -> Separation:
    return separate(points, required=asked, inside=inside)


_separate_relaxed = in_pieces(_relaxed, WIDTH)


class PromptMargin(NamedTuple):
    """The shortest prompt that meets the constraints, with the proof of `MaxMargin`: `D = sum dual (k_opt - k_t)`.

    `||D|| = 1`, and no prompt is shorter than `sum_it b_i dual_it`.
    """

    prompt: Float[Array, " dim"]
    dual: Float[Array, "samples tokens"]
    gap: Float[Array, ""]
    feasible: Bool[Array, ""]


class HeadMargin(NamedTuple):
    """The shortest head that meets the constraints, with the proof of `MaxMargin`: `D = sum dual_i Y_i x_i`."""

    head: Float[Array, " dim"]
    dual: Float[Array, " samples"]
    gap: Float[Array, ""]
    feasible: Bool[Array, ""]


def prompt_max_margin(
    keys: Float[Array, "samples tokens dim"],
    selected: Int[Array, " samples"],
    required: Float[Array, " samples"] | None = None,
) -> PromptMargin:
    """Solve (p-SVM): `min ||p||` subject to `(k_i,opt - k_it)^T p >= 1` for `t != opt_i` (arXiv:2306.13596; AT-D-U1).

    With `required` the margins are those, none negative and one positive, instead of 1. `feasible` says the same for
    all of them: whether some prompt scores every selected token above the others. (It differs from what margins of 0
    ask for on instances of measure zero alone: where tokens can be tied, but not separated.)

    Raises ValueError on wrong shapes, one token a sequence or no dimension, and, where values are known, on keys that
    are not finite, a selected token that does not exist, or margins that are negative or all zero.
    """
    (keys,) = floats(keys=keys)
    check_tokens("keys", keys)
    selected = places_of(selected, keys)
    if required is None:
        return _prompt_max_margin(keys, selected)
    (required,) = floats(required=required)
    if required.shape != selected.shape:
        raise ValueError(
            f"required must be {len(selected)} margins, one a sequence, got shape {required.shape}"
        )
    if known(required) and not (np.all(required >= 0) and np.any(required > 0)):
        raise ValueError(
            f"required must be margins of at least 0, one above it, got {np.asarray(required).tolist()}"
        )
    return _prompt_max_margin(keys, selected, required.astype(keys.dtype))


def head_max_margin(points: Float[Array, "samples dim"], labels: Float[Array, " samples"]) -> HeadMargin:
    """Solve (v-SVM), the hard margin classification of points without an intercept (AT-D-U1).

    Raises ValueError on wrong shapes, and, where values are known, on points that are not finite or labels other than
    +1 and -1.
    """
    points, labels = floats(points=points, labels=labels)
    if points.ndim != 2 or not points.size or labels.shape != points.shape[:1]:
        raise ValueError(
            f"points must be [samples, dim] with a label each, got shapes {points.shape} and {labels.shape}"
        )
    if known(labels) and not np.all(np.abs(labels) == 1):
        raise ValueError(f"labels must be +1 or -1, got {np.asarray(labels).tolist()}")
    return _head_max_margin(points, labels)


@jax.jit
def _prompt_max_margin(keys: Array, selected: Array, required: Array | None = None) -> PromptMargin:
    _, count, dim = keys.shape
    others = places_beside(selected, count)
    points = at_places(differences_from(keys, selected), others).reshape(-1, dim)
    scale = jnp.max(jnp.linalg.norm(points, axis=1))
    found = _separate(points)
    margin = jnp.min(points @ found.direction)
    prompt, multipliers, gap, feasible = certified(found, found.direction, margin, scale)
    if required is not None:
        largest = jnp.max(required)
        asked = jnp.repeat(required / jnp.where(largest > 0, largest, 1.0), count - 1)
        relaxed = _separate_relaxed(points, asked, found.direction)
        # Without a direction to start in there is nothing to relax: the proof is that of the margins of 1.
        found = jax.tree.map(lambda new, old: jnp.where(feasible, new, old), relaxed, found)
        ratios = points @ found.direction / jnp.where(asked > 0, asked, 1.0)
        margin = jnp.where(feasible, jnp.min(jnp.where(asked > 0, ratios, jnp.inf)), margin)
        prompt, multipliers, gap, feasible = certified(found, found.direction, margin, scale)
        prompt = largest * prompt
    return PromptMargin(prompt, over_all_tokens(multipliers, others, count), gap, feasible)


@jax.jit
def _head_max_margin(points: Array, labels: Array) -> HeadMargin:
    signed = labels[:, None] * points
    found = _separate(signed)
    margin, scale = jnp.min(signed @ found.direction), jnp.max(jnp.linalg.norm(signed, axis=1))
    return HeadMargin(*certified(found, found.direction, margin, scale))
