r"""What is seen of the task-vector transformer: losses, attention, how far its updates are from rank one, its rows.

At each record: `train_loss`, `train_error`, `test_loss`, `test_error`, and `attention_mass`, the attention on the
label-relevant tokens. For the updates `dW = W(t) - W(0)` and `dV`, along the dimension `matrix`: the
`singular_values`, the `effective_rank`, the `residual` `||dW - dW_1||_F` that the best matrix of rank one leaves, and
the same as a share of `||dW||_F` (`relative_residual`). `angle` is that of the leading singular vectors to mu_T: of
dW on both sides, of dV on the right. All of it is meaningless at step 0, where nothing has moved.

Once a run, of the rows of dV: quantiles of their norms (`row_norm`), the two groups of `pruning.two_groups`, and the
root mean square norm of each (`group_norm`). Rows that were never active have an update of zero: norms below
`NEGLIGIBLE` of the largest count as that. Pruning sets rows of dV to zero, so that V(0) is left of them: test loss and
error for every share of rows (`pruned_loss`, `pruned_error`), and for as many as the small group has
(`group_pruned_loss`, `group_pruned_error`).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from theory_sim.attention.batching import in_pieces
from theory_sim.attention.network import attention, heads, hinge, neurons, wrong
from theory_sim.attention.observations import FRACTIONS, QUANTILES, Dims, padded
from theory_sim.attention.pruning import ORDERS, pruned_outputs, pruning_ranks, quantiles, two_groups
from theory_sim.attention.updates import effective_rank, energy_outside
from theory_sim.decompositions import leading_directions
from theory_sim.simulation import Metrics, Variable

MATRICES = ("W", "V")
SIDES = ("W left", "W right", "V right")
GROUPS = ("small", "large")
RECORDED = 6
"""Singular values recorded of each update."""
NEGLIGIBLE = 0.01


def observe_on(problem: Any, hyper: Any, state: Any) -> Metrics:
    """Return the metrics of one record; a state has `trained` and `start`."""
    test, train, head = problem.test, problem.train, _head(hyper, state)
    both = jnp.concatenate([train.tokens, test.tokens])
    outputs = _outputs(state.trained, both, head, hyper.score_scale)
    of_train, of_test = outputs[: len(train.tokens)], outputs[len(train.tokens) :]
    attended = attention(
        state.trained.weights(), test.tokens, queries=test.tokens.shape[1], score_scale=hyper.score_scale
    )
    used = jnp.arange(len(of_train)) < hyper.train_samples
    return {
        "train_loss": jnp.mean(hinge(of_train, train.given), where=used),
        "train_error": jnp.mean(wrong(of_train, train.given), where=used),
        "test_loss": hinge(of_test, test.labels).mean(),
        "test_error": wrong(of_test, test.labels).mean(),
        "attention_mass": jnp.sum(attended * test.relevant[:, None], axis=-1).mean(),
        **_geometry(problem.patterns[0], state),
    }


@partial(in_pieces, width=1)
def _outputs(
    trained: Any, tokens: Float[Array, "samples tokens dim"], head: Float[Array, "2 width"], score_scale: Any
) -> Float[Array, "samples 2"]:
    """Return the outputs of the network, one run at a time: the neurons of many leave the cache."""
    return neurons(trained.weights(), tokens, tokens.shape[1], score_scale) @ head.T


def _geometry(direction: Float[Array, " dim"], state: Any) -> Metrics:
    moved = [now - start for now, start in zip(state.trained, state.start, strict=True)]
    values, right = jax.vmap(leading_directions)(padded(moved))
    share = jnp.sqrt(jax.vmap(energy_outside, in_axes=(0, None))(values, 1))
    leading = jnp.stack([_unit(moved[0] @ right[0, 0]), right[0, 0], right[1, 0]])
    return {
        "singular_values": values[:, :RECORDED],
        "effective_rank": jax.vmap(effective_rank)(values),
        "residual": share * jnp.sqrt(jnp.sum(values**2, axis=1)),
        "relative_residual": share,
        "angle": jax.vmap(_angle, in_axes=(0, None))(leading, direction),
    }


def _unit(vector: Float[Array, " dim"]) -> Float[Array, " dim"]:
    square = vector @ vector
    return vector / jnp.sqrt(jnp.where(square > 0, square, 1.0))


def _angle(vector: Float[Array, " dim"], direction: Float[Array, " dim"]) -> Float[Array, ""]:
    """Return the angle in degrees between the lines of a unit vector, or zero, and of a direction."""
    along = vector @ _unit(direction)
    across = vector - along * _unit(direction)
    return jnp.rad2deg(jnp.arctan2(jnp.sqrt(across @ across), jnp.abs(along)))


def conclude_on(problem: Any, hyper: Any, records: Metrics, state: Any) -> Metrics:
    """Return the metrics of one run's end; a state has `trained`, `start` and `shuffle`."""
    test, width, head = problem.test, hyper.width, _head(hyper, state)
    norms = jnp.linalg.norm(state.trained.value - state.start.value, axis=1)
    groups = two_groups(jnp.maximum(norms, NEGLIGIBLE * jnp.max(norms)), width)
    removal = pruning_ranks(norms, state.shuffle, width)
    # Without its update a row still answers as V(0) does, so only the difference is pruned.
    both = state.trained._replace(value=jnp.concatenate([state.trained.value, state.start.value]))
    responses = neurons(both.weights(), test.tokens, test.tokens.shape[1], hyper.score_scale)
    hidden, left = responses[:, : len(norms)], responses[:, len(norms) :]
    fractions = jnp.append(jnp.asarray(FRACTIONS, norms.dtype), groups.small_fraction)
    outputs = left @ head.T + pruned_outputs(hidden - left, head, removal, fractions, width)
    losses = hinge(outputs, test.labels).mean(axis=-1)
    errors = wrong(outputs, test.labels).mean(axis=-1)
    return {
        "row_norm": quantiles(norms, jnp.asarray(QUANTILES, norms.dtype), width),
        "small_fraction": groups.small_fraction,
        "separation": groups.separation,
        "group_norm": _group_norms(norms, removal[0], groups.small_fraction, width),
        "pruned_loss": losses[:, :-1],
        "pruned_error": errors[:, :-1],
        "group_pruned_loss": losses[:, -1],
        "group_pruned_error": errors[:, -1],
    }


