r"""Attention under a head of ReLU neurons, and the max margin problem that its training solves.

The setting of arXiv:2308.16898, Section 6 (AT-A-S7): `f(X, z) = h(X^T s)`, `s = softmax(X W z)`, with `h(x) = sum_j
relu(v_j^T x)` and only `W` trained. A sequence with label 1 maximises a convex function of its attention, and ends at
one token. One with label -1 minimises it: at one token, at a kink, or where no neuron is active.

The paper's account (AT-A-T13): with `O_i` the tokens that keep attention, `W` is about `W_fin + c W^mm`; `W_fin` is the
shortest matrix with the log ratios of the attention within each `O_i`, `W^mm` solves (Gen-SVM). Two derived remarks:

- The constraints of `W_fin` are products of `W` itself with the matrices `(x_it - x_i,tau) z_i^T`. So `W_fin` is the
  part of `W` in their span, `W^mm` is across that span, and `corr(W, W_fin + c W^mm)^2 = corr(W, W^mm)^2 + |W_fin|^2 /
  |W|^2` for the best c: that it is closer to `W` than `W^mm` is no evidence.
- (Gen-SVM) asks a margin of 1 for each token that is masked. A margin is the work of pushes that last. A sequence with
  several tokens stands at a kink, where its pushes among those are of order 1 however saturated it is, and pushes on
  its masked tokens are as small as their attention; one without an active neuron pushes nothing. Only a sequence with
  one token and an active neuron pushes for good, and the direction solves (Gen-SVM) with the inequalities of these
  sequences alone: `live` below.

The state are the logits and the sums of all pulls, `W = W(0) + sum_it pulls_it x_it z_i^T`.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> jax.config.update("jax_enable_x64", True)
>>> simulation = relu_head(inputs=3, tokens=4, max_dim=6)
>>> problem = simulation.sample(jax.random.key(0), Setting(dim=6, leak=1.0))
>>> found = trajectory(simulation, [1000])(jax.random.key(1), problem, simulation.hyper)
>>> float(found["several"]), found["error"].shape, bool((found["error"] < 0.05).all())
(0.0, (5,), True)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from theory_sim.attention.directions import distance
from theory_sim.attention.least_norm import SOLVED, least_norm
from theory_sim.attention.selection_gradient import falling_slope, log_pulls
from theory_sim.draws import normal, uniform
from theory_sim.simulation import Metrics, Simulation, Variable, check_counts

ATTENDED, MASKED = 1e-3, 1e-6
"""A token with more attention counts as selected, one with less as masked (AT-A-S7)."""
SOLUTIONS = ("finite_and_margin", "margin", "one_token", "live", "finite_and_one_token")
"""What weights are compared with: `W_fin + c W^mm`, `W^mm`, the solution for one token each, `W_fin + c W_live`.

