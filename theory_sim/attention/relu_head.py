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
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> found = trajectory(simulation, [500])(jax.random.key(1), problem, Hyper(leak=1.0))
>>> float(found["several"]), found["error"].shape, bool((found["error"] < 0.01).all())
(0.0, (4,), True)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from theory_sim.attention.margin import generalized_max_margin
from theory_sim.attention.selection_gradient import falling_slope, log_pulls
from theory_sim.decompositions import solve_spd
from theory_sim.draws import normal, uniform
from theory_sim.simulation import Metrics, Simulation, Variable

ATTENDED, MASKED = 1e-3, 1e-6
"""A token with more attention counts as selected, one with less as masked (AT-A-S7)."""
SOLUTIONS = ("finite_and_margin", "margin", "one_token", "live")
"""What weights are compared with: `W_fin + c W^mm`, `W^mm`, the solution for one token each, `W_fin + c W_live`."""


class Setting(NamedTuple):
    """The dimension of the tokens, and the number of neurons."""

    dim: int = 4


class Hyper(NamedTuple):
    """The length of a step, and the slope of a neuron below zero: 0 is ReLU, 1 a linear head.

    The entries of `W(0)` are uniform within `init_scale / sqrt(dim)`.
    """

    step_size: float = 0.1
    leak: float = 0.0
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
    are mixed, no token is between, some is masked, and (Gen-SVM) has a solution: what was published; `several`,
    whether some sequence selects more than one token; `pushed`, whether some sequence pushes for good. And `norm`.

    Raises ValueError when there is no sequence, a sequence has a single token, or `max_dim` is below 1.
    """
    for name, value, least in (("inputs", inputs, 1), ("tokens", tokens, 2), ("max_dim", max_dim, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
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


def finite_part(
    tokens: Float[Array, "inputs tokens dim"],
    queries: Float[Array, "inputs dim"],
    selected: Bool[Array, "inputs tokens"],
    logits: Float[Array, "inputs tokens"],
) -> Float[Array, "dim dim"]:
    """Return `W_fin`, the shortest matrix with `(x_it - x_i,tau)^T W_fin z_i = logit_it - logit_i,tau` on each `O_i`.

    From the normal equations; the differences with the first selected token, `(x_it - x_i,first) z_i^T`, have to be
    linearly independent, as those of Gaussian tokens are for `dim >= tokens - 1` and `dim >= inputs`.
    """
    first = jnp.argmax(selected, axis=1)[:, None]
    differences = (tokens - jnp.take_along_axis(tokens, first[:, :, None], axis=1)).reshape(
        -1, tokens.shape[2]
    )
    of_queries = jnp.repeat(queries, tokens.shape[1], axis=0)
    kept = (selected & (jnp.arange(tokens.shape[1]) != first)).reshape(-1)
    gram = (differences @ differences.T) * (of_queries @ of_queries.T)
    gram = jnp.where(kept[:, None] & kept, gram, jnp.eye(len(kept), dtype=gram.dtype))
    ratios = (logits - jnp.take_along_axis(logits, first, axis=1)).reshape(-1)
    multipliers = solve_spd(gram, jnp.where(kept, ratios, 0.0)[:, None])
    return (differences * multipliers).T @ of_queries


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
    return Drawn(places, queries, labels, neurons, places @ neurons.T, gram, kept)


def _init(key: PRNGKeyArray, drawn: Drawn, hyper: Hyper) -> State:
    bound = hyper.init_scale / jnp.sqrt(jnp.sum(drawn.kept))
    start = bound * (2 * uniform(key, drawn.neurons.shape, drawn.kept.dtype) - 1)
    start = start * drawn.kept[:, None] * drawn.kept
    logits = jnp.einsum("ntd,de,ne->nt", drawn.tokens, start, drawn.queries)
    return State(start, logits, jnp.zeros_like(logits))


def _step(key: PRNGKeyArray, drawn: Drawn, hyper: Hyper, state: State) -> State:
    logs = jax.nn.log_softmax(state.logits)
    scores = drawn.labels[:, None] * _scores(drawn, hyper, jnp.exp(logs))
    # The head is homogeneous: its output is s^T gamma, as for a linear one.
    _, pulls, outputs = log_pulls(scores, logs)
    pulls = pulls * falling_slope("logistic", outputs)
    moved = (drawn.gram @ pulls.reshape(-1)).reshape(pulls.shape)
    square = jnp.sum(pulls * moved)
    length = jnp.where(square > 0, hyper.step_size, 0.0) / jnp.sqrt(jnp.where(square > 0, square, 1.0))
    return State(state.start, state.logits + length * moved, state.pulls + length * pulls)


def _scores(drawn: Drawn, hyper: Hyper, attended: Float[Array, "inputs tokens"]) -> Array:
    """Return `x_it^T grad h(X_i^T s_i)`, what a token adds to the head's output."""
    slopes = jnp.where(_inputs(drawn, attended) > 0, 1.0, hyper.leak)
    return jnp.einsum("ntw,nw->nt", drawn.units, slopes)


