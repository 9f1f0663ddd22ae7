r"""What is seen of a one-layer transformer: losses, attention, the geometry of its updates, pruning.

At each record: `train_loss` and `train_error` with the labels given, `test_loss`, `test_error`, and `attention_mass`,
the attention on the label-relevant tokens. With `geometry`, for the update of each matrix (`W(t) - W(0)`) also its
first `singular_values`, its `effective_rank` and `stable_rank`, `outside_energy` (the share outside the top K
directions, K classes) and `angle`, the K principal angles between the top K right singular directions and the span of
mu_1 .. mu_K, the largest first and 0 beyond the K-th; meaningless at step 0.

Once a run, with `geometry`: `response`, the norm of `dW mu_j` for each pattern in units of its mean over the
discriminative ones (AT-C-P2), 0 for patterns beyond those in use. With `pruning`: the norms of the rows of `W_O` as
quantiles (`row_norm`) and as two groups (see `pruning.two_groups`); `small_inactive`, the share of the small group that
is inactive on every test sequence; test loss and error after pruning (`pruned_loss`, `pruned_error`), and
`group_pruned_loss`, after the removal of as many neurons as the small group has. With `token_pruning`:
`token_pruned_loss` and `token_pruned_error` on the test set without some of its tokens (see `token_pruning`).

`W_O` reads values, which have the coordinates of tokens as long as `W_V(0)` is a multiple of the identity. With a
`value_error` it is not: the angle and the response of `W_O` are then to mu_j, not to the values `W_V(0) mu_j`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from theory_sim.attention.network import attention, heads, hinge, neurons, wrong
from theory_sim.attention.pruning import ORDERS, pruned_outputs, pruning_ranks, quantiles, two_groups
from theory_sim.attention.token_pruning import TOKEN_ORDERS, outputs_without, removals, removed_counts
from theory_sim.attention.updates import effective_rank, energy_outside, principal_angles, stable_rank
from theory_sim.decompositions import leading_directions
from theory_sim.simulation import Metrics, Variable

Dims = Mapping[str, Sequence[Any] | np.ndarray]
MATRICES = ("query", "key", "value", "output")
FRACTIONS = np.linspace(0, 1, 21)
QUANTILES = (np.arange(64) + 0.5) / 64
BEYOND = 4
"""Singular values recorded beyond those of as many directions as there may be classes."""


def observe_on(problem: Any, hyper: Any, state: Any, *, queries: int, geometry: bool) -> Metrics:
    """Return the metrics of one record; a state has `weights` and `start`."""
    weights, classes = state.weights, problem.setting.classes
    head = heads(classes, hyper.width, most=len(problem.plane), width=len(weights.output))
    # Both sets at once: one network to compile.
    stored = len(problem.train.tokens)
    both = jnp.concatenate([problem.train.tokens, problem.test.tokens])
    outputs = neurons(weights, both, queries, hyper.score_scale) @ head.T
    attended = attention(weights, both, queries, hyper.score_scale)[stored:]
    train, test = outputs[:stored], outputs[stored:]
    used = jnp.arange(len(train)) < hyper.train_samples
    metrics = {
        "train_loss": jnp.mean(hinge(train, problem.train.given, classes), where=used),
        "train_error": jnp.mean(wrong(train, problem.train.given, classes), where=used),
        "test_loss": hinge(test, problem.test.labels, classes).mean(),
        "test_error": wrong(test, problem.test.labels, classes).mean(),
        "attention_mass": jnp.sum(attended * problem.test.relevant[:, None], axis=-1).mean(),
    }
    return {**metrics, **_geometry(problem, state)} if geometry else metrics


def _geometry(problem: Any, state: Any) -> Metrics:
    most, classes = len(problem.plane), problem.setting.classes
    values, directions = jax.vmap(leading_directions)(padded(updates(state)))
    leading = jnp.where(jnp.arange(most)[:, None] < classes, directions[:, :most], 0.0)
    recorded = most + BEYOND
    return {
        "singular_values": jnp.pad(values, ((0, 0), (0, recorded)))[:, :recorded],
        "effective_rank": jax.vmap(effective_rank)(values),
        "stable_rank": stable_rank(values),
        "outside_energy": jax.vmap(partial(energy_outside, count=classes))(values),
        "angle": jax.vmap(principal_angles, in_axes=(0, None))(leading, problem.plane),
    }


def updates(state: Any) -> list[Float[Array, "rows dim"]]:
    """Return `W(t) - W(0)` of the four matrices."""
    return [now - start for now, start in zip(state.weights, state.start, strict=True)]


def padded(matrices: list[Float[Array, "rows dim"]]) -> Float[Array, "matrices most_rows dim"]:
    """Return the matrices with rows of zeros added up to the largest, which changes no singular direction."""
    rows = max(len(matrix) for matrix in matrices)
    return jnp.stack([jnp.pad(matrix, ((0, rows - len(matrix)), (0, 0))) for matrix in matrices])


def conclude_on(
    problem: Any,
    hyper: Any,
    records: Metrics,
    state: Any,
    *,
    queries: int,
    geometry: bool,
    pruning: bool,
    token_pruning: bool,
) -> Metrics:
    """Return the metrics of one run's end; a state has `weights`, `start` and `shuffle`."""
    return {
        **({"response": _responses(problem, state)} if geometry else {}),
        **(_pruned(problem, hyper, state, queries) if pruning else {}),
        **(_without_tokens(problem, hyper, state) if token_pruning else {}),
    }


