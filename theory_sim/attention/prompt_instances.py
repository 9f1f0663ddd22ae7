r"""Problems of attention to a prompt: random ones, and small ones after the published experiments (AT-D-S1).

- `sphere`: tokens and head on the unit sphere, random labels, keys `W x` with `W = 1 + mixing G / sqrt d`.
- `choice`: one input of three tokens with keys (-0.1, 1), (1, 0), (0, 0) and scores 1, 0.9 and `third_score`.
- `pair`: two inputs of two tokens. The keys' differences `k_i1 - k_i2` have length `sqrt 2` and an angle between 45 and
  90 degrees; the scores are 1 and 0 for the first input, `score_scale` and 0 for the second.
- `planted`: the first token of input i is `Y_i (1 + depth_i) u + noise g / sqrt d` for one direction `u`, with noise
  across it, where `depth_i` is `depth` for the second half of the inputs and 0 for the first; the others are
  `0.7 g / sqrt d`. The key of the first token is above that of another by `h_i w + 0.3 g / sqrt d` for one direction
  `w`, with `h_i = alignment` for the second half and 1 for the first. (Tokens that are linearly independent have any
  keys, for some `W`.)

In `choice` and `pair` the last coordinate of a token is its score, and the prompt sees the other two.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.attention.prompt_gradient import PromptProblem, prompt_scores
from theory_sim.draws import normal

FIXED_SIZES = {"choice": (1, 3, 3), "pair": (2, 2, 3)}
"""Inputs, tokens and dimension of the small instances."""
INSTANCES = ("sphere", "planted", *FIXED_SIZES)
OTHERS, KEY_NOISE = 0.7, 0.3
"""The norms, about, of planted tokens that carry no label, and of what sets their keys apart."""


class Setting(NamedTuple):
    """What problems are drawn with; each kind reads its own.

    `sphere`: the spread of the scores of tokens that are not optimal (as of `token_selection`), and `mixing`. `choice`:
    the third score. `pair`: the best score of the second input, in units of the first's. `planted`: how much farther
    than the others half of the inputs are from the boundary, the noise on their tokens, and how their keys are aligned.
    """

    score_spread: float = 1.0
    mixing: float = 1.0
    third_score: float = 0.0
    score_scale: float = 1.0
    depth: float = 1.0
    noise: float = 0.5
    alignment: float = 0.3


LIMITS = {
    "score_spread": (0.0, 1.0),
    "mixing": (0.0, float("inf")),
    "third_score": (-float("inf"), 1.0),
    "score_scale": (0.0, float("inf")),
    "depth": (0.0, float("inf")),
    "noise": (0.0, float("inf")),
    "alignment": (-float("inf"), float("inf")),
}


def sampler(
    name: str, *, inputs: int, tokens: int, dim: int
) -> Callable[[PRNGKeyArray, Setting], PromptProblem]:
    """Return how one kind of problem, of some size, is drawn.

    Raises ValueError on an unknown name, or a size that the small instances do not have.
    """
    if name not in INSTANCES:
        raise ValueError(f"instance must be one of {', '.join(INSTANCES)}, got {name!r}")
    sizes = (inputs, tokens, dim)
    if sizes != FIXED_SIZES.get(name, sizes):
        raise ValueError(f"{name} has inputs, tokens and dim {FIXED_SIZES[name]}, got {sizes}")
    if name in FIXED_SIZES:
        return {"choice": _choice, "pair": _pair}[name]
    return partial({"sphere": _sphere, "planted": _planted}[name], sizes=sizes)


def _sphere(key: PRNGKeyArray, setting: Setting, *, sizes: tuple[int, int, int]) -> PromptProblem:
    inputs, tokens, dim = sizes
    drawn = jax.lax.optimization_barrier(normal(key, (inputs * (tokens + 1) + 1 + dim, dim)))
    labels = jnp.where(drawn[:inputs, 0] < 0, -1.0, 1.0)
    vectors = drawn[inputs : inputs * (tokens + 1) + 1]
    vectors = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)
    head, places = vectors[0], vectors[1:].reshape(inputs, tokens, dim)
    scores = prompt_scores(PromptProblem(places, places, labels, head), head)
    others = jnp.arange(tokens) != jnp.argmax(scores, axis=1)[:, None]
    mean = jnp.mean(scores, axis=1, keepdims=True, where=others)
    # Moved along the unit head, a token changes its score alone: by Y^2 = 1, as much as it is moved by Y.
    moves = jnp.where(others, (1 - setting.score_spread) * (mean - scores), 0.0) * labels[:, None]
    places = places + moves[:, :, None] * head
    mixing = setting.mixing / jnp.sqrt(dim) * drawn[-dim:]
    return PromptProblem(places, places + places @ mixing.T, labels, head)


def _choice(key: PRNGKeyArray, setting: Setting) -> PromptProblem:
    keys = jnp.array([[[-0.1, 1.0], [1.0, 0.0], [0.0, 0.0]]])
    return _scored(keys, jnp.stack([1.0, 0.9, jnp.asarray(setting.third_score)])[None])


def _pair(key: PRNGKeyArray, setting: Setting) -> PromptProblem:
    turn, *places = jax.random.uniform(key, (6,))
    first, second = 2 * jnp.pi * turn, 2 * jnp.pi * turn + (1 + places[0]) * jnp.pi / 4
    angles = jnp.stack([first, second])
    differences = jnp.sqrt(2.0) * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    worse = jnp.stack(places[1:]).reshape(2, 2)
    scores = jnp.stack([jnp.ones(2), jnp.zeros(2)], axis=1) * jnp.stack(
        [jnp.ones(()), setting.score_scale + jnp.zeros(())]
    ).reshape(2, 1)
    return _scored(jnp.stack([worse + differences, worse], axis=1), scores)


def _scored(keys: Float[Array, "inputs tokens 2"], scores: Float[Array, "inputs tokens"]) -> PromptProblem:
    tokens = jnp.concatenate([keys, scores[:, :, None]], axis=2)
    return PromptProblem(tokens, keys, jnp.ones(len(keys)), jnp.array([0.0, 0.0, 1.0]))


def _planted(key: PRNGKeyArray, setting: Setting, *, sizes: tuple[int, int, int]) -> PromptProblem:
    inputs, tokens, dim = sizes
    drawn = jax.lax.optimization_barrier(normal(key, (inputs * (2 * tokens + 1) + 3, dim)))
    labels = jnp.where(drawn[:inputs, 0] < 0, -1.0, 1.0)
    units = drawn[inputs : inputs + 3]
    signal, along, head = units / jnp.linalg.norm(units, axis=1, keepdims=True)
    noise, of_keys = drawn[inputs + 3 :].reshape(2, inputs, tokens, dim) / jnp.sqrt(dim)
    deep = (jnp.arange(inputs) >= (inputs + 1) // 2)[:, None]
    across = noise[:, 0] - (noise[:, 0] @ signal)[:, None] * signal
    first = labels[:, None] * jnp.where(deep, 1 + setting.depth, 1.0) * signal + setting.noise * across
    above = jnp.where(deep, setting.alignment, 1.0) * along
    # A shift of all keys of an input changes nothing: those of the first tokens are zero.
    keys = -above[:, None] + KEY_NOISE * of_keys
    return PromptProblem(
        jnp.concatenate([first[:, None], OTHERS * noise[:, 1:]], axis=1),
        jnp.concatenate([jnp.zeros_like(keys[:, :1]), keys[:, 1:]], axis=1),
        labels,
        head,
    )