And `W_fin + c W_one`, `W_one` being the solution for one token each.
"""


class Setting(NamedTuple):
    """The dimension, of tokens and neurons, and the slope of a neuron below zero: 0 is ReLU, 1 a linear head."""

    dim: int = 4
    leak: float = 0.0


class Hyper(NamedTuple):
    """The length of a step, and the start: the entries of `W(0)` are uniform within `init_scale / sqrt(dim)`."""

    step_size: float = 0.1
    init_scale: float = 1.0


class Drawn(NamedTuple):
    """Sequences, queries, labels, and the neurons; coordinates and neurons beyond `dim` are zero.

    `units = v_j^T x_it` are the neurons' inputs at each token, `gram` holds `<x_it, x_j,tau> <z_i, z_j>`.
    """

    tokens: Float[Array, "inputs tokens dim"]
    queries: Float[Array, "inputs dim"]
    labels: Float[Array, " inputs"]
    neurons: Float[Array, "dim dim"]
    units: Float[Array, "inputs tokens dim"]
    gram: Float[Array, "all all"]
    kept: Float[Array, " dim"]
    leak: Float[Array, ""]


class State(NamedTuple):
    """The start, the logits, and the sums of the pulls on each token."""

    start: Float[Array, "dim dim"]
    logits: Float[Array, "inputs tokens"]
    pulls: Float[Array, "inputs tokens"]


def relu_head(*, inputs: int, tokens: int, max_dim: int) -> Simulation:
    """Return the training of attention weights under ReLU neurons by normalised steps in the log domain.

    Tokens and queries are Gaussian of norm 1, neurons a Gaussian matrix of Frobenius norm 1, labels signs of Gaussians,
    the loss is logistic (AT-A-S7). The dimension is a problem axis, up to `max_dim`.

    Conclusions: `error`, `1 - corr` of the last weights with each of `SOLUTIONS`; as 0 or 1 `mixed`, whether some label
    is -1; `between`, whether some token's attention lies between `MASKED` and `ATTENDED`; `accepted`, whether labels
    are mixed, no token is between, some is masked, and the solutions were found: what was published; `unsolved`,
    whether one of them violates its conditions by more than `SOLVED`, as it may for `dim` below `inputs` or `tokens -
    1`; `several`, whether some sequence selects more than one token; `pushed`, whether some sequence pushes for good.
    And `norm`.

    Raises ValueError when there is no sequence, a sequence has a single token, `max_dim` is below 1, or a size is no
    whole number.
    """
    check_counts({"tokens": 2}, inputs=inputs, tokens=tokens, max_dim=max_dim)
    return Simulation(
        sample=partial(_sample, inputs=inputs, tokens=tokens, max_dim=max_dim),
        init=_init,
        step=_step,
        observe=lambda drawn, hyper, state: {},
        setting=Setting(min(4, max_dim)),
        hyper=Hyper(),
        conclude=_conclude,
        variables={
            "error": Variable("1 - correlation of the weights with a solution", dims={"solution": SOLUTIONS}),
            "norm": Variable("norm of the attention weights"),
            "mixed": Variable("whether some label is -1"),
            "between": Variable("whether some token is neither selected nor masked"),
            "accepted": Variable("whether selected and masked tokens can be told apart and separated"),
            "unsolved": Variable("whether a solution was not found"),
            "several": Variable("whether a sequence selects several tokens"),
            "pushed": Variable("whether a sequence pushes its masked tokens for good"),
        },
        limits={
            "dim": (1, max_dim),
            "step_size": (0.0, float("inf")),
            "leak": (0.0, 1.0),
            "init_scale": (0.0, float("inf")),
        },
    )


def trained_weights(drawn: Drawn, state: State) -> Float[Array, "dim dim"]:
    """Return `W` of a run's state."""
    return state.start + jnp.einsum("nt,ntd,ne->de", state.pulls, drawn.tokens, drawn.queries)


def solutions(
    gram: Float[Array, "all all"],
    logits: Float[Array, "inputs tokens"],
    selected: Bool[Array, "inputs tokens"],
    pushing: Bool[Array, " inputs"],
) -> tuple[Float[Array, "4 inputs tokens"], Float[Array, ""]]:
    """Return `W_fin`, `W^mm`, the solution for one token each, and `W_live`, and the largest `violation` of them.

    As the pulls `p` with `V = sum_it p_it x_it z_i^T`, from `gram`, the Gram matrix of these. A constraint is about the
    difference of a token from the most attended one, and is met as an equality where both are selected.
    """
    count = logits.shape[1]
    best = jnp.argmax(logits, axis=1)
    others = (jnp.arange(count) != best[:, None]).reshape(-1)
    # The rows of `turn` take the pulls to those of x_i,best z_i^T - x_it z_i^T.
    own = jnp.arange(len(logits)) * count + best
    turn = (jnp.arange(len(others)) == jnp.repeat(own, count)[:, None]).astype(gram.dtype)
    turn = turn - jnp.eye(len(others), dtype=gram.dtype)
    above = (jnp.max(logits, axis=1, keepdims=True) - logits).reshape(-1)
    equal = others & selected.reshape(-1)
    live = jnp.repeat(pushing, count) & others
    none, ones = jnp.zeros_like(others), jnp.ones_like(above)
    margins = jnp.where(equal, 0.0, ones)
    target = jnp.stack([above, margins, ones, margins])
    free = jnp.stack([equal, equal, none, equal])
    used = jnp.stack([equal, others, others, equal | live])
    found = jax.vmap(partial(least_norm, turn @ gram @ turn.T))(target, free, used)
    return (found.multipliers @ turn).reshape(4, *logits.shape), jnp.max(found.violation)