def _pruned(problem: Any, hyper: Any, state: Any, queries: int) -> Metrics:
    output, test, width = state.weights.output, problem.test, hyper.width
    classes = problem.setting.classes
    norms = jnp.linalg.norm(output, axis=1)
    groups = two_groups(norms, width)
    removal = pruning_ranks(norms, state.shuffle, width)
    head = heads(classes, width, most=len(problem.plane), width=len(output))
    hidden = neurons(state.weights, test.tokens, queries, hyper.score_scale)
    small = (jnp.arange(len(norms)) < width) & (norms <= groups.threshold)
    fractions = jnp.append(jnp.asarray(FRACTIONS, norms.dtype), groups.small_fraction)
    outputs = pruned_outputs(hidden, head, removal, fractions, width)
    losses = hinge(outputs, test.labels, classes).mean(axis=-1)
    return {
        "row_norm": quantiles(norms, jnp.asarray(QUANTILES, norms.dtype), width),
        **groups._asdict(),
        "small_inactive": jnp.mean(jnp.where(hidden.max(axis=0) > 0, 0.0, 1.0), where=small),
        "pruned_loss": losses[:, :-1],
        "pruned_error": wrong(outputs[:, :-1], test.labels, classes).mean(axis=-1),
        "group_pruned_loss": losses[:, -1],
    }


def _responses(problem: Any, state: Any) -> Float[Array, "matrices patterns"]:
    index = jnp.arange(len(problem.patterns))
    norms = jnp.stack([jnp.linalg.norm(u @ problem.patterns.T, axis=0) for u in updates(state)])
    relevant = jnp.mean(norms, axis=1, keepdims=True, where=index < problem.setting.classes)
    return jnp.where(index < problem.setting.patterns, norms, 0.0) / jnp.where(relevant > 0, relevant, 1.0)


def _without_tokens(problem: Any, hyper: Any, state: Any) -> Metrics:
    test, classes = problem.test, problem.setting.classes
    head = heads(classes, hyper.width, most=len(problem.plane), width=len(state.weights.output))
    removal = removals(test, state.weights.query.dtype)
    outputs = outputs_without(state.weights, test.tokens, removal, hyper.score_scale) @ head.T
    return {
        "token_pruned_loss": hinge(outputs, test.labels, classes).mean(axis=-1),
        "token_pruned_error": wrong(outputs, test.labels, classes).mean(axis=-1),
    }


def variables_of(
    *, dim: int, max_classes: int, tokens: int, geometry: bool, pruning: bool, token_pruning: bool
) -> dict[str, Variable]:
    """Return what the metrics are, for figures and datasets."""
    matrix: Dims = {"matrix": MATRICES}
    leading: Dims = {**matrix, "singular_value": range(1, max_classes + BEYOND + 1)}
    pruned: Dims = {"order": ORDERS, "fraction": FRACTIONS}
    without: Dims = {"token_order": TOKEN_ORDERS, "removed": removed_counts(tokens)}
    always = {
        "train_loss": Variable("training loss"),
        "train_error": Variable("training error"),
        "test_loss": Variable("test loss"),
        "test_error": Variable("test error"),
        "attention_mass": Variable("attention on label-relevant tokens"),
    }
    of_geometry = {
        "singular_values": Variable("singular value of the update", dims=leading),
        "effective_rank": Variable("effective rank of the update", dims=matrix),
        "stable_rank": Variable("stable rank of the update", dims=matrix),
        "outside_energy": Variable("energy outside the top directions, one a class", dims=matrix),
        "angle": Variable(
            "angle to the span of the discriminative patterns",
            "degrees",
            {**matrix, "direction": range(1, max_classes + 1)},
        ),
        "response": Variable("relative response to a pattern", dims={**matrix, "pattern": range(1, dim + 1)}),
    }
    of_neurons = {
        "row_norm": Variable("norm of a row of the output matrix", dims={"quantile": QUANTILES}),
        "small_fraction": Variable("fraction of small rows"),
        "small_inactive": Variable("share of small rows that no test sequence activates"),
        "small_norm": Variable("norm of a small row"),
        "large_norm": Variable("norm of a large row"),
        "threshold": Variable("norm at which small and large rows are split"),
        "separation": Variable("variance of log norms between two groups, share"),
        "pruned_loss": Variable("test loss after pruning", dims=pruned),
        "pruned_error": Variable("test error after pruning", dims=pruned),
        "group_pruned_loss": Variable("test loss without the small group", dims={"order": ORDERS}),
    }
    of_tokens = {
        "token_pruned_loss": Variable("test loss without some tokens", dims=without),
        "token_pruned_error": Variable("test error without some tokens", dims=without),
    }
    parts = ((geometry, of_geometry), (pruning, of_neurons), (token_pruning, of_tokens))
    return always | {name: variable for wanted, part in parts if wanted for name, variable in part.items()}