def _inputs(drawn: Drawn, attended: Float[Array, "inputs tokens"]) -> Float[Array, "inputs dim"]:
    return jnp.einsum("nt,ntw->nw", attended, drawn.units)


def _conclude(drawn: Drawn, hyper: Hyper, records: Metrics, state: State) -> Metrics:
    weights, attended = trained_weights(drawn, state), jax.nn.softmax(state.logits)
    selected, masked = attended > ATTENDED, attended < MASKED
    best = jnp.arange(selected.shape[1]) == jnp.argmax(state.logits, axis=1)[:, None]
    several = jnp.sum(selected, axis=1) > 1
    active = jnp.any(_inputs(drawn, attended) > 0, axis=1) | (hyper.leak > 0)
    pushing = ~several & active
    # A masked token that is not pushed is replaced by a copy of a selected one, whose equality says nothing.
    top = jnp.sum(jnp.where(best[:, :, None], drawn.tokens, 0.0), axis=1, keepdims=True)
    pushed_alone = jnp.where((pushing[:, None] | selected)[:, :, None], drawn.tokens, top)
    places = jnp.stack([drawn.tokens, drawn.tokens, pushed_alone])
    chosen = jnp.stack([selected, best, selected | ~pushing[:, None]])
    solved = jax.vmap(lambda x, o: generalized_max_margin(x, drawn.queries, o))(places, chosen)
    margin, one_token, live = solved.weights
    finite = finite_part(drawn.tokens, drawn.queries, selected, state.logits)
    solutions = jnp.stack([_added(weights, finite, margin), margin, one_token, _added(weights, finite, live)])
    mixed = jnp.any(drawn.labels < 0)
    between = jnp.any(~selected & ~masked)
    found = {
        "mixed": mixed,
        "between": between,
        "accepted": mixed & ~between & jnp.any(masked) & solved.feasible[0],
        "several": jnp.any(several),
        "pushed": jnp.any(pushing),
    }
    found = {name: value.astype(weights.dtype) for name, value in found.items()}
    difference = _unit(weights) - jax.vmap(_unit)(solutions)
    return found | {"error": jnp.sum(difference**2, axis=(1, 2)) / 2, "norm": jnp.linalg.norm(weights)}


def _added(weights: Array, finite: Array, margin: Array) -> Float[Array, "dim dim"]:
    """Return `W_fin + c W^mm` with the c that brings it closest to the weights."""
    square = jnp.sum(margin**2)
    return finite + jnp.sum((weights - finite) * margin) / jnp.where(square > 0, square, 1.0) * margin


def _unit(matrix: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    norm = jnp.linalg.norm(matrix)
    return matrix / jnp.where(norm > 0, norm, 1.0)
