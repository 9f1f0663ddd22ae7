r"""Where token selection ends, for many random problems: no trajectory is kept, only which tokens were selected.

The protocol of arXiv:2308.16898 (AT-A-S1): tokens, queries and head on the unit sphere, sequences whose best token
scores `least_gap` above the others, every trained matrix with entries uniform in `[-1/sqrt d, 1/sqrt d]` at the start.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> jax.config.update("jax_enable_x64", True)
>>> simulation = selection_outcome(inputs=2, tokens=3, max_dim=6)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> found = trajectory(simulation, [500])(jax.random.key(1), problem, simulation.hyper)
>>> float(found["global"]), float(found["local"])
(1.0, 1.0)
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.attention.margin import attention_margins, max_margin
from theory_sim.attention.selection_direction import SLACK
from theory_sim.attention.selection_gradient import (
    Problem,
    falling_slope,
    log_outside,
    log_pulls,
    logits_of,
    token_scores,
)
from theory_sim.attention.token_selection import (
    PARAMETERIZATIONS,
    Hyper,
    KeyQuery,
    State,
    attention_weights,
    token_selection,
)
from theory_sim.simulation import Metrics, Simulation, Variable

MOST_ROUNDS = 1000
"""How often sequences may be drawn anew before one with a smaller gap is taken."""
NEAR_SUPPORT = 1.1
"""The mean margin below which the published count takes all tokens for support tokens (AT-A-S4)."""


class Setting(NamedTuple):
    """The dimension, and how far the best token of each sequence scores above the others at least."""

    dim: int = 5
    least_gap: float = 0.1


class Drawn(NamedTuple):
    """A problem whose coordinates beyond `dim` are zero, and the share of the sequences drawn that were taken.

    `scores` are those of its tokens, `overlaps` the scalar products of its queries: what each step needs.
    """

    problem: Problem
    scores: Float[Array, "inputs tokens"]
    overlaps: Float[Array, "inputs inputs"]
    dim: Int[Array, ""]
    taken: Float[Array, ""]


class Logits(NamedTuple):
    """`X_i W z_i` of every sequence, all that the outcome depends on: `W` itself is not kept."""

    logits: Float[Array, "inputs tokens"]


def selection_outcome(
    *, inputs: int, tokens: int, max_dim: int, parameterization: str = "weights", solve: bool = True
) -> Simulation:
    """Return the training of `W`, or of `K` and `Q` with d columns, by normalised steps in the log domain.

    The dimension d is a problem axis, up to `max_dim`, with all coordinates beyond it zero.

    Conclusions, as 0 or 1: `global`, whether the most attended tokens at the end are those of the best scores;
    `feasible`, whether they can be separated; `local`, whether they are locally optimal (AT-A-T9), the support tokens
    being those of the solution in the Frobenius norm for `W`, in the nuclear norm for `K Q^T`; `saturated`, whether all
    other tokens have less than 1e-3 of the attention; `all_support`, whether all tokens are support tokens of the
    solution for the optimal ones, each margin within 1e-5 of 1 (B.1); `near_support`, whether those margins have a mean
    below 1.1, which the published count takes for B.1. And `taken`, the share of sequences that had the gap. Without
    `solve` only `global`, `saturated` and `taken`.

    Raises ValueError as `token_selection` does.
    """
    plain = token_selection(
        inputs=inputs,
        tokens=tokens,
        dim=max_dim,
        parameterization=parameterization,
        rule="normalized",
    )
    factors = parameterization == PARAMETERIZATIONS[1]
    return Simulation(
        sample=partial(_sample, inputs=inputs, tokens=tokens, max_dim=max_dim),
        init=partial(_init, max_dim=max_dim, factors=factors),
        step=partial(_step_factors, plain.step) if factors else _step_logits,
        observe=lambda drawn, hyper, state: {},
        setting=Setting(min(5, max_dim)),
        hyper=Hyper(step_size=0.4, init_scale=1.0),
        conclude=partial(_conclude, norm="nuclear" if factors else "frobenius", solve=solve),
        variables={
            "global": Variable("whether the selected tokens are the optimal ones"),
            "local": Variable("whether the selected tokens are locally optimal"),
            "feasible": Variable("whether the selected tokens can be separated"),
            "saturated": Variable("whether one token of each sequence has all attention"),
            "all_support": Variable("whether all tokens are support tokens of the optimal ones"),
            "near_support": Variable("whether the optimal tokens' margins have a mean below 1.1"),
            "taken": Variable("share of the drawn sequences with the least gap of scores"),
        },
        limits={
            "dim": (1, max_dim),
            "least_gap": (0.0, 0.5),
            "step_size": plain.limits["step_size"],
            "init_scale": plain.limits["init_scale"],
        },
    )


def _sample(key: PRNGKeyArray, setting: Setting, *, inputs: int, tokens: int, max_dim: int) -> Drawn:
    def unit(key: PRNGKeyArray, *shape: int) -> Array:
        # The padded axis first: more coordinates keep the draws of fewer.
        drawn = jax.lax.optimization_barrier(jax.random.normal(key, (max_dim, *shape)))
        drawn = jnp.where(jnp.arange(max_dim).reshape(-1, *[1] * len(shape)) < setting.dim, drawn, 0.0)
        return jnp.moveaxis(drawn / jnp.linalg.norm(drawn, axis=0, keepdims=True), 0, -1)

    fixed, stream = jax.random.split(key)
    head, queries = unit(jax.random.fold_in(fixed, 0)), unit(jax.random.fold_in(fixed, 1), inputs)
    labels = jnp.where(jax.random.bernoulli(jax.random.fold_in(fixed, 2), shape=(inputs,)), 1.0, -1.0)
    labels = labels.astype(head.dtype)

    def draw(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        places, done, rounds, draws = state
        drawn = unit(jax.random.fold_in(stream, rounds), inputs, tokens)
        scores = jnp.sort(labels[:, None] * (drawn @ head), axis=1)
        wide = scores[:, -1] - scores[:, -2] >= setting.least_gap
        places = jnp.where(done[:, None, None], places, drawn)
        return places, done | wide, rounds + 1, draws + jnp.sum(~done)

    start = (
        jnp.zeros((inputs, tokens, max_dim), head.dtype),
        jnp.zeros(inputs, bool),
        jnp.asarray(0),
        jnp.asarray(0),
    )
    unfinished = lambda state: ~jnp.all(state[1]) & (state[2] < MOST_ROUNDS)  # noqa: E731
    places, done, _, draws = jax.lax.while_loop(unfinished, draw, start)
    taken = (jnp.sum(done) / draws).astype(head.dtype)
    problem = Problem(places, queries, labels, head)
    return Drawn(problem, token_scores(problem), queries @ queries.T, jnp.asarray(setting.dim), taken)


def _init(key: PRNGKeyArray, drawn: Drawn, hyper: Hyper, *, max_dim: int, factors: bool) -> KeyQuery | Logits:
    kept = jnp.arange(max_dim) < drawn.dim
    bound = hyper.init_scale / jnp.sqrt(drawn.dim.astype(drawn.taken.dtype))
    uniform = jax.random.uniform(key, (max_dim, max_dim, 2), drawn.taken.dtype, -1.0, 1.0)
    first, second = jnp.moveaxis(jnp.where((kept[:, None] & kept)[..., None], bound * uniform, 0.0), 2, 0)
    return KeyQuery(first, second) if factors else Logits(logits_of(drawn.problem, first))


def _step_factors(
    step: Callable[..., State], key: PRNGKeyArray, drawn: Drawn, hyper: Hyper, state: KeyQuery
) -> State:
    return step(key, drawn.problem, hyper, state)


def _step_logits(key: PRNGKeyArray, drawn: Drawn, hyper: Hyper, state: Logits) -> Logits:
    """Make the step of `W` as its logits see it.

    The gradient is `G = -(1/n) sum_j g_j z_j^T`, `g_j` the combined pulls of a sequence. So `x_it^T G z_i` and
    `||G||^2` need `sum_j (z_i^T z_j) g_j` alone, which costs less than `G` where sequences are fewer than dimensions.
    """
    _, pulls, outputs = log_pulls(drawn.scores, jax.nn.log_softmax(state.logits))
    combined = jnp.einsum("nt,ntd->nd", pulls * falling_slope("logistic", outputs), drawn.problem.tokens)
    mixed = drawn.overlaps @ combined
    square = jnp.sum(combined * mixed)
    length = jnp.where(square > 0, hyper.step_size / jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return Logits(state.logits + length * jnp.einsum("ntd,nd->nt", drawn.problem.tokens, mixed))


def _conclude(
    drawn: Drawn, hyper: Hyper, records: Metrics, state: KeyQuery | Logits, *, norm: str, solve: bool
) -> Metrics:
    problem, scores = drawn.problem, drawn.scores
    logits = state.logits if isinstance(state, Logits) else logits_of(problem, attention_weights(state))
    best, selected = jnp.argmax(scores, axis=1), jnp.argmax(logits, axis=1)
    found = {
        "global": jnp.all(selected == best),
        "saturated": log_outside(jax.nn.log_softmax(logits)) < jnp.log(1e-3),
    }
    if solve:
        found |= _compared(problem, selected, best, norm)
    return {name: value.astype(scores.dtype) for name, value in found.items()} | {"taken": drawn.taken}


def _compared(
    problem: Problem, selected: Int[Array, " inputs"], best: Int[Array, " inputs"], norm: str
) -> Metrics:
    """Return what the solutions for the selected and for the best tokens tell."""

    def solved(chosen: Int[Array, " inputs"]) -> tuple[Array, Array]:
        found = max_margin(problem.tokens, problem.queries, chosen, norm=norm)
        return attention_margins(found.weights, problem.tokens, problem.queries, chosen), found.feasible

    scores = token_scores(problem)
    margins, feasible = jax.vmap(solved)(jnp.stack([selected, best]))
    others = jnp.arange(scores.shape[1]) != selected[:, None]
    support = others & (margins[0] < 1 + SLACK)
    lower = scores < jnp.take_along_axis(scores, selected[:, None], axis=1)
    # The optimal token's own margin is 0, in the largest as in the sum.
    mean = jnp.sum(margins[1]) / (others.shape[0] * (others.shape[1] - 1))
    return {
        "local": feasible[0] & jnp.all(~support | lower),
        "feasible": feasible[0],
        "all_support": feasible[1] & (jnp.max(margins[1]) < 1 + SLACK),
        "near_support": feasible[1] & (mean < NEAR_SUPPORT),
    }
