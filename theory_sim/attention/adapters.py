r"""The one-layer transformer on pattern data with low-rank adapters `W = W(0) + B A` of some matrices.

If the updates of full training have rank K (AT-C1, AT-C3), adapters of rank K should do as well as the full matrices,
and smaller ones worse. Adapters are either those of attention, `W_Q` and `W_K`, while `W_V` and `W_O` are trained in
full, or that of the values, `W_V`, while `W_Q` and `W_K` are trained in full and `W_O` is random and fixed, so that it
cannot learn in the adapter's stead.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = adapted_transformer(dim=8, tokens=6, max_width=16, samples=64, test_samples=32, max_rank=4)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> rank_two = simulation.hyper._replace(adapter_rank=2)
>>> values = trajectory(simulation, [50])(jax.random.key(1), problem, rank_two)["singular_values"][0, 0]
>>> bool(values[2] < 1e-3 * values[0] < values[1])
True
"""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.attention.network import Weights
from theory_sim.attention.observations import observe_on, variables_of
from theory_sim.attention.patterns import Setting
from theory_sim.attention.transformer import (
    INFINITY,
    Problem,
    batch_gradient,
    caution,
    limits,
    refuse,
    sample_problem,
    validate,
)
from theory_sim.draws import normal
from theory_sim.simulation import Simulation


class Hyper(NamedTuple):
    """What a run is made with: as for `pattern_transformer`, and the adapters.

    `adapter_rank` is the number q of columns of B in use; 0 trains the matrices themselves instead. The entries of
    A(0) are N(0, adapter_scale^2 / q), so that with a scale of 1 the first step of an adapter is that of the full
    matrix in expectation, whatever the rank; B(0) = 0. With a scale of 0 an adapter never moves: its matrix is fixed.
    `value_adapters`: 0 for adapters of `W_Q` and `W_K`, 1 for one of `W_V`.
    """

    step_size: float = 0.1
    query_key_scale: float = 0.3
    value_scale: float = 0.3
    output_scale: float = 1.0
    train_samples: int = 1
    width: int = 2
    score_scale: float = 1.0
    adapter_rank: int = 1
    adapter_scale: float = 1.0
    value_adapters: int = 0


class State(NamedTuple):
    """The weights, those the run started from, and the factors B and A for `W_Q`, `W_K`, `W_V`, some in no use."""

    weights: Weights
    start: Weights
    left: Float[Array, "3 dim max_rank"]
    right: Float[Array, "3 max_rank dim"]


def adapted_transformer(
    *,
    dim: int,
    tokens: int,
    max_width: int,
    samples: int,
    test_samples: int,
    max_rank: int,
    batch: int = 8,
    queries: int = 4,
    max_classes: int = 2,
) -> Simulation:
    """Return SGD on adapters of rank up to `max_rank`, of `W_Q` and `W_K` or of `W_V`, or on the full matrices.

    Sizes, data and metrics are those of `pattern_transformer` with its geometry, without what is measured once a run.

    Raises ValueError as `pattern_transformer` does, or when `max_rank` is below 1 or above `dim`.
    """
    validate(
        dim=dim, tokens=tokens, max_width=max_width, samples=samples, test_samples=test_samples, batch=batch,
        queries=queries, max_classes=max_classes,
    )  # fmt: skip
    if not 1 <= max_rank <= dim:
        raise ValueError(f"max_rank must lie between 1 and dim = {dim}, got {max_rank}")
    variables = variables_of(
        dim=dim, max_classes=max_classes, tokens=tokens, geometry=True, pruning=False, token_pruning=False
    )
    recorded = (
        "train_loss",
        "train_error",
        "test_loss",
        "test_error",
        "attention_mass",
        "singular_values",
        "effective_rank",
        "stable_rank",
    )
    legal = limits(dim=dim, max_classes=max_classes, max_width=max_width, samples=samples, batch=batch)
    legal = {name: legal[name] for name in (*Setting._fields, *Hyper._fields) if name in legal}
    return Simulation(
        sample=partial(
            sample_problem,
            dim=dim,
            tokens=tokens,
            samples=samples,
            test_samples=test_samples,
            max_classes=max_classes,
        ),
        init=partial(_init, dim=dim, max_width=max_width, max_rank=max_rank),
        step=partial(_step, batch=batch, queries=queries),
        observe=partial(observe_on, queries=queries, geometry=True),
        setting=Setting(patterns=dim),
        hyper=Hyper(train_samples=samples, width=max_width, adapter_rank=max_rank),
        variables={name: variables[name] for name in (*recorded, "outside_energy", "angle")},
        limits={
            **legal,
            "adapter_rank": (0, max_rank),
            "adapter_scale": (0.0, INFINITY),
            "value_adapters": (0, 1),
        },
        caution=caution,
        refuse=refuse,
    )


def _init(
    key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, max_width: int, max_rank: int
) -> State:
    # One draw for all: for each possible rank a row of the three A, then the neurons.
    drawn = normal(key, (3 * max_rank + max_width, dim))
    right = jnp.swapaxes(drawn[: 3 * max_rank].reshape(max_rank, 3, dim), 0, 1)
    used = jnp.arange(max_rank)[:, None] < hyper.adapter_rank
    scale = hyper.adapter_scale / jnp.sqrt(jnp.maximum(1.0 * hyper.adapter_rank, 1.0))
    right = jnp.where(used, scale * right, 0.0)
    neurons = jnp.arange(max_width)[:, None] < hyper.width
    start = Weights(
        query=hyper.query_key_scale * jnp.eye(dim),
        key=hyper.query_key_scale * jnp.eye(dim),
        value=hyper.value_scale * jnp.eye(dim),
        output=jnp.where(neurons, hyper.output_scale * drawn[3 * max_rank :], 0.0),
    )
    return State(start, start, jnp.zeros((3, dim, max_rank)), right)


def _step(
    key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State, *, batch: int, queries: int
) -> State:
    gradient = batch_gradient(key, problem, hyper, state.weights, batch=batch, queries=queries)
    slopes = jnp.stack(gradient[:3])
    # The chain rule through W = W(0) + B A: both factors' gradients come from that of W.
    left = state.left - hyper.step_size * slopes @ jnp.swapaxes(state.right, 1, 2)
    right = state.right - hyper.step_size * jnp.swapaxes(state.left, 1, 2) @ slopes
    whole = jnp.stack(state.weights[:3]) - hyper.step_size * slopes
    adapted = jnp.stack(state.start[:3]) + left @ right
    of_values = hyper.value_adapters > 0
    have_adapters = (hyper.adapter_rank > 0) & (jnp.asarray([False, False, True]) == of_values)
    query, key_, value = jnp.where(have_adapters[:, None, None], adapted, whole)
    output = state.weights.output - hyper.step_size * jnp.where(of_values, 0.0, gradient.output)
    return State(Weights(query, key_, value, output), state.start, left, right)
