r"""Token selection from starts in a cone around the max margin direction of chosen tokens: which tokens are kept?

Around the solution for locally optimal tokens there is a cone that gradient descent does not leave (arXiv:2308.16898,
Theorem 7; AT-A-T10). Where the scores of all tokens that are not optimal are equal, it is said to leave every one but
the optimal tokens' (Theorem 4; AT-A-T6). That needs a condition (derived): let `V_i` solve the problem of the optimal
tokens of all sequences but i, and `rho_i` be the largest score `(x_it - x_i,opt)^T V_i z_i` of its other tokens above
its optimal one. Once sequence i attends to another token, the pull back is of the order of the optimal token's
attention, which training along `V_i` lowers by `e^(-rho_i c)` while it lowers the pulls of the others by `e^-c`: with
`rho_i > 1` the pull back is lost among these, and its sum over all steps is finite.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> jax.config.update("jax_enable_x64", True)
>>> simulation = selection_capture(inputs=2, tokens=4, dim=6)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting._replace(score_spread=0.0))
>>> found = trajectory(simulation, [500])(jax.random.key(1), problem, simulation.hyper)
>>> float(found["target_local"]), float(found["captured"]), float(found["global"])
(0.0, 0.0, 1.0)
>>> bool(found["direction_error"] < 0.1)
True
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.attention.directions import distance, unit
from theory_sim.attention.margin import max_margin_of_pairs
from theory_sim.attention.selection_direction import SLACK
from theory_sim.attention.selection_gradient import Problem, log_attention, token_scores
from theory_sim.attention.token_selection import Direct, token_selection
from theory_sim.decompositions import sort_places
from theory_sim.simulation import Metrics, Simulation, Variable


class Setting(NamedTuple):
    """The spread of scores, as of `token_selection`, and the place of the first sequence's token, from 0 for the best.

    The other sequences' tokens are the optimal ones.
    """

    score_spread: float = 1.0
    place: int = 1


class Hyper(NamedTuple):
    """The step size, and a start of norm `radius` whose cosine with the target's direction is `1 - opening`.

    The rest of the start points in a random direction across the target's; an `opening` of 1 is orthogonal to it.
    """

    step_size: float = 0.4
    radius: float = 10.0
    opening: float = 0.0


class Target(NamedTuple):
    """A problem, the tokens around whose solution runs start, that solution's direction, and its local optimality.

    And the direction of the optimal tokens' solution, and the largest `rho_i` of the sequences.
    """

    problem: Problem
    chosen: Int[Array, " inputs"]
    direction: Float[Array, "dim dim"]
    local: Float[Array, ""]
    optimal: Float[Array, "dim dim"]
    push: Float[Array, ""]


def selection_capture(*, inputs: int, tokens: int, dim: int) -> Simulation:
    """Return the training of `W` by normalised steps in the log domain, from a start in a cone.

    Conclusions, as 0 or 1: `target_local`, whether the tokens around whose solution the run starts are locally optimal
    (AT-A-T9); `captured`, whether those are the most attended tokens at the end; `global`, whether the optimal are.
    Then `selected`, the most attended tokens; `direction_error`, the distance of the last `W / ||W||` from the optimal
    tokens' direction, whatever is selected, 1 where they cannot be separated; and `push`, the largest `rho_i`.

    Raises ValueError as `token_selection` does.
    """
    plain = token_selection(inputs=inputs, tokens=tokens, dim=dim)
    return Simulation(
        sample=partial(_sample, plain=plain),
        init=_init,
        step=lambda key, target, hyper, state: plain.step(
            key, target.problem, plain.hyper._replace(step_size=hyper.step_size), state
        ),
        observe=lambda target, hyper, state: {},
        setting=Setting(),
        hyper=Hyper(),
        conclude=_conclude,
        variables={
            "target_local": Variable("whether the tokens that runs start around are locally optimal"),
            "captured": Variable("whether those tokens are selected"),
            "global": Variable("whether the optimal tokens are selected"),
            "selected": Variable("selected token", dims={"input": None}),
            "direction_error": Variable("distance from the optimal tokens' max margin direction"),
            "push": Variable("largest score above an optimal token along the other sequences' direction"),
        },
        limits={
            "score_spread": (0.0, 1.0),
            "place": (0, tokens - 1),
            "step_size": (0.0, float("inf")),
            "radius": (0.0, float("inf")),
            "opening": (0.0, 1.0),
        },
    )


def _sample(key: PRNGKeyArray, setting: Setting, *, plain: Simulation) -> Target:
    problem = plain.sample(key, plain.setting._replace(score_spread=setting.score_spread))
    scores = token_scores(problem)
    places = sort_places(-scores[0])
    chosen = jnp.argmax(scores, axis=1).at[0].set(jnp.argmax(places == setting.place))
    inputs, count = scores.shape
    best = jnp.argmax(scores, axis=1)
    others = (jnp.stack([chosen, best])[:, :, None] + 1 + jnp.arange(count - 1)) % count
    left, of_best = (
        _differences(problem.tokens, one, rest) for one, rest in ((chosen, others[0]), (best, others[1]))
    )
    right = jnp.repeat(problem.queries, count - 1, axis=0)
    # Without a sequence: its constraints are replaced by copies of the next one's.
    own, rows = jnp.arange(inputs).repeat(count - 1), jnp.arange(inputs * (count - 1))
    moved = jnp.where(own == jnp.arange(inputs)[:, None], (rows + count - 1) % len(rows), rows)
    lefts = jnp.concatenate([left[None], of_best[None], of_best[moved]])
    found = jax.vmap(max_margin_of_pairs)(lefts, jnp.concatenate([right[None], right[None], right[moved]]))
    margins = jnp.sum((left @ found.weights[0]) * right, axis=1).reshape(inputs, count - 1)
    along = jnp.einsum("kd,ide,ke->ik", of_best, found.weights[2:], right)
    push = jnp.max(jnp.where(own == jnp.arange(inputs)[:, None], -along, -jnp.inf))
    # Equal scores differ by rounding; a lower score is one that is lower by more.
    gaps = jnp.take_along_axis(scores, chosen[:, None], axis=1) - jnp.take_along_axis(
        scores, others[0], axis=1
    )
    lower = gaps > jnp.sqrt(jnp.finfo(scores.dtype).eps)
    local = found.feasible[0] & jnp.all((margins > 1 + SLACK) | lower)
    directions = unit(found.weights[:2], (1, 2))
    return Target(problem, chosen, directions[0], local.astype(scores.dtype), directions[1], push)


def _differences(
    tokens: Float[Array, "inputs tokens dim"],
    chosen: Int[Array, " inputs"],
    others: Int[Array, "inputs rest"],
) -> Float[Array, "points dim"]:
    """Return `x_i,chosen - x_it` for the other tokens, one sequence after the other."""
    taken = jnp.take_along_axis(tokens, chosen[:, None, None], axis=1)
    return (taken - jnp.take_along_axis(tokens, others[:, :, None], axis=1)).reshape(-1, tokens.shape[2])


def _init(key: PRNGKeyArray, target: Target, hyper: Hyper) -> Direct:
    drawn = jax.random.normal(key, target.direction.shape, target.direction.dtype)
    across = unit(drawn - jnp.sum(drawn * target.direction) * target.direction, (0, 1))
    cosine = 1 - hyper.opening
    return Direct(hyper.radius * (cosine * target.direction + jnp.sqrt(1 - cosine**2) * across))


def _conclude(target: Target, hyper: Hyper, records: Metrics, state: Direct) -> Metrics:
    selected = jnp.argmax(log_attention(target.problem, state.weights), axis=1)
    best = jnp.argmax(token_scores(target.problem), axis=1)
    dtype = state.weights.dtype
    return {
        "target_local": target.local,
        "push": target.push,
        "captured": jnp.all(selected == target.chosen).astype(dtype),
        "global": jnp.all(selected == best).astype(dtype),
        "selected": selected,
        "direction_error": distance(state.weights, target.optimal),
    }
