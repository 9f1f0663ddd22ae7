r"""The task-vector form of the one-layer transformer, its two matrices trained by stochastic gradient descent.

    f(X) = (1/P) sum_l a^T ReLU( V X softmax( X^T W x_l ) )

with the P tokens as columns of X, all of which ask, and `a` fixed (arXiv:2504.10957; AT-C-T3). There is one
discriminative direction: tokens `mu_T` speak for the label 1, tokens `-mu_T` for -1, and the M others for none. It is
the network of `network` with `W_Q = W` and with `W_K` and `W_V` the identity, neither of them trained.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> simulation = task_vector_transformer(dim=8, tokens=6, max_width=16, samples=64, test_samples=32)
>>> problem = jax.jit(simulation.sample)(jax.random.key(0), simulation.setting)
>>> run = jax.jit(trajectory(simulation, [0, 300]))
>>> loss = run(jax.random.key(1), problem, simulation.hyper)["test_loss"]
>>> bool(loss[-1] < 0.5 < loss[0])
True
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.attention.network import Weights, heads, hinge, neurons
from theory_sim.attention.patterns import Sequences, Setting, draw_data
from theory_sim.attention.task_vector_observations import conclude_on, observe_on, variables_of
from theory_sim.attention.transformer import INFINITY, limits, random_batch, refuse, validate
from theory_sim.decompositions import sort_places
from theory_sim.draws import normal
from theory_sim.simulation import Simulation


class Hyper(NamedTuple):
    """What a run is made with.

    `W(0)` is `attention_scale * I` plus independent entries N(0, attention_noise^2); `V(0)` has independent entries
    N(0, value_scale^2). `train_samples`: how many of the stored samples are used; `width`: how many of the hidden
    neurons m. `score_scale` multiplies the attention scores: 1 is the model, 0 uniform attention.
    """

    step_size: float = 0.2
    attention_scale: float = 0.1
    attention_noise: float = 0.01
    value_scale: float = 0.02
    train_samples: int = 1
    width: int = 2
    score_scale: float = 1.0


class Problem(NamedTuple):
    """The patterns, of which the first is mu_T and the second -mu_T, and a training and a test set."""

    setting: Setting
    patterns: Float[Array, "dim dim"]
    train: Sequences
    test: Sequences


class Trained(NamedTuple):
    """The trained matrices `W` and `V`."""

    attention: Float[Array, "dim dim"]
    value: Float[Array, "width dim"]

    def weights(self) -> Weights:
        """Return the matrices of the network of `network` that is the same function."""
        one = jnp.eye(self.attention.shape[0], dtype=self.attention.dtype)
        return Weights(query=self.attention, key=one, value=one, output=self.value)


class State(NamedTuple):
    """The trained matrices, those the run started from, and the place of each neuron in random pruning."""

    trained: Trained
    start: Trained
    shuffle: Int[Array, " width"]


def task_vector_transformer(
    *,
    dim: int,
    tokens: int,
    max_width: int,
    samples: int,
    test_samples: int,
    batch: int = 8,
    fresh_batches: bool = False,
) -> Simulation:
    """Return SGD on the hinge loss of the task-vector transformer, on up to `dim` patterns in `dim` dimensions.

    The axis `patterns` counts mu_T, -mu_T and the M irrelevant ones; `correlation` is that among mu_T and these. Sizes
    and batches are those of `pattern_transformer`, with all tokens asking. The metrics are those of
    `task_vector_observations`.

    Raises ValueError when a size is too small or `batch` is above `samples`.
    """
    validate(
        dim=dim, tokens=tokens, max_width=max_width, samples=samples, test_samples=test_samples, batch=batch,
        queries=tokens, max_classes=2,
    )  # fmt: skip
    hyper = Hyper(train_samples=samples, width=max_width)
    legal = limits(dim=dim, max_classes=2, max_width=max_width, samples=samples, batch=batch)
    legal = {name: legal[name] for name in (*Setting._fields, *Hyper._fields) if name in legal}
    return Simulation(
        sample=partial(_sample, dim=dim, tokens=tokens, samples=samples, test_samples=test_samples),
        init=partial(_init, dim=dim, max_width=max_width),
        step=partial(_step, batch=batch, fresh=fresh_batches),
        observe=observe_on,
        setting=Setting(patterns=dim),
        hyper=hyper,
        conclude=conclude_on,
        variables=variables_of(dim=dim),
        limits={**legal, "attention_scale": (-INFINITY, INFINITY), "attention_noise": (0.0, INFINITY)},
        refuse=refuse,
    )


def _sample(
    key: PRNGKeyArray, setting: Setting, *, dim: int, tokens: int, samples: int, test_samples: int
) -> Problem:
    total = samples + test_samples
    patterns, data = draw_data(key, setting, dim=dim, samples=total, tokens=tokens, opposite=True)
    train = jax.tree.map(lambda x: x[:samples], data)
    test = jax.tree.map(lambda x: x[samples:], data)
    return Problem(jax.tree.map(jnp.asarray, setting), patterns, train, test)


def _init(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, dim: int, max_width: int) -> State:
    # One draw for all: W, then for each neuron its row of V and its place in random pruning.
    drawn = normal(key, (dim + max_width, dim + 1))
    used = jnp.arange(max_width)[:, None] < hyper.width
    start = Trained(
        attention=hyper.attention_scale * jnp.eye(dim) + hyper.attention_noise * drawn[:dim, :dim],
        value=jnp.where(used, hyper.value_scale * drawn[dim:, :dim], 0.0),
    )
    return State(start, start, shuffle=sort_places(drawn[dim:, dim]))


def _step(
    key: PRNGKeyArray, problem: Problem, hyper: Hyper, state: State, *, batch: int, fresh: bool
) -> State:
    tokens, labels = random_batch(key, problem, hyper, batch=batch, fresh=fresh)
    slopes = jax.grad(_loss)(state.trained, tokens, labels, hyper)
    trained = jax.tree.map(lambda w, slope: w - hyper.step_size * slope, state.trained, slopes)
    return state._replace(trained=trained)


def _loss(
    trained: Trained,
    tokens: Float[Array, "samples tokens dim"],
    labels: Int[Array, " samples"],
    hyper: Hyper,
) -> Float[Array, ""]:
    head = heads(2, hyper.width, most=2, width=len(trained.value))
    hidden = neurons(trained.weights(), tokens, tokens.shape[1], hyper.score_scale)
    return hinge(hidden @ head.T, labels).mean()
