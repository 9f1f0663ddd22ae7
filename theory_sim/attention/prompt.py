r"""Attention to a trained prompt, with a fixed head or with one that is trained too.

The model of arXiv:2306.13596 (AT-D-M1): `f(X) = <X v, softmax(X W^T p)>`. The prompt `p` selects a token of each input
and grows without bound in a max margin direction (`prompt_direction`); a trained head `v` classifies what is selected.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> jax.config.update("jax_enable_x64", True)
>>> simulation = prompt_attention(inputs=2, tokens=3, dim=6)
>>> problem = simulation.sample(jax.random.key(0), simulation.setting)
>>> found = trajectory(simulation, [100, 1000])(jax.random.key(1), problem, simulation.hyper)
>>> ratio = found["direction_error"][0] / found["direction_error"][1]
>>> bool(98 < found["norm"][1] < 100), bool(6 < ratio < 15)
(True, True)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.attention.prompt_direction import compare_joint, compare_prompt, of_selected
from theory_sim.attention.prompt_gradient import (
    LogVector,
    PromptProblem,
    log_gradients,
    log_loss,
    prompt_log_attention,
)
from theory_sim.attention.prompt_instances import LIMITS, Setting, sampler
from theory_sim.attention.selection_gradient import LOSSES, log_outside
from theory_sim.simulation import Metrics, Simulation, Variable, check_counts

INFINITY = float("inf")
RULES = ("gradient", "normalized", "power")


class Hyper(NamedTuple):
    """What a run is made with.

    `step_size` is that of the prompt, and `head_ratio` the head's in units of it; step t has `(t + 1)^-decay` times
    that size. The prompt starts in a random direction with norm `radius`, a trained head in the problem's with norm
    `head_scale`. The loss is `l(sharpness u) / sharpness`: at 0 the logistic one is linear. `power` belongs to the rule
    of that name. With `together` (0 or 1) steps are divided by the norm of the whole gradient, without by that
    of the prompt's or the head's part.
    """

    step_size: float = 0.1
    radius: float = 0.0
    sharpness: float = 1.0
    power: float = 1.0
    decay: float = 0.0
    head_ratio: float = 1.0
    head_scale: float = 0.0
    together: int = 0


class State(NamedTuple):
    """A prompt, a head, and the number of steps made."""

    prompt: Float[Array, " key_dim"]
    head: Float[Array, " dim"]
    steps: Float[Array, ""]


def prompt_attention(
    *,
    inputs: int,
    tokens: int,
    dim: int,
    rule: str = "normalized",
    loss: str = "logistic",
    joint: bool = False,
    instance: str = "sphere",
    solve: bool = True,
) -> Simulation:
    """Return the training of a prompt, or `joint`ly of prompt and head, on one kind of problem (`prompt_instances`).

    Rules, with `eta` the step size, all in the log domain (`prompt_gradient`):

    - `gradient`: `p - eta grad_p L`, and `v - head_ratio eta grad_v L`.
    - `normalized`: the same with each gradient divided by its norm.
    - `power`: with each divided by the power `power` of its norm, a run axis: 0 for gradient descent, 1 for normalised
      steps.

    Metrics: `norm = ||p||`, `log_unselected`, the log of the largest share of attention outside an input's most
    attended token, those of `of_selected`, and, with `solve`, of `compare_prompt`; or, jointly, `norm`,
    `head_norm = ||v||`, `log_loss` and those of `compare_joint`.

    Raises ValueError when there is no input, an input has a single token, a size is below 1 or no whole number, a word
    is unknown, a small instance has another size, or the linear loss, unbounded in a head, is to be trained jointly.
    """
    check_counts({"tokens": 2}, inputs=inputs, tokens=tokens, dim=dim)
    for name, word, choices in (("rule", rule, RULES), ("loss", loss, LOSSES)):
        if word not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {word!r}")
    if joint and loss == "correlation":
        raise ValueError("joint training needs loss='logistic' or 'exponential', got 'correlation'")
    return Simulation(
        sample=sampler(instance, inputs=inputs, tokens=tokens, dim=dim),
        init=partial(_init, joint=joint),
        step=partial(_step, rule=rule, loss=loss, joint=joint),
        observe=partial(_observe_joint, loss=loss) if joint else _observe,
        setting=Setting(),
        hyper=Hyper(),
        conclude=_conclude_joint if joint else partial(_conclude, solve=solve),
        variables=JOINT_VARIABLES if joint else (VARIABLES | (SOLVED if solve else {})),
        limits=LIMITS
        | {
            "step_size": (0.0, INFINITY),
            "radius": (0.0, INFINITY),
            # A joint loss is recorded, and is infinite for a sharpness of 0.
            "sharpness": (float(np.nextafter(0.0, 1.0)) if joint else 0.0, INFINITY),
            "power": (0.0, 1.0),
            "decay": (0.0, 1.0),
            "head_ratio": (0.0, INFINITY),
            "head_scale": (0.0, INFINITY),
            "together": (0, 1),
        },
    )


def _init(key: PRNGKeyArray, problem: PromptProblem, hyper: Hyper, *, joint: bool) -> State:
    drawn = jax.random.normal(key, problem.keys.shape[2:])
    prompt = hyper.radius * drawn / jnp.linalg.norm(drawn)
    return State(prompt, (hyper.head_scale if joint else 1.0) * problem.head, jnp.zeros(()))


def _step(
    key: PRNGKeyArray,
    problem: PromptProblem,
    hyper: Hyper,
    state: State,
    *,
    rule: str,
    loss: str,
    joint: bool,
) -> State:
    size = hyper.step_size * (state.steps + 1) ** -hyper.decay
    gradients = log_gradients(problem, state.prompt, state.head, loss, hyper.sharpness)
    of_prompt, of_head = (_log_norm(gradient) for gradient in gradients)
    power = {"gradient": 0.0, "normalized": 1.0}.get(rule, hyper.power)

    def move(gradient: LogVector, own: Array) -> Array:
        # Gradients below the smallest float: their logarithms are what is divided.
        norm = (
            jnp.where(hyper.together > 0, jnp.logaddexp(2 * of_prompt, 2 * of_head) / 2, own)
            if joint
            else own
        )
        length = jnp.where(jnp.isfinite(own), jnp.exp(own - power * norm), 0.0)
        return size * length * gradient.direction / _above_zero(jnp.linalg.norm(gradient.direction))

    prompt = state.prompt - move(gradients[0], of_prompt)
    head = state.head - hyper.head_ratio * move(gradients[1], of_head) if joint else state.head
    return State(prompt, head, state.steps + 1)


def _log_norm(vector: LogVector) -> Array:
    norm = jnp.linalg.norm(vector.direction)
    return jnp.where(norm > 0, vector.scale + jnp.log(_above_zero(norm)), -jnp.inf)


def _above_zero(value: Array) -> Array:
    return jnp.where(value > 0, value, 1.0)


def _observe(problem: PromptProblem, hyper: Hyper, state: State) -> Metrics:
    return {
        "norm": jnp.linalg.norm(state.prompt),
        "log_unselected": log_outside(prompt_log_attention(problem, state.prompt)),
        "_prompt": state.prompt,
    }


def _conclude(
    problem: PromptProblem, hyper: Hyper, records: Metrics, state: State, *, solve: bool
) -> Metrics:
    selected = jnp.argmax(prompt_log_attention(problem, state.prompt), axis=1)
    found = of_selected(problem, state.prompt, selected)
    return found | (compare_prompt(problem, records["_prompt"], selected) if solve else {})


def _observe_joint(problem: PromptProblem, hyper: Hyper, state: State, *, loss: str) -> Metrics:
    return {
        "norm": jnp.linalg.norm(state.prompt),
        "head_norm": jnp.linalg.norm(state.head),
        "log_loss": log_loss(problem, state.prompt, state.head, loss, hyper.sharpness),
        "_prompt": state.prompt,
        "_head": state.head,
    }


def _conclude_joint(problem: PromptProblem, hyper: Hyper, records: Metrics, state: State) -> Metrics:
    return compare_joint(problem, records["_prompt"], records["_head"], jnp.asarray(hyper.head_ratio))


EACH = {"step": None}
VARIABLES = {
    "norm": Variable("norm of the prompt"),
    "log_unselected": Variable("log of the attention outside the selected token"),
    "lead": Variable("margin of the last input less that of the first"),
    "global": Variable("whether the selected tokens are the optimal ones"),
}
SOLVED = {
    "direction_error": Variable("distance from the max margin direction", dims=EACH),
    "margin_norm": Variable("norm of the max margin prompt"),
    "feasible": Variable("whether the selected tokens can be separated"),
}
JOINT_VARIABLES = {
    "norm": Variable("norm of the prompt"),
    "head_norm": Variable("norm of the head"),
    "log_loss": Variable("log of the loss"),
    "head_error": Variable("distance of the head from the max margin direction", dims=EACH),
    "plain_error": Variable("distance of the prompt from the direction for equal margins", dims=EACH),
    "relaxed_error": Variable("distance of the prompt from the relaxed direction", dims=EACH),
    "paced_error": Variable("distance of the prompt from the direction for the ratio of steps", dims=EACH),
    "plain_norm": Variable("norm of the max margin prompt for equal margins"),
    "relaxed_norm": Variable("norm of the relaxed max margin prompt"),
    "paced_norm": Variable("norm of the max margin prompt for the ratio of steps"),
    "head_margin": Variable("margin of the max margin head"),
    "support_share": Variable("share of the inputs that are support vectors of the head"),
    "shortfall": Variable("margin lost to attention to other tokens"),
    "predicted_shortfall": Variable("predicted loss of margin"),
    "most_shortfall": Variable("loss of margin down to that of the support vectors"),
    "feasible": Variable("whether the best tokens can be separated and classified"),
}
