r"""Training a network in a random subspace of its parameters: `theta = theta_0 + P theta_d`.

`theta_d` starts at zero and is the only thing trained (SU-A1-F1). A problem is a projection; a run draws the
initial weights and its minibatches. Runs of all dimensions and run seeds share one projection, so that
`P theta_d` over a batch of runs is one matrix product.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from theory_sim.simulation import Metrics, Simulation, Variable
from theory_sim.subspace.projections import Projection, projection_named


class SubspaceSetting(NamedTuple):
    """There is nothing to vary in how a projection is drawn."""


class SubspaceHyper(NamedTuple):
    """Run axes: the subspace dimension (0: all parameters are trained directly) and the two step sizes.

    `step_size` moves `theta_d`, `direct_step_size` the parameters themselves when `dim` is 0. With unit columns a
    step of Adam of size s in d coordinates moves the parameters as far as a direct step of `s sqrt(d/D)`.
    """

    dim: int | Int[Array, ""] = 10
    step_size: float | Float[Array, ""] = 0.02
    direct_step_size: float | Float[Array, ""] = 1e-3


class SubspaceState(NamedTuple):
    """`start` [D] is theta_0; `moved` [D] is theta_d followed by zeros or, in direct training, theta - theta_0."""

    start: Float[Array, " D"]
    moved: Float[Array, " D"]
    optimizer: PyTree


class _Examples(NamedTuple):
    x: Float[Array, "examples ..."]
    y: Int[Array, " examples"]


def subspace_training(
    model: nn.Module,
    data: tuple[Any, Any, Any, Any],
    *,
    max_dim: int,
    projection: str = "dense",
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam,
    batch_size: int = 128,
) -> Simulation:
    """Train a classifier in a random subspace of dimension `dim` <= `max_dim`, or directly when `dim` is 0.

    `model` is any flax module whose only variables are parameters and whose call gives logits [batch, classes];
    `data` is (train_x, train_y, test_x, test_y), `optimizer` any optax constructor that takes the learning rate.
    The loss is the mean cross-entropy; the `batch_size` examples of a step are drawn independently and uniformly
    from the step's key (with replacement: no epochs, and no permutation to sort at every step). Metrics:
    `train_loss`, `train_accuracy`, `test_accuracy`, over all examples of each set.

    Raises ValueError for an unknown projection, `max_dim` outside 1 .. D, a batch size below 1, labels that are
    not 0 .. classes - 1, and examples that disagree in number or shape.
    Source: arXiv:1804.08838 (SU-A1-F1, SU-A1-F2, SU-A1-I1).
    """
    draw = projection_named(projection)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    train, test = _checked(data)
    example = jnp.zeros((1, *train.x.shape[1:]))
    variables = jax.eval_shape(model.init, jax.random.key(0), example)
    if set(variables) != {"params"}:
        raise ValueError(f"the model may hold parameters only, got the collections {sorted(variables)}")
    _check_logits(jax.eval_shape(model.apply, variables, example).shape, train, test)
    shapes = variables["params"]
    ambient = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    if not 1 <= max_dim <= ambient:
        raise ValueError(
            f"max_dim must lie between 1 and the {ambient} parameters of the model, got {max_dim}"
        )

    def logits_of(parameters: Float[Array, " D"], x: Array) -> Float[Array, "batch classes"]:
        return jnp.asarray(model.apply({"params": _unflatten(shapes, parameters)}, x))

    def loss_of(parameters: Float[Array, " D"], batch: _Examples) -> Float[Array, ""]:
        return _cross_entropy(logits_of(parameters, batch.x), batch.y)

    def sample(key: PRNGKeyArray, setting: SubspaceSetting) -> Projection:
        return draw(key, ambient, max_dim)

    def init(key: PRNGKeyArray, problem: Projection, hyper: SubspaceHyper) -> SubspaceState:
        start = _flatten(model.init(key, example)["params"])
        moved = jnp.zeros_like(start)
        return SubspaceState(start, moved, _rule(optimizer, hyper).init(moved))

    def step(
        examples: _Examples,
        key: PRNGKeyArray,
        problem: Projection,
        hyper: SubspaceHyper,
        state: SubspaceState,
    ) -> SubspaceState:
        # Uniform up to one part in 2^32 / examples, the same in every precision, and half of randint's compilation.
        chosen = jax.random.bits(key, (batch_size,), "uint32") % len(examples.y)
        batch = _Examples(examples.x[chosen], examples.y[chosen])
        gradient = jax.grad(loss_of)(_parameters(problem, hyper, state, max_dim), batch)
        pulled_back = jnp.pad(problem.transpose(gradient), (0, ambient - max_dim))
        trained = jnp.where(hyper.dim == 0, True, jnp.arange(ambient) < hyper.dim)
        gradient = jnp.where(trained, jnp.where(hyper.dim == 0, gradient, pulled_back), 0)
        update, memory = _rule(optimizer, hyper).update(gradient, state.optimizer, state.moved)
        moved = optax.apply_updates(state.moved, jnp.where(trained, update, 0))
        return SubspaceState(state.start, moved, memory)

    def observe(
        sets: tuple[_Examples, _Examples], problem: Projection, hyper: SubspaceHyper, state: SubspaceState
    ) -> Metrics:
        parameters = _parameters(problem, hyper, state, max_dim)
        on_train, on_test = (logits_of(parameters, examples.x) for examples in sets)
        return {
            "train_loss": _cross_entropy(on_train, sets[0].y),
            "train_accuracy": jnp.mean(jnp.argmax(on_train, axis=-1) == sets[0].y, dtype=float),
            "test_accuracy": jnp.mean(jnp.argmax(on_test, axis=-1) == sets[1].y, dtype=float),
        }

    return Simulation(
        sample=sample,
        init=init,
        # Bound as arguments, not captured: the data never become constants of the compiled program.
        step=jax.tree_util.Partial(step, train),
        observe=jax.tree_util.Partial(observe, (train, test)),
        setting=SubspaceSetting(),
        hyper=SubspaceHyper(),
        variables={
            "train_loss": Variable("training cross-entropy", "nat"),
            "train_accuracy": Variable("training accuracy"),
            "test_accuracy": Variable("test accuracy"),
        },
        limits={"dim": (0, max_dim)},
    )


def _parameters(
    problem: Projection, hyper: SubspaceHyper, state: SubspaceState, max_dim: int
) -> Float[Array, " D"]:
    # One vector of length D serves both kinds of run. It costs a subspace run the optimiser's work on D instead
    # of d numbers: 2 to 8 % of a step (D = 8970, d = 400, 64 runs on a CPU), less than the noise of the clock.
    return state.start + jnp.where(hyper.dim == 0, state.moved, problem.apply(state.moved[:max_dim]))


def _rule(
    optimizer: Callable[[Any], optax.GradientTransformation], hyper: SubspaceHyper
) -> optax.GradientTransformation:
    return optimizer(jnp.where(hyper.dim == 0, hyper.direct_step_size, hyper.step_size))


def _cross_entropy(logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Float[Array, ""]:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _flatten(parameters: PyTree) -> Float[Array, " D"]:
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(parameters)]).astype(float)


def _unflatten(shapes: PyTree, vector: Float[Array, " D"]) -> PyTree:
    leaves, structure = jax.tree.flatten(shapes)
    pieces = jnp.split(vector, np.cumsum([leaf.size for leaf in leaves])[:-1])
    return jax.tree.unflatten(structure, [p.reshape(s.shape) for p, s in zip(pieces, leaves, strict=True)])


def _checked(data: tuple[Any, Any, Any, Any]) -> tuple[_Examples, _Examples]:
    if len(data) != 4:
        raise ValueError(f"data must be (train_x, train_y, test_x, test_y), got {len(data)} arrays")
    train_x, train_y, test_x, test_y = (np.asarray(array) for array in data)
    for name, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"{name}_y must be a vector of whole numbers, got {y.dtype} of shape {y.shape}")
        if x.ndim < 2 or len(x) != len(y) or len(y) == 0:
            raise ValueError(f"{name}_x must have one row for each of {len(y)} labels, got shape {x.shape}")
    if train_x.shape[1:] != test_x.shape[1:]:
        raise ValueError(
            f"train and test examples differ in shape: {train_x.shape[1:]} and {test_x.shape[1:]}"
        )
    return (
        _Examples(jnp.asarray(train_x, float), jnp.asarray(train_y, jnp.int32)),
        _Examples(jnp.asarray(test_x, float), jnp.asarray(test_y, jnp.int32)),
    )


def _check_logits(shape: tuple[int, ...], train: _Examples, test: _Examples) -> None:
    if len(shape) != 2:
        raise ValueError(f"the model must return logits [batch, classes], got shape {shape}")
    classes = shape[-1]
    for name, labels in (("train_y", train.y), ("test_y", test.y)):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"{name} must lie in 0 .. {classes - 1}, the {classes} outputs of the model, "
                f"got labels from {low} to {high}"
            )
