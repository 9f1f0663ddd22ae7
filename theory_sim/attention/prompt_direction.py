r"""How far a prompt, and a head trained with it, are from their max margin directions.

A prompt alone tends to the solution of (p-SVM) for the tokens it selects (AT-D-T1). With the head trained too, by
steps of length `eta_p` and `eta_v` (derived): the head tends to the solution of (v-SVM) for those tokens, so that input
i counts in the prompt's gradient like `exp(-(m_i eta_v t + a_k . p))`, where `m_i` is its margin to the unit head and
`a_k = k_i,sel - k_it`. The prompt `p = q t` makes the least exponent grow fastest: with `m` the margin of the support
vectors and `e_i = m_i - m`, `q` maximises `N` subject to `|q| <= eta_p` and

    a_k . q >= N - eta_v e_i,    and    a_k . q >= 0,

the latter as an input that attends to another token loses its margin, and is pulled back. Scaled to `N = 1`, that is
(p-SVM) with the margins `b_i = max(0, 1 - (eta_v / eta_p) ||p|| e_i)`: those of (p-SVM) for a slow head, the relaxed
ones of AT-D-U1 for a fast one. An input held at `a_k . q = 0` shares its attention, so much that it counts like the
support vectors: its margin to the head is above theirs by their margin to the prompt, `N t`. There a step changes the
exponent by about `eta_p |a_k|^2 s (1 - s) ||v||`, s being the attention: at last more than one, so that the prompt's
steps go to and fro, the prompt is slower, and for `eta_v` of order one the head follows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from theory_sim.attention.batching import in_pieces
from theory_sim.attention.directions import distance
from theory_sim.attention.interior_point import separate
from theory_sim.attention.margin import WIDTH, at_places, differences_from, places_beside
from theory_sim.attention.prompt_gradient import PromptProblem, prompt_log_attention, prompt_scores
from theory_sim.attention.prompt_margin import prompt_max_margin
from theory_sim.attention.selection_direction import SLACK
from theory_sim.simulation import Metrics

HALVINGS = 30
"""How often the interval is halved in which the norm of the prompt for a step ratio lies."""


class JointSolutions(NamedTuple):
    """The max margin head (of norm 1) and its margin, each input's `e_i`, and prompts of margin 1, if `feasible`.

    The prompts are the solutions of (p-SVM) with all margins 1, with those of inputs that are no support vectors 0, and
    with those that follow from the ratio of the steps, whose margins are `required`.
    """

    head: Float[Array, " dim"]
    margin: Float[Array, ""]
    excess: Float[Array, " inputs"]
    plain: Float[Array, " key_dim"]
    relaxed: Float[Array, " key_dim"]
    paced: Float[Array, " key_dim"]
    required: Float[Array, " inputs"]
    feasible: Bool[Array, ""]


def of_selected(
    problem: PromptProblem, prompt: Float[Array, " key_dim"], selected: Int[Array, " inputs"]
) -> Metrics:
    """Return `lead`, the last input's least `a_k . p` less that of the first, and `global`.

    The latter is 1 if the selected tokens score best, else 0.
    """
    best = jnp.argmax(prompt_scores(problem, problem.head), axis=1)
    margins = jnp.min(_to_others(problem.keys, selected) @ prompt, axis=1)
    return {
        "lead": margins[-1] - margins[0],
        "global": jnp.all(selected == best).astype(prompt.dtype),
    }


def compare_prompt(
    problem: PromptProblem, prompts: Float[Array, "steps key_dim"], selected: Int[Array, " inputs"]
) -> Metrics:
    """Compare prompts at several steps with the max margin prompt of the selected tokens.

    `direction_error` at each step. Once: `margin_norm`, its norm, and `feasible`, whether there is one.
    """
    solution = prompt_max_margin(problem.keys, selected)
    return {
        "direction_error": distance(prompts, solution.prompt),
        "margin_norm": jnp.linalg.norm(solution.prompt),
        "feasible": solution.feasible.astype(prompts.dtype),
    }


def compare_joint(
    problem: PromptProblem,
    prompts: Float[Array, "steps key_dim"],
    heads: Float[Array, "steps dim"],
    ratio: Float[Array, ""],
) -> Metrics:
    """Compare prompts and heads at several steps with their max margin solutions for steps of a ratio `eta_v / eta_p`.

    The tokens of the solutions are those that the last head scores best. At each step: `head_error`, `plain_error`,
    `relaxed_error` and `paced_error`, the distances from `JointSolutions`' directions. Once: `head_margin`; the norms
    `plain_norm`, `relaxed_norm` and `paced_norm`; `support_share`, that of the inputs that are support vectors of the
    head; `shortfall`, by how much attention to other tokens lowers the margins of the inputs to the max margin head, on
    average, `predicted_shortfall`, and `most_shortfall`, that down to the support vectors' margin of all inputs that
    the relaxed prompt leaves tied; `feasible`.
    """
    scores = prompt_scores(problem, heads[-1])
    selected = jnp.argmax(scores, axis=1)
    found = _solutions(problem.tokens, problem.keys, problem.labels, selected, ratio)
    scores = prompt_scores(problem, found.head)
    attended = jnp.exp(prompt_log_attention(problem, prompts[-1]))
    own = jnp.take_along_axis(scores, selected[:, None], axis=1)
    shortfall = jnp.sum(attended * (own - scores), axis=1)
    least = [jnp.min(_to_others(problem.keys, selected) @ p, axis=1) for p in (found.paced, found.relaxed)]
    tied = (found.required == 0) & (least[0] < SLACK)
    left_tied = (found.excess > 0) & (least[1] < SLACK)
    lengths = jnp.linalg.norm(found.paced) * jnp.linalg.norm(heads[-1])
    left = jnp.linalg.norm(prompts[-1]) / jnp.where(lengths > 0, lengths, 1.0)
    errors = {
        f"{name}_error": distance(prompts, getattr(found, name)) for name in ("plain", "relaxed", "paced")
    }
    norms = {f"{name}_norm": jnp.linalg.norm(getattr(found, name)) for name in ("plain", "relaxed", "paced")}
    return {
        "head_error": distance(heads, found.head),
        **errors,
        **norms,
        "head_margin": found.margin,
        "support_share": jnp.mean((found.excess == 0).astype(heads.dtype)),
        "shortfall": jnp.mean(shortfall),
        "predicted_shortfall": jnp.mean(jnp.where(tied, jnp.maximum(found.excess - left, 0.0), 0.0)),
        "most_shortfall": jnp.mean(jnp.where(left_tied, found.excess, 0.0)),
        "feasible": found.feasible.astype(heads.dtype),
    }


def _solve(tokens: Array, keys: Array, labels: Array, selected: Array, ratio: Array) -> JointSolutions:
    """Solve for the head, then for the plain, the relaxed and the paced prompt: one program in turn for all."""
    count, dim, key_dim = keys.shape[1], tokens.shape[2], keys.shape[2]
    points = _to_others(keys, selected).reshape(-1, key_dim)
    signed = labels[:, None] * jnp.take_along_axis(tokens, selected[:, None, None], axis=1)[:, 0]
    # Copies of points, and coordinates that are zero, change nothing.
    wide = max(dim, key_dim)
    of_head = jnp.pad(jnp.repeat(signed, count - 1, axis=0), ((0, 0), (0, wide - dim)))
    of_prompt = jnp.pad(points, ((0, 0), (0, wide - key_dim)))

    def solve(state: _Turn, turn: Array) -> tuple[_Turn, tuple[Array, Array, Array]]:
        length = (state.low + state.high) / 2
        asked = jnp.where(turn > RELAXED, jnp.maximum(1 - ratio * length * state.excess, 0.0), 0.0)
        asked = jnp.where((turn < RELAXED) | (state.excess == 0), 1.0, asked)
        places = jnp.where(turn == 0, of_head, of_prompt)
        start = jnp.where(turn < RELAXED, jnp.mean(places, axis=0), state.inside)
        found = separate(places, required=jnp.repeat(asked, count - 1), inside=start)
        norm = 1 / jnp.where(found.margin > 0, found.margin, 1.0)
        over = signed @ found.direction[:dim] - found.margin
        excess = jnp.where(over < SLACK * found.margin, 0.0, over)
        # The longer the prompt, the lower the margins, and the shorter the solution: one length is its own.
        halved = (turn > RELAXED) & (norm <= length)
        after = _Turn(
            jnp.where(turn == 0, excess, state.excess),
            jnp.where(turn < RELAXED, found.direction, state.inside),
            jnp.where(turn <= RELAXED, norm, jnp.where(halved, state.low, length)),
            jnp.where(turn < RELAXED, norm, jnp.where(halved, length, state.high)),
        )
        return after, (asked, norm * found.direction, found.margin)

    zero = jnp.zeros((), points.dtype)
    begin = _Turn(jnp.zeros(len(signed), points.dtype), jnp.zeros(wide, points.dtype), zero, zero)
    final, (asked, found, margins) = jax.lax.scan(solve, begin, jnp.arange(RELAXED + 1 + HALVINGS))
    feasible = jnp.all(margins[:RELAXED] > 1e4 * jnp.finfo(points.dtype).eps)
    plain, relaxed, paced = (found[turn, :key_dim] for turn in (RELAXED - 1, RELAXED, -1))
    head = margins[0] * found[0, :dim]
    return JointSolutions(head, margins[0], final.excess, plain, relaxed, paced, asked[-1], feasible)


RELAXED = 2
"""The turn of the relaxed prompt, after those of the head and of the plain prompt."""


class _Turn(NamedTuple):
    excess: Float[Array, " inputs"]
    inside: Float[Array, " dim"]
    low: Float[Array, ""]
    high: Float[Array, ""]


_solutions = in_pieces(_solve, WIDTH)


def _to_others(keys: Array, selected: Array) -> Array:
    """Return `a_k = k_i,sel - k_it` for the tokens that are not selected, [inputs, tokens - 1, key_dim]."""
    return at_places(differences_from(keys, selected), places_beside(selected, keys.shape[1]))
