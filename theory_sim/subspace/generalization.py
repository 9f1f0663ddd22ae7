r"""What few numbers can hide: a bound on the gap between test and training error, and runs whose numbers are rounded.

A network found in a d-dimensional subspace is described by d numbers. Rounded to r values each, it is one of `r^d`
functions that were fixed before the data were seen, and a union bound over them controls the gap of whichever the
training picks (derived, SU-A2-F5; arXiv:2012.13255 argues so after Arora et al. 2018).
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from theory_sim.simulation import Metrics, Simulation, Variable
from theory_sim.subspace.training import SubspaceState, subspace_training


class RoundedHyper(NamedTuple):
    """The axes of `SubspaceHyper`, the number r of values of each coordinate, and the largest of them, in size."""

    dim: int | Int[Array, ""] = 10
    step_size: float | Float[Array, ""] = 0.02
    direct_step_size: float | Float[Array, ""] = 1e-3
    examples: int | Int[Array, ""] = 0
    levels: int | Int[Array, ""] = 16
    largest: float | Float[Array, ""] = 1.0


def generalization_bound(
    dim: Any, levels: Any, examples: Any, *, scales: int = 1, failure: float = 0.05
) -> Float[np.ndarray, "..."]:
    """Return what the gap does not exceed, with probability 1 - `failure`: `sqrt(log(s r^d / failure) / (2 m))`.

    d = `dim` numbers of r = `levels` values, m = `examples`; arrays broadcast. The values have one of s = `scales`
    scales, a list that is fixed before the data are seen and from which the data may choose. SU-A2-F5, derived:
    Hoeffding's inequality for one function with losses in [0, 1], and a union over the s r^d functions. theta_0 and P
    must not depend on the data. Raises ValueError unless levels >= 2, examples and scales >= 1 and 0 < failure < 1.
    """
    dim, levels, examples = np.broadcast_arrays(
        *(np.asarray(x, dtype=float) for x in (dim, levels, examples))
    )
    if not (np.all(levels >= 2) and np.all(examples >= 1) and scales >= 1 and 0 < failure < 1):
        raise ValueError(
            "needs levels >= 2, examples and scales >= 1 and 0 < failure < 1, got "
            f"{levels}, {examples}, {scales}, {failure}"
        )
    return np.sqrt((dim * np.log(levels) + np.log(scales / failure)) / (2 * examples))


def rounded_training(model: nn.Module, data: tuple[Any, Any, Any, Any], **options: Any) -> Simulation:
    """Train in a subspace as `subspace_training` does; what is seen is the network with theta_d rounded.

    Each coordinate goes to the nearest of `levels` equally spaced values from `-largest` to `largest`; training itself
    is not rounded. Directly trained networks (`dim` 0) are seen as they are. Besides the metrics of
    `subspace_training`: `gap`, training less test accuracy. Options and errors are those of `subspace_training`;
    ValueError also for `max_dim` 0, which leaves nothing to round.
    """
    if options.get("max_dim") == 0:
        raise ValueError("max_dim must be at least 1 in rounded_training: 0 leaves no coordinates to round")
    training = subspace_training(model, data, **options)

    def observe(inner: Any, problem: Any, hyper: RoundedHyper, state: SubspaceState) -> Metrics:
        rounded = jnp.where(hyper.dim == 0, state.moved, _rounded(state.moved, hyper))
        # What lies beyond `dim` is no part of the description, and must not move the network.
        rounded = jnp.where((hyper.dim == 0) | (jnp.arange(rounded.size) < hyper.dim), rounded, 0)
        metrics = inner(problem, hyper, state._replace(moved=rounded))
        return {**metrics, "gap": metrics["train_accuracy"] - metrics["test_accuracy"]}

    return training._replace(
        # The data bound into `observe` stay arguments of the program.
        observe=jax.tree_util.Partial(observe, training.observe),
        hyper=RoundedHyper(*training.hyper),
        variables={**training.variables, "gap": Variable("training less test accuracy")},
        limits={**training.limits, "levels": (2, 2**31 - 1)},
    )


def _rounded(moved: Float[Array, " D"], hyper: RoundedHyper) -> Float[Array, " D"]:
    spacing = 2 * hyper.largest / (hyper.levels - 1)
    index = jnp.round((jnp.clip(moved, -hyper.largest, hyper.largest) + hyper.largest) / spacing)
    return index * spacing - hyper.largest
