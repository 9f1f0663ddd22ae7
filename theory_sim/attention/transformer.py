r"""The one-layer transformer on pattern data, its four matrices trained by stochastic gradient descent.

The model of arXiv:2302.06015 and arXiv:2406.17167 (AT-B-M1, AT-C-M1), with the hinge loss `max(0, 1 - y F(X))`.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = pattern_transformer(dim=8, tokens=6, max_width=16, samples=64, test_samples=32)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> loss = trajectory(simulation, [0, 300])(jax.random.key(1), problem, simulation.hyper)["test_loss"]
>>> bool(loss[-1] < 0.5 < loss[0])
True
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.attention.network import Weights, heads, hinge, neurons
from theory_sim.attention.observations import conclude_on, observe_on, variables_of
from theory_sim.attention.patterns import Sequences, Setting, draw_data, draw_sequences
from theory_sim.decompositions import orthonormal_rows, sort_places
from theory_sim.draws import normal
from theory_sim.simulation import Simulation

INFINITY = float("inf")


class Hyper(NamedTuple):
    """What a run is made with.

    `W_Q(0)` and `W_K(0)` are `query_key_scale * I`, `W_V(0)` is `value_scale * I`, and `W_O(0)` has independent entries
    N(0, output_scale^2) (AT-C-T4, AT-B-S3). To `W_V(0)` independent entries N(0, value_error^2 / dim) are added, so
    that `W_V(0) mu_j` misses `value_scale * mu_j` by `value_error` in norm, about (sigma of AT-B-M3), and
    `query_key_error` does the same to `W_Q(0)` and to `W_K(0)` (delta of AT-B-M3).
    `train_samples`: how many of the stored samples are used; `width`: how many of the hidden neurons. `score_scale`
    multiplies the attention scores: 1 is the model, 0 uniform attention.
    """

    step_size: float = 0.1
    query_key_scale: float = 0.3
    query_key_error: float = 0.0
    value_scale: float = 0.3
    value_error: float = 0.0
    output_scale: float = 0.01
    train_samples: int = 1
    width: int = 2
    score_scale: float = 1.0


class Problem(NamedTuple):
    """The patterns, an orthonormal basis of the span of the discriminative ones, and a training and a test set.

    `plane` has rows of zeros beyond the number of classes.
    """

    setting: Setting
    patterns: Float[Array, "dim dim"]
    plane: Float[Array, "most dim"]
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
    max_width: int,
    samples: int,
    test_samples: int,
    batch: int = 8,
    queries: int = 4,
    max_classes: int = 2,
    fresh_batches: bool = False,
    geometry: bool = True,
    pruning: bool = True,
    token_pruning: bool = False,
) -> Simulation:
    """Return SGD on the hinge loss of the one-layer transformer, on up to `dim` patterns in `dim` dimensions.

    Sequences have `tokens` tokens, of which `queries` form the set S. Up to `max_width` hidden neurons are in use and
    up to `max_classes` classes, each with a discriminative pattern; two classes are the papers' model.
    `samples` sequences are stored for training; each step draws `batch` of the first `train_samples` of them with
    replacement, or, with `fresh_batches`, new sequences from the population. `test_samples` sequences have true
    labels.

    The metrics are those of `observations`: losses, errors and attention at each record, with `geometry` the spectra
    and directions of the updates too; once a run, with `geometry` their response to each pattern, with `pruning` the
    groups of neurons and their pruning, with `token_pruning` the test loss without some of the tokens.

    Raises ValueError when a size is too small, `queries` is above `tokens`, `batch` above `samples`, or there are more
    discriminative patterns than dimensions. A sweep checks each number by itself; cells whose fractions sum to more
    than 1 or that have more classes than patterns are told before they run.
    """
    validate(
        dim=dim, tokens=tokens, max_width=max_width, samples=samples, test_samples=test_samples, batch=batch,
        queries=queries, max_classes=max_classes,
    )  # fmt: skip
    parts: dict[str, Any] = {"geometry": geometry, "pruning": pruning, "token_pruning": token_pruning}
    return Simulation(
        sample=partial(
            sample_problem,
            dim=dim,
            tokens=tokens,
            samples=samples,
            test_samples=test_samples,
            max_classes=max_classes,
        ),
        init=partial(_init, dim=dim, max_width=max_width),
        step=partial(_step, batch=batch, queries=queries, fresh=fresh_batches),
        observe=partial(observe_on, queries=queries, geometry=geometry),
        setting=Setting(patterns=dim),
        hyper=Hyper(train_samples=samples, width=max_width),
        conclude=partial(conclude_on, queries=queries, **parts) if any(parts.values()) else None,
        variables=variables_of(dim=dim, max_classes=max_classes, tokens=tokens, **parts),
        limits=limits(dim=dim, max_classes=max_classes, max_width=max_width, samples=samples, batch=batch),
        caution=caution,
        refuse=refuse,
    )


def validate(*, tokens: int, queries: int, batch: int, samples: int, **sizes: int) -> None:
    """Raise ValueError at the first size that is too small or contradicts another."""
    least = {"dim": 3, "max_width": 2, "max_classes": 2}
    given = {**sizes, "samples": samples, "batch": batch, "tokens": tokens, "queries": queries}
    for name, value in given.items():
        if value < least.get(name, 1):
            raise ValueError(f"{name} must be at least {least.get(name, 1)}, got {value}")
    if queries > tokens:
        raise ValueError(f"queries must be at most tokens = {tokens}, got {queries}")
    if batch > samples:
        raise ValueError(f"batch must be at most samples = {samples}, got {batch}")
    if sizes["max_classes"] > sizes["dim"]:
        dim, most = sizes["dim"], sizes["max_classes"]
        raise ValueError(f"max_classes must be at most dim = {dim}, the number of patterns, got {most}")


def limits(
    *, dim: int, max_classes: int, max_width: int, samples: int, batch: int
) -> dict[str, tuple[float, float]]:
    """Return the legal intervals of the axes of `Setting` and `Hyper`."""
    not_negative = (0.0, INFINITY)
    return {
        "patterns": (3, dim),
        "classes": (2, max_classes),
        "relevant_fraction": (0.0, 1.0),
        "confusion_fraction": (0.0, 1.0),
        "token_noise": not_negative,
        "noise_bound": not_negative,
        "correlation": (0.0, float(np.nextafter(1.0, 0.0))),
        "label_noise": (0.0, 1.0),
        "step_size": not_negative,
        "query_key_scale": not_negative,
        "query_key_error": not_negative,
        "value_scale": not_negative,
        "value_error": not_negative,
        "output_scale": not_negative,
        "train_samples": (batch, samples),
        "width": (2, max_width),
        "score_scale": not_negative,
    }


def refuse(setting: Any, hyper: Any) -> dict[str, Any]:
    """Say which cells ask for data or networks that cannot be."""
    told = setting.relevant_fraction + setting.confusion_fraction
    return {
        "relevant_fraction + confusion_fraction must be at most 1": told > 1 + 1e-9,
        "classes must be at most patterns: each has a pattern of its own": setting.classes > setting.patterns,
        "width must be at least classes: each has neurons of its own": hyper.width < setting.classes,
    }


def caution(setting: Any, hyper: Any) -> dict[str, Any]:
    """Say which cells get other data than one might think."""
    told = setting.relevant_fraction + setting.confusion_fraction
    return {
        "classes = patterns, fractions that sum to less than 1: the last class gets the irrelevant tokens": (
            setting.classes == setting.patterns
        )
        & (told < 1 - 1e-9),
        "relevant_fraction at most confusion_fraction / (classes - 1): a majority vote misses the label": (
            setting.relevant_fraction <= setting.confusion_fraction / (setting.classes - 1) + 1e-9
        )
        & (setting.confusion_fraction > 0),
    }


def sample_problem(
    key: PRNGKeyArray,
    setting: Setting,
    *,
    dim: int,
    tokens: int,
    samples: int,
    test_samples: int,
    max_classes: int,
) -> Problem:
    """Draw patterns, a training set and a test set."""
    patterns, data = draw_data(key, setting, dim=dim, samples=samples + test_samples, tokens=tokens)
    train = jax.tree.map(lambda x: x[:samples], data)
    test = jax.tree.map(lambda x: x[samples:], data)
    told = jnp.arange(max_classes)[:, None] < setting.classes
    plane = orthonormal_rows(jnp.where(told, patterns[:max_classes], 0.0))
    return Problem(jax.tree.map(jnp.asarray, setting), patterns, plane, train, test)


def _init(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, max_width: int) -> State:
    drawn = normal(key, (max_width, dim + 1))
    used = jnp.arange(max_width)[:, None] < hyper.width
    of_value, of_query, of_key = normal(jax.random.fold_in(key, 1), (3, dim, dim)) / dim**0.5
    start = Weights(
        query=hyper.query_key_scale * jnp.eye(dim) + hyper.query_key_error * of_query,
        key=hyper.query_key_scale * jnp.eye(dim) + hyper.query_key_error * of_key,
        value=hyper.value_scale * jnp.eye(dim) + hyper.value_error * of_value,
        output=jnp.where(used, hyper.output_scale * drawn[:, :dim], 0.0),
    )
    return State(start, start, shuffle=sort_places(drawn[:, dim]))


def _step(
    key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State, *, batch: int, queries: int, fresh: bool
) -> State:
    gradient = batch_gradient(key, problem, hyper, state.weights, batch=batch, queries=queries, fresh=fresh)
    weights = jax.tree.map(lambda w, slope: w - hyper.step_size * slope, state.weights, gradient)
    return state._replace(weights=weights)


def batch_gradient(
    key: PRNGKeyArray,
    problem: Problem,
    hyper: Any,
    weights: Weights,
    *,
    batch: int,
    queries: int,
    fresh: bool = False,
) -> Weights:
    """Return the gradient of the mean loss of a random batch by all matrices."""
    chosen = random_batch(key, problem, hyper, batch=batch, fresh=fresh)
    return jax.grad(_loss)(weights, *chosen, problem, hyper, queries)


def random_batch(
    key: PRNGKeyArray, problem: Any, hyper: Any, *, batch: int, fresh: bool = False
) -> tuple[Float[Array, "batch tokens dim"], Int[Array, " batch"]]:
    """Return the tokens and given labels of stored sequences, drawn with replacement, or of `fresh` ones."""
    if fresh:
        tokens = problem.train.tokens.shape[1]
        drawn = draw_sequences(key, problem.patterns, problem.setting, samples=batch, tokens=tokens)
        return drawn.tokens, drawn.given
    # float32 at any precision: the draws stay the same, and cost half.
    place = jax.random.uniform(key, (batch,), jnp.float32) * hyper.train_samples
    index = jnp.minimum(place.astype(jnp.int32), hyper.train_samples - 1)
    return problem.train.tokens[index], problem.train.given[index]


def _loss(
    weights: Weights,
    tokens: Float[Array, "samples tokens dim"],
    labels: Int[Array, " samples"],
    problem: Problem,
    hyper: Any,
    queries: int,
) -> Float[Array, ""]:
    classes = problem.setting.classes
    head = heads(classes, hyper.width, most=len(problem.plane), width=len(weights.output))
    outputs = neurons(weights, tokens, queries, hyper.score_scale) @ head.T
    return hinge(outputs, labels, classes).mean()
