r"""Token selection: one attention layer with a fixed linear head, trained until its softmax is saturated.

The model of arXiv:2308.16898 (AT-A-M1): `f(X, z) = v^T X^T softmax(X W z)`. Only `W` is trained, as such or as
`W = K Q^T`; its norm grows without bound, and its direction tends to that of a max margin problem (`margin`).

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> jax.config.update("jax_enable_x64", True)
>>> simulation = token_selection(inputs=2, tokens=3, dim=6)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> found = trajectory(simulation, [100, 1000])(jax.random.key(1), problem, simulation.hyper)
>>> ratio = found["direction_error"][0] / found["direction_error"][1]
>>> bool(98 < found["norm"][1] < 100), bool(8 < ratio < 12)
(True, True)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.attention.directions import unit
from theory_sim.attention.selection_direction import compare
from theory_sim.attention.selection_gradient import (
    LOSSES,
    Problem,
    log_attention,
    log_excess_loss,
    log_gradient,
    log_unselected,
    plain_gradient,
    token_scores,
)
from theory_sim.simulation import Metrics, Simulation, Variable, check_counts

INFINITY = float("inf")
PARAMETERIZATIONS = ("weights", "key_query")
RULES = ("gradient", "normalized", "published", "polyak", "power")
EPSILON = 2.22e-16
"""What the published rule adds to the norm that it divides by."""


class Setting(NamedTuple):
    """What a problem is drawn with.

    `score_spread` scales the differences between the scores of a sequence's tokens that are not optimal: 1 leaves
    them as drawn; 0 makes them equal, the hypothesis of the global direction's theorem (B.2, AT-A-T6; see
    `selection_capture` for where that was not enough). Below 1, tokens moved along the head lose their norm of 1.
    """

    score_spread: float = 1.0


class Hyper(NamedTuple):
    """What a run is made with: the step size (a multiple of Polyak's under that rule) and the scale of the start.

    `W(0)` has independent entries N(0, init_scale^2 / d); with a key and a query, `K(0)` has entries N(0,
    init_scale^2), and `Q(0)` is zero. No step of Polyak's rule, or of a power above 1, is longer than `longest_step`.
    `power` belongs to the rule of that name, and key and query have `columns` columns that are not zero.
    """

    step_size: float = 0.1
    init_scale: float = 0.0
    longest_step: float = 10.0
    power: float = 1.0
    columns: int = 1


class Direct(NamedTuple):
    """Trained weights `W`."""

    weights: Float[Array, "dim dim"]


class KeyQuery(NamedTuple):
    """A trained key and query, `W = K Q^T`."""

    key: Float[Array, "dim key_dim"]
    query: Float[Array, "dim key_dim"]


State = Direct | KeyQuery


def token_selection(
    *,
    inputs: int,
    tokens: int,
    dim: int,
    key_dim: int | None = None,
    parameterization: str = "weights",
    rule: str = "normalized",
    loss: str = "logistic",
    self_attention: bool = False,
    nuclear: bool = False,
) -> Simulation:
    """Return the training of attention weights on `inputs` sequences of `tokens` tokens in `dim` dimensions.

    Tokens, queries and head are Gaussian, each scaled to norm 1, and labels are the signs of Gaussians (AT-A-S1). With
    `self_attention` the query of a sequence is its first token. `parameterization="key_query"` trains `K` and `Q` with
    `key_dim` columns (`dim` if not given) instead of `W`.

    Rules, with `eta` the step size; all but the published one compute in the log domain (`selection_gradient`):

    - `gradient`: `W - eta grad L` (AT-A-U1).
    - `normalized`: `W - eta grad L / ||grad L||`, each factor by itself (AT-A-U3).
    - `published`: the same with `||grad L|| + 2.22e-16`, the gradient computed as it stands, and for factors
      `2.22e-16 (||K||^2 + ||Q||^2)` added to the loss (AT-A-U2): kept to show where it stalls.
    - `polyak`: `W - eta (L - L*) grad L / ||grad L||^2`, for data on which the optimal tokens are selected (AT-A-U4).
      Of bounded length (SPS_max, arXiv:2002.10542): where a sequence attends to a wrong token for a while, the gradient
      almost vanishes and `L - L*` does not. Late steps have length `eta ||W^mm||`.
    - `power`: `W - eta (L - L*)^max(p - 1, 0) grad L / ||grad L||^p`, whose power `p` is a run axis: one program for
      gradient descent (0), normalised steps (1, all trained matrices together), Polyak's (2), and what lies between.

    Metrics: `norm = ||W||_F`, `log_excess_loss = log(L - L*)`, `log_unselected`, the log of the largest share of
    attention outside a sequence's most attended token, and those of `selection_direction.compare`: among them
    `direction_error`, the distance of `W / ||W||` from the direction of the max margin problem of the tokens selected
    at the end, in the Frobenius norm, and with `nuclear` also `nuclear_error`, that from the nuclear norm's. As
    `1 - corr(A, B) = |A/|A| - B/|B||^2 / 2`, they carry the correlations, without cancellation.

    Raises ValueError when there is no sequence, a sequence has a single token, a size is below 1 or no whole number, a
    word is unknown, or `key_dim` is given without `parameterization="key_query"`.
    """
    columns = {} if key_dim is None else {"key_dim": key_dim}
    check_counts({"tokens": 2}, inputs=inputs, tokens=tokens, dim=dim, **columns)
    for name, word, choices in (
        ("parameterization", parameterization, PARAMETERIZATIONS),
        ("rule", rule, RULES),
        ("loss", loss, LOSSES),
    ):
        if word not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {word!r}")
    if key_dim is not None and parameterization != "key_query":
        raise ValueError(f"key_dim needs parameterization='key_query', got key_dim={key_dim} without it")
    factors = (key_dim or dim) if parameterization == "key_query" else None
    return Simulation(
        sample=partial(_sample, inputs=inputs, tokens=tokens, dim=dim, self_attention=self_attention),
        init=partial(_init, dim=dim, key_dim=factors),
        step=partial(_step, rule=rule, loss=loss),
        observe=partial(_observe, loss=loss),
        setting=Setting(),
        hyper=Hyper(init_scale=0.0 if factors is None else 0.1, columns=factors or dim),
        conclude=partial(_conclude, loss=loss, nuclear=nuclear),
        variables=_variables(nuclear),
        limits={
            "score_spread": (0.0, 1.0),
            "step_size": (0.0, INFINITY),
            "init_scale": (0.0, INFINITY),
            "longest_step": (0.0, INFINITY),
            "power": (0.0, 2.0),
            "columns": (1, factors or dim),
        },
    )


def _sample(
    key: PRNGKeyArray, setting: Setting, *, inputs: int, tokens: int, dim: int, self_attention: bool
) -> Problem:
    # One draw, kept apart from what follows: XLA takes seconds to compile four, or one that is fused with its norms.
    drawn = jax.lax.optimization_barrier(jax.random.normal(key, (inputs + 1, (tokens + 1) * dim + 1)))
    head = unit(drawn[0, :dim])
    vectors = unit(drawn[1:, :-1].reshape(inputs, tokens + 1, dim))
    labels = jnp.where(drawn[1:, -1] < 0, -1.0, 1.0)
    problem = Problem(vectors[:, 1:], vectors[:, 0], labels, head)
    scores = token_scores(problem)
    others = jnp.arange(tokens) != jnp.argmax(scores, axis=1)[:, None]
    mean = jnp.mean(scores, axis=1, keepdims=True, where=others)
    # Moved along the unit head, a token changes its score alone: by Y^2 = 1, as much as it is moved by Y.
    moves = jnp.where(others, (1 - setting.score_spread) * (mean - scores), 0.0) * labels[:, None]
    moved = problem.tokens + moves[:, :, None] * head
    return problem._replace(tokens=moved, queries=moved[:, 0] if self_attention else problem.queries)


def _init(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, key_dim: int | None) -> State:
    if key_dim is None:
        return Direct(hyper.init_scale / jnp.sqrt(dim) * jax.random.normal(key, (dim, dim)))
    drawn = hyper.init_scale * jax.random.normal(key, (key_dim, dim)).T
    # Columns of zeros stay so: the slope of each is a multiple of the other matrix' column.
    return KeyQuery(jnp.where(jnp.arange(key_dim) < hyper.columns, drawn, 0.0), jnp.zeros((dim, key_dim)))


def attention_weights(state: State) -> Float[Array, "dim dim"]:
    """Return `W` of a run's state: `W` itself, or `K Q^T`."""
    return state.weights if isinstance(state, Direct) else state.key @ state.query.T


def _slopes(state: State, gradient: Float[Array, "dim dim"]) -> State:
    """Return the gradient by the trained matrices, from that by `W`."""
    if isinstance(state, Direct):
        return Direct(gradient)
    return KeyQuery(gradient @ state.query, gradient.T @ state.key)


def _step(key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State, *, rule: str, loss: str) -> State:
    weights = attention_weights(state)
    if rule == "published":
        slopes = _slopes(state, plain_gradient(problem, weights, loss))
        if isinstance(state, KeyQuery):
            slopes = jax.tree.map(lambda slope, now: slope + 2 * EPSILON * now, slopes, state)
        lengths = jax.tree.map(lambda slope: hyper.step_size / (_norm(slope) + EPSILON), slopes)
    else:
        scale, gradient = log_gradient(problem, weights, loss)
        slopes = _slopes(state, gradient)
        if rule == "normalized":
            lengths = jax.tree.map(lambda slope: hyper.step_size / _above_zero(_norm(slope)), slopes)
        elif rule == "gradient":
            lengths = jax.tree.map(lambda slope: hyper.step_size * jnp.exp(scale), slopes)
        else:
            norm = jnp.sqrt(jnp.sum(jnp.stack([jnp.sum(slope**2) for slope in slopes])))
            power = hyper.power if rule == "power" else 2.0
            # Losses and gradients below the smallest float: their logarithms are what is combined.
            fall = jnp.maximum(power - 1, 0.0) * log_excess_loss(problem, weights, loss) + (1 - power) * scale
            whole = hyper.step_size * jnp.exp(fall) * norm ** (1 - power)
            whole = jnp.where(power > 1, jnp.minimum(whole, hyper.longest_step), whole)
            lengths = jax.tree.map(lambda slope: jnp.where(norm > 0, whole, 0.0) / _above_zero(norm), slopes)
    return jax.tree.map(lambda now, slope, length: now - length * slope, state, slopes, lengths)


def _norm(matrix: Array) -> Array:
    return jnp.sqrt(jnp.sum(matrix**2))


def _above_zero(value: Array) -> Array:
    return jnp.where(value > 0, value, 1.0)


def _observe(problem: Problem, hyper: Hyper, state: State, *, loss: str) -> Metrics:
    weights = attention_weights(state)
    return {
        "norm": _norm(weights),
        "log_excess_loss": log_excess_loss(problem, weights, loss),
        "log_unselected": log_unselected(problem, weights),
        "_weights": weights,
    }


def _conclude(
    problem: Problem, hyper: Hyper, records: Metrics, state: State, *, loss: str, nuclear: bool
) -> Metrics:
    selected = jnp.argmax(log_attention(problem, attention_weights(state)), axis=1)
    return compare(problem, records["_weights"], selected, loss=loss, nuclear=nuclear)


def _variables(nuclear: bool) -> dict[str, Variable]:
    each = {"step": None}
    of_nuclear = {
        "nuclear_error": Variable("distance from the nuclear max margin direction", dims=each),
        "nuclear_rank": Variable("rank of the nuclear max margin weights"),
        "effective_rank": Variable("singular values of the last weights above 1% of the largest"),
    }
    return {
        "norm": Variable("norm of the attention weights"),
        "log_excess_loss": Variable("log of the loss above its infimum"),
        "log_unselected": Variable("log of the attention outside the selected token"),
        "direction_error": Variable("distance from the max margin direction", dims=each),
        "residual": Variable("part of the weights across the max margin direction", dims=each),
        "residual_limit": Variable("predicted limit of the residual"),
        "margin_norm": Variable("norm of the max margin weights"),
        "support_share": Variable("share of the tokens not selected that are support tokens"),
        "selected": Variable("selected token", dims={"input": None}),
        "global": Variable("whether the selected tokens are the optimal ones"),
        "local": Variable("whether the selected tokens are locally optimal"),
        "feasible": Variable("whether the selected tokens can be separated"),
    } | (of_nuclear if nuclear else {})
