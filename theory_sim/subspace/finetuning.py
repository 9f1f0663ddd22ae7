"""Subspace training that starts from a network trained on another task (arXiv:2012.13255)."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.simulation import Simulation
from theory_sim.subspace.training import DirectState, SubspaceHyper, SubspaceState, subspace_training


class FineTuningHyper(NamedTuple):
    """The axes of `SubspaceHyper`, and the number of direct steps on the source task before the subspace."""

    dim: int | Int[Array, ""] = 10
    step_size: float | Float[Array, ""] = 0.02
    direct_step_size: float | Float[Array, ""] = 1e-3
    examples: int | Int[Array, ""] = 0
    pretraining: int | Int[Array, ""] = 0


def fine_tuning(
    model: nn.Module,
    source: tuple[Any, Any, Any, Any],
    target: tuple[Any, Any, Any, Any],
    *,
    max_dim: int,
    **options: Any,
) -> Simulation:
    """Train all parameters on `source` for `pretraining` steps, then on `target` in a subspace around that point.

    Both tasks have the shape and the classes of one model, whose last layer is kept. The source is trained with the
    optimiser and the batch size of the target and with `direct_step_size`; the run's key gives the initial weights
    and the minibatches of both, so that runs of all dimensions start from one checkpoint. Metrics, options and errors
    are those of `subspace_training`, of the target; ValueError also when the examples of both differ in shape and for
    `max_dim` 0. `dim` 0 is ordinary fine-tuning. Source: arXiv:2012.13255 (SU-A2-2).
    """
    if max_dim < 1:
        raise ValueError(f"max_dim must be at least 1 in fine_tuning, got {max_dim}")
    shapes = [np.shape(data[0])[1:] for data in (source, target)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"source and target need examples of one shape, got {shapes[0]} and {shapes[1]}")
    rule = {name: options[name] for name in ("optimizer", "batch_size", "dtype") if name in options}
    before = subspace_training(model, source, max_dim=0, **rule)
    after = subspace_training(model, target, max_dim=max_dim, **options)

    def init(source_step: Any, key: PRNGKeyArray, problem: Any, hyper: FineTuningHyper) -> SubspaceState:
        direct = before.hyper._replace(direct_step_size=hyper.direct_step_size)
        # The minibatches of the target are drawn from another key than `init` has.
        start_key, stream = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
        state = before.init(start_key, (), direct)

        def advance(step: Array, state: DirectState) -> DirectState:
            new = source_step(jax.random.fold_in(stream, step), (), direct, state)
            return jax.tree.map(lambda n, o: n.astype(o.dtype), new, state)

        trained = jax.lax.fori_loop(0, hyper.pretraining, advance, state)
        fresh = after.init(start_key, problem, SubspaceHyper(*hyper[:4]))
        leaves = jax.tree.leaves(trained.parameters)
        return fresh._replace(start=jnp.concatenate([leaf.ravel() for leaf in leaves]))

    return after._replace(
        init=jax.tree_util.Partial(init, before.step),
        hyper=FineTuningHyper(*after.hyper),
        limits={**after.limits, "pretraining": (0, 2**31 - 1)},
    )
