r"""Gradients of attention to a prompt, and of its head, that hold however saturated softmax and loss are.

The model of arXiv:2306.13596 (AT-D-M1): `f(X) = <X v, softmax(X W^T p)>` with a prompt `p`, a head `v` and a fixed
`W`. With the keys `k_it = W x_it` and the scores `gamma_it = Y_i v^T x_it`, the loss `L = (1/n) sum_i l(u_i)`, `u_i =
s_i^T gamma_i`, `s_i = softmax_t(k_it^T p)`, has the gradients

    grad_p L = (1/n) sum_i l'(u_i) K_i^T (diag(s_i) - s_i s_i^T) gamma_i,
    grad_v L = (1/n) sum_i l'(u_i) Y_i X_i^T s_i.

Both `l'` and the softmax's Jacobian underflow in training, `l'` where the head is trained as well: each gradient comes
as `e^a G`, with `G` of order one.

>>> import jax
>>> import jax.numpy as jnp
>>> jax.config.update("jax_enable_x64", True)
>>> tokens = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
>>> problem = PromptProblem(tokens, tokens, labels=jnp.array([1.0]), head=jnp.array([1.0, 0.0]))
>>> of_prompt, _ = log_gradients(problem, jnp.array([2000.0, 0.0]), 900 * problem.head, "logistic")
>>> round(float(of_prompt.scale)), jnp.round(of_prompt.direction, 9).tolist()
(-2893, [-1.0, 1.0])
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from theory_sim.attention.selection_gradient import log_pulls


class PromptProblem(NamedTuple):
    """Sequences of tokens with their keys `W x_it` and labels +1 or -1, and a linear head `v` (AT-D-M1)."""

    tokens: Float[Array, "inputs tokens dim"]
    keys: Float[Array, "inputs tokens key_dim"]
    labels: Float[Array, " inputs"]
    head: Float[Array, " dim"]


class LogVector(NamedTuple):
    """The vector `e^scale direction`."""

    scale: Float[Array, ""]
    direction: Float[Array, " dim"]


def prompt_scores(problem: PromptProblem, head: Float[Array, " dim"]) -> Float[Array, "inputs tokens"]:
    """Return `gamma_it = Y_i v^T x_it`."""
    return problem.labels[:, None] * (problem.tokens @ head)


def prompt_log_attention(
    problem: PromptProblem, prompt: Float[Array, " key_dim"]
) -> Float[Array, "inputs tokens"]:
    """Return the logarithm of `softmax_t(k_it^T p)`."""
    return jax.nn.log_softmax(problem.keys @ prompt)


def log_gradients(
    problem: PromptProblem,
    prompt: Float[Array, " key_dim"],
    head: Float[Array, " dim"],
    loss: str,
    sharpness: Float[Array, ""] | float = 1.0,
) -> tuple[LogVector, LogVector]:
    """Return the gradients of the loss `l(sharpness u) / sharpness` by the prompt and by the head."""
    scores, logs = prompt_scores(problem, head), prompt_log_attention(problem, prompt)
    scale, pulls, outputs = log_pulls(scores, logs, apart=True)
    slopes = log_falling_slope(loss, sharpness * outputs)
    pulled = jnp.any(pulls != 0, axis=1, keepdims=True)
    unit, weights = _in_one_unit(jnp.where(pulled, scale + slopes, -jnp.inf))
    of_prompt = jnp.einsum("nt,ntk->k", weights * pulls, problem.keys)
    head_unit, head_weights = _in_one_unit(slopes)
    attended = (head_weights * problem.labels[:, None]) * jnp.exp(logs)
    of_head = jnp.einsum("nt,ntd->d", attended, problem.tokens)
    count = len(scores)
    return LogVector(unit, -of_prompt / count), LogVector(head_unit, -of_head / count)


def log_falling_slope(loss: str, output: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return `log(-l'(u))` of `log(1 + e^-u)`, `e^-u` or `-u` (AT-A-M2)."""
    if loss == "logistic":
        return -jax.nn.softplus(output)
    return -output if loss == "exponential" else jnp.zeros_like(output)


def log_loss(
    problem: PromptProblem,
    prompt: Float[Array, " key_dim"],
    head: Float[Array, " dim"],
    loss: str,
    sharpness: Float[Array, ""] | float = 1.0,
) -> Float[Array, ""]:
    """Return the log of the loss, logistic or exponential, also where the loss underflows."""
    scores, logs = prompt_scores(problem, head), prompt_log_attention(problem, prompt)
    outputs = sharpness * jnp.sum(jnp.exp(logs) * scores, axis=1)
    if loss == "logistic":
        # log(1 + x) is x up to rounding for such outputs.
        far = outputs > 40
        outputs = jnp.where(far, outputs, -jnp.log(jax.nn.softplus(-jnp.where(far, 0.0, outputs))))
    return jax.nn.logsumexp(-outputs) - jnp.log(len(scores) * sharpness)


def _in_one_unit(logs: Float[Array, "inputs 1"]) -> tuple[Float[Array, ""], Float[Array, "inputs 1"]]:
    """Return the largest of some logarithms (0 if none is finite), and the numbers in the unit of that one."""
    largest = jnp.max(logs)
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    return largest, jnp.exp(logs - largest)
