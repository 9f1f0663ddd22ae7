r"""The one-layer transformer on pattern data, its four matrices trained by stochastic gradient descent.

The model of arXiv:2302.06015 and arXiv:2406.17167 (AT-B-M1, AT-C-M1), with the hinge loss `max(0, 1 - y F(X))`.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = pattern_transformer(dim=8, tokens=6, width=16, samples=64, test_samples=32)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> loss = trajectory(simulation, [0, 300])(jax.random.key(1), problem, simulation.hyper)["test_loss"]
>>> bool(loss[-1] < 0.5 < loss[0])
True
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.attention.network import Weights, attention, contributions, hinge, wrong
from theory_sim.attention.patterns import Sequences, Setting, draw_sequences, orthonormal_patterns
from theory_sim.attention.pruning import ORDERS, pruned_outputs, pruning_ranks, quantiles, two_groups
from theory_sim.attention.updates import effective_rank, energy_outside, largest_angle
from theory_sim.decompositions import leading_directions, ranks
from theory_sim.simulation import Metrics, Simulation, Variable

Dims = Mapping[str, Sequence[Any] | np.ndarray]
INFINITY = float("inf")
MATRICES = ("query", "key", "value", "output")
FRACTIONS = np.linspace(0, 1, 21)
QUANTILES = (np.arange(64) + 0.5) / 64
LEADING = 6


class Hyper(NamedTuple):
    """What a run is made with.

    `W_Q(0) = W_K(0) = query_key_scale * I`, `W_V(0) = value_scale * I`, and `W_O(0)` has independent entries
    N(0, output_scale^2) (AT-C-T4, AT-B-S3). `train_samples`: how many of the stored samples are used.
    """

    step_size: float = 0.1
    query_key_scale: float = 0.3
    value_scale: float = 0.3
    output_scale: float = 0.01
    train_samples: int = 1


class Problem(NamedTuple):
    """An orthonormal basis of patterns, the number of them in use, and a training and a test set."""

    basis: Float[Array, "dim dim"]
    patterns: Int[Array, ""]
    train: Sequences
    test: Sequences


class State(NamedTuple):
    """The weights, those the run started from, and the place of each neuron in random pruning."""

    weights: Weights
    start: Weights
    shuffle: Int[Array, " width"]


def pattern_transformer(
    *,
    dim: int,
    tokens: int,
    width: int,
    samples: int,
    test_samples: int,
    batch: int = 8,
    queries: int = 4,
) -> Simulation:
    """Return SGD on the hinge loss of the one-layer transformer, on up to `dim` patterns in `dim` dimensions.

    Sequences have `tokens` tokens, of which `queries` form the set S; `width` is the number m of hidden
    neurons, even, half of which have a positive head. `samples` sequences are stored for training; each step
    draws `batch` of the first `train_samples` of them with replacement. `test_samples` sequences have true
    labels.

    Metrics at each record: `train_loss`, `test_loss`, `test_error`, `attention_mass` on the label-relevant
    tokens, and for the update of each matrix (`W(t) - W(0)`) its first `singular_values`, `effective_rank`,
    `outside_energy` (the share outside the top two directions) and `angle`, the largest principal angle
    between the top two right singular directions and the span of mu_1 and mu_2, meaningless at step 0. `W_O`
    reads values, which have the coordinates of tokens because `W_V(0)` is a multiple of the identity.

    Metrics once a run: `pattern_response`, the largest norm of `dW mu_j` over irrelevant patterns in units of
    its mean over mu_1 and mu_2 (AT-C-P2); the norms of the rows of `W_O` as quantiles (`row_norm`) and as two
    groups (see `pruning.two_groups`); test loss and error after pruning (`pruned_loss`, `pruned_error`), and
    `group_pruned_loss`, after the removal of as many neurons as the small group has.

    Raises ValueError when a size is too small, `queries` is above `tokens`, or `width` is odd. A sweep checks
    each fraction of tokens; that they sum to at most 1 is not checked, see `patterns.draw_sequences`.
    """
    _validate(
        dim=dim, tokens=tokens, width=width, samples=samples, test_samples=test_samples, batch=batch, queries=queries
    )  # fmt: skip
    return Simulation(
        sample=partial(_sample, dim=dim, tokens=tokens, samples=samples, test_samples=test_samples),
        init=partial(_init, dim=dim, width=width),
        step=partial(_step, batch=batch, queries=queries),
        observe=partial(_observe, queries=queries),
        setting=Setting(patterns=dim),
        hyper=Hyper(train_samples=samples),
        conclude=partial(_conclude, queries=queries),
        variables=_variables(),
        limits={
            "patterns": (3, dim),
            "relevant_fraction": (0.0, 1.0),
            "confusion_fraction": (0.0, 1.0),
            "token_noise": (0.0, INFINITY),
            "label_noise": (0.0, 1.0),
            "step_size": (0.0, INFINITY),
            "query_key_scale": (0.0, INFINITY),
            "value_scale": (0.0, INFINITY),
            "output_scale": (0.0, INFINITY),
            "train_samples": (1, samples),
        },
    )


def _validate(*, tokens: int, width: int, queries: int, **sizes: int) -> None:
    least = {"dim": 3, "width": 2}
    for name, value in {**sizes, "tokens": tokens, "width": width, "queries": queries}.items():
        if value < least.get(name, 1):
            raise ValueError(f"{name} must be at least {least.get(name, 1)}, got {value}")
    if queries > tokens:
        raise ValueError(f"queries must be at most tokens = {tokens}, got {queries}")
    if width % 2:
        raise ValueError(f"width must be even, as half of the head is negative, got {width}")


def _sample(
    key: PRNGKeyArray, setting: Setting, *, dim: int, tokens: int, samples: int, test_samples: int
) -> Problem:
    basis_key, data_key = jax.random.split(key)
    basis = orthonormal_patterns(basis_key, dim=dim)
    data = draw_sequences(data_key, basis, setting, samples=samples + test_samples, tokens=tokens)
    train = jax.tree.map(lambda x: x[:samples], data)
    test = jax.tree.map(lambda x: x[samples:], data)
    return Problem(basis, jnp.asarray(setting.patterns), train, test)


def _init(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, width: int) -> State:
    drawn = jax.random.normal(key, (width, dim + 1))
    start = Weights(
        query=hyper.query_key_scale * jnp.eye(dim),
        key=hyper.query_key_scale * jnp.eye(dim),
        value=hyper.value_scale * jnp.eye(dim),
        output=hyper.output_scale * drawn[:, :dim],
    )
    return State(start, start, shuffle=ranks(drawn[:, dim]))


def _step(
    key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State, *, batch: int, queries: int
) -> State:
    # float32 at any precision: the draws stay the same, and cost half.
    place = jax.random.uniform(key, (batch,), jnp.float32) * hyper.train_samples
    index = jnp.minimum(place.astype(jnp.int32), hyper.train_samples - 1)
    gradient = jax.grad(_loss)(
        state.weights, problem.train.tokens[index], problem.train.given[index], queries
    )
    weights = jax.tree.map(lambda w, slope: w - hyper.step_size * slope, state.weights, gradient)
    return state._replace(weights=weights)


def _loss(
    weights: Weights,
    tokens: Float[Array, "samples tokens dim"],
    labels: Float[Array, " samples"],
    queries: int,
) -> Float[Array, ""]:
    return hinge(contributions(weights, tokens, queries).sum(axis=-1), labels).mean()


def _observe(problem: Problem, hyper: Hyper, state: State, *, queries: int) -> Metrics:
    train = contributions(state.weights, problem.train.tokens, queries).sum(axis=-1)
    test = contributions(state.weights, problem.test.tokens, queries).sum(axis=-1)
    attended = attention(state.weights, problem.test.tokens, queries)
    values, directions = jax.vmap(leading_directions)(_padded(_updates(state)))
    used = jnp.arange(len(train)) < hyper.train_samples
    return {
        "train_loss": jnp.mean(hinge(train, problem.train.given), where=used),
        "test_loss": hinge(test, problem.test.labels).mean(),
        "test_error": wrong(test, problem.test.labels).mean(),
        "attention_mass": jnp.sum(attended * problem.test.relevant[:, None], axis=-1).mean(),
        "singular_values": jnp.pad(values, ((0, 0), (0, LEADING)))[:, :LEADING],
        "effective_rank": jax.vmap(effective_rank)(values),
        "outside_energy": jax.vmap(partial(energy_outside, count=2))(values),
        "angle": jax.vmap(largest_angle, in_axes=(0, None))(directions[:, :2], problem.basis[:2]),
    }


def _updates(state: State) -> list[Float[Array, "rows dim"]]:
    return [now - start for now, start in zip(state.weights, state.start, strict=True)]


def _padded(matrices: list[Float[Array, "rows dim"]]) -> Float[Array, "matrices most_rows dim"]:
    """Return the matrices with rows of zeros added up to the largest, which changes no singular direction."""
    rows = max(len(matrix) for matrix in matrices)
    return jnp.stack([jnp.pad(matrix, ((0, rows - len(matrix)), (0, 0))) for matrix in matrices])


def _conclude(problem: Problem, hyper: Hyper, records: Metrics, state: State, *, queries: int) -> Metrics:
    norms = jnp.linalg.norm(state.weights.output, axis=1)
    groups = two_groups(norms)
    removal = pruning_ranks(norms, state.shuffle)
    parts = contributions(state.weights, problem.test.tokens, queries)
    outputs = pruned_outputs(parts, removal, jnp.asarray(FRACTIONS))
    without_group = pruned_outputs(parts, removal, groups.small_fraction[None])[:, 0]
    responses = jnp.stack([jnp.linalg.norm(u @ problem.basis.T, axis=0) for u in _updates(state)])
    irrelevant = jnp.arange(len(problem.basis)) < problem.patterns
    relevant = responses[:, :2].mean(axis=1)
    largest = jnp.max(jnp.where(irrelevant, responses, 0.0)[:, 2:], axis=1)
    return {
        "pattern_response": largest / jnp.where(relevant > 0, relevant, 1.0),
        "row_norm": quantiles(norms, jnp.asarray(QUANTILES)),
        **groups._asdict(),
        "pruned_loss": hinge(outputs, problem.test.labels).mean(axis=-1),
        "pruned_error": wrong(outputs, problem.test.labels).mean(axis=-1),
        "group_pruned_loss": hinge(without_group, problem.test.labels).mean(axis=-1),
    }


def _variables() -> dict[str, Variable]:
    matrix: Dims = {"matrix": MATRICES}
    leading: Dims = {**matrix, "singular_value": range(1, LEADING + 1)}
    pruned: Dims = {"order": ORDERS, "fraction": FRACTIONS}
    return {
        "train_loss": Variable("training loss"),
        "test_loss": Variable("test loss"),
        "test_error": Variable("test error"),
        "attention_mass": Variable("attention on label-relevant tokens"),
        "singular_values": Variable("singular value of the update", dims=leading),
        "effective_rank": Variable("effective rank of the update", dims=matrix),
        "outside_energy": Variable("energy outside the top two directions", dims=matrix),
        "angle": Variable("largest angle to the discriminative patterns", "degrees", matrix),
        "pattern_response": Variable("relative response to an irrelevant pattern", dims=matrix),
        "row_norm": Variable("norm of a row of the output matrix", dims={"quantile": QUANTILES}),
        "small_fraction": Variable("fraction of small rows"),
        "small_norm": Variable("norm of a small row"),
        "large_norm": Variable("norm of a large row"),
        "separation": Variable("variance of log norms between two groups, share"),
        "pruned_loss": Variable("test loss after pruning", dims=pruned),
        "pruned_error": Variable("test error after pruning", dims=pruned),
        "group_pruned_loss": Variable("test loss without the small group", dims={"order": ORDERS}),
    }