def _group_norms(
    norms: Float[Array, " width"], place: Array, small_fraction: Array, width: Array
) -> Float[Array, "2"]:
    small = place < jnp.round(small_fraction * width)
    large = ~small & (place < width)
    return jnp.sqrt(jnp.stack([jnp.mean(norms**2, where=group) for group in (small, large)]))


def _head(hyper: Any, state: Any) -> Float[Array, "2 width"]:
    return heads(2, hyper.width, most=2, width=len(state.trained.value))


def variables_of(*, dim: int) -> dict[str, Variable]:
    """Return what the metrics are, for figures and datasets."""
    matrix: Dims = {"matrix": MATRICES}
    pruned: Dims = {"order": ORDERS, "fraction": FRACTIONS}
    return {
        "train_loss": Variable("training loss"),
        "train_error": Variable("training error"),
        "test_loss": Variable("test loss"),
        "test_error": Variable("test error"),
        "attention_mass": Variable("attention on label-relevant tokens"),
        "singular_values": Variable(
            "singular value of the update",
            dims={**matrix, "singular_value": np.arange(min(RECORDED, dim)) + 1},
        ),
        "effective_rank": Variable("effective rank of the update", dims=matrix),
        "residual": Variable("norm of the update outside rank one", dims=matrix),
        "relative_residual": Variable("share of the norm outside rank one", dims=matrix),
        "angle": Variable("angle of the leading direction to mu_T", "degrees", {"side": SIDES}),
        "row_norm": Variable("norm of a row of the update of V", dims={"quantile": QUANTILES}),
        "small_fraction": Variable("fraction of small rows"),
        "separation": Variable("variance of log norms between two groups, share"),
        "group_norm": Variable("norm of a row of the update of V", dims={"group": GROUPS}),
        "pruned_loss": Variable("test loss after pruning", dims=pruned),
        "pruned_error": Variable("test error after pruning", dims=pruned),
        "group_pruned_loss": Variable("test loss without the small group", dims={"order": ORDERS}),
        "group_pruned_error": Variable("test error without the small group", dims={"order": ORDERS}),
    }