def _sample(key: PRNGKeyArray, setting: Setting, *, inputs: int, tokens: int, max_dim: int) -> Drawn:
    # One draw, for the sake of compilation; its last row gives the labels.
    drawn = jax.lax.optimization_barrier(normal(key, (max_dim + 1, inputs * (tokens + 1) + max_dim)))
    kept = (jnp.arange(max_dim) < setting.dim).astype(drawn.dtype)
    vectors, neurons = jnp.split(drawn[:-1] * kept[:, None], [inputs * (tokens + 1)], axis=1)
    vectors = (vectors / jnp.linalg.norm(vectors, axis=0)).T
    neurons = neurons * kept
    neurons = neurons / jnp.linalg.norm(neurons)
    places, queries = vectors[inputs:].reshape(inputs, tokens, max_dim), vectors[:inputs]
    of_queries = jnp.repeat(queries, tokens, axis=0)
    gram = (vectors[inputs:] @ vectors[inputs:].T) * (of_queries @ of_queries.T)
    labels = jnp.where(drawn[-1, :inputs] < 0, -1.0, 1.0).astype(drawn.dtype)
    return Drawn(
        places,
        queries,
        labels,
        neurons,
        places @ neurons.T,
        gram,
        kept,
        jnp.asarray(setting.leak, drawn.dtype),
    )


def _init(key: PRNGKeyArray, drawn: Drawn, hyper: Hyper) -> State:
    bound = hyper.init_scale / jnp.sqrt(jnp.sum(drawn.kept))
    start = bound * (2 * uniform(key, drawn.neurons.shape, drawn.kept.dtype) - 1)
    start = start * drawn.kept[:, None] * drawn.kept
    logits = jnp.einsum("ntd,de,ne->nt", drawn.tokens, start, drawn.queries)
    return State(start, logits, jnp.zeros_like(logits))


def _step(key: PRNGKeyArray, drawn: Drawn, hyper: Hyper, state: State) -> State:
    logs = jax.nn.log_softmax(state.logits)
    scores = drawn.labels[:, None] * _scores(drawn, jnp.exp(logs))
    # The head is homogeneous: its output is s^T gamma, as for a linear one.
    _, pulls, outputs = log_pulls(scores, logs)
    pulls = pulls * falling_slope("logistic", outputs)
    moved = (drawn.gram @ pulls.reshape(-1)).reshape(pulls.shape)
    square = jnp.sum(pulls * moved)
    length = jnp.where(square > 0, hyper.step_size, 0.0) / jnp.sqrt(jnp.where(square > 0, square, 1.0))
    return State(state.start, state.logits + length * moved, state.pulls + length * pulls)


def _scores(drawn: Drawn, attended: Float[Array, "inputs tokens"]) -> Array:
    """Return `x_it^T grad h(X_i^T s_i)`, what a token adds to the head's output."""
    slopes = jnp.where(_inputs(drawn, attended) > 0, 1.0, drawn.leak)
    return jnp.einsum("ntw,nw->nt", drawn.units, slopes)


def _inputs(drawn: Drawn, attended: Float[Array, "inputs tokens"]) -> Float[Array, "inputs dim"]:
    return jnp.einsum("nt,ntw->nw", attended, drawn.units)


def _conclude(drawn: Drawn, hyper: Hyper, records: Metrics, state: State) -> Metrics:
    weights, attended = trained_weights(drawn, state), jax.nn.softmax(state.logits)
    selected, masked = attended > ATTENDED, attended < MASKED
    several = jnp.sum(selected, axis=1) > 1
    active = jnp.any(_inputs(drawn, attended) > 0, axis=1) | (drawn.leak > 0)
    pushing = ~several & active
    pulls, violation = solutions(drawn.gram, state.logits, selected, pushing)
    finite, margin, one_token, live = jnp.einsum("snt,ntd,ne->sde", pulls, drawn.tokens, drawn.queries)
    sums = [_added(weights, finite, other) for other in (margin, live, one_token)]
    compared = jnp.stack([sums[0], margin, one_token, *sums[1:]])
    mixed = jnp.any(drawn.labels < 0)
    between = jnp.any(~selected & ~masked)
    found = {
        "mixed": mixed,
        "between": between,
        "accepted": mixed & ~between & jnp.any(masked) & (violation < SOLVED),
        "unsolved": ~(violation < SOLVED),
        "several": jnp.any(several),
        "pushed": jnp.any(pushing),
    }
    found = {name: value.astype(weights.dtype) for name, value in found.items()}
    return found | {"error": distance(compared, weights) ** 2 / 2, "norm": jnp.linalg.norm(weights)}


def _added(weights: Array, finite: Array, margin: Array) -> Float[Array, "dim dim"]:
    """Return `W_fin + c W^mm` with the c that brings it closest to the weights."""
    square = jnp.sum(margin**2)
    return finite + jnp.sum((weights - finite) * margin) / jnp.where(square > 0, square, 1.0) * margin
