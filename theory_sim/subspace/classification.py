"""A network that classifies: its parameters, its loss on minibatches, and what is seen of it, however it is trained."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from theory_sim.simulation import Metrics, Variable
from theory_sim.subspace.examples import (
    Examples,
    check_logits,
    cross_entropy,
    evaluate,
    example_of,
    features,
    on_device,
)


class Classifier(NamedTuple):
    """A flax module and its data; `shapes` is the abstract tree of its parameters, `floating` their type.

    `l2` times the sum of the squares of all kernels, tensors of two axes or more, is added to the loss that is trained.
    """

    model: nn.Module
    shapes: PyTree
    train: Examples
    evaluated: tuple[Examples, Examples]
    batch_size: int
    floating: Any
    l2: float

    @property
    def variables(self) -> dict[str, Variable]:
        """What the metrics are."""
        return {
            "train_loss": Variable("training cross-entropy", "nat"),
            "train_accuracy": Variable("training accuracy"),
            "test_loss": Variable("test cross-entropy", "nat"),
            "test_accuracy": Variable("test accuracy"),
        }

    def init(self, key: PRNGKeyArray) -> PyTree:
        """Draw the initial parameters."""
        parameters = self.model.init(key, example_of(self.train))["params"]
        return jax.tree.map(lambda leaf: leaf.astype(self.floating), parameters)

    def flat(self, parameters: PyTree) -> Float[Array, " D"]:
        """Return all parameters as one vector, in the order of the tree."""
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(parameters)])

    def tree(self, vector: Float[Array, " D"]) -> PyTree:
        """Return the parameters that a vector holds."""
        leaves, structure = jax.tree.flatten(self.shapes)
        pieces = jnp.split(vector, np.cumsum([leaf.size for leaf in leaves])[:-1])
        return jax.tree.unflatten(
            structure, [p.reshape(s.shape) for p, s in zip(pieces, leaves, strict=True)]
        )

    def minibatch(self, examples: Examples, key: PRNGKeyArray, used: Int[Array, ""] | int) -> Examples:
        """Draw `batch_size` of the first `used` examples (0: of all), with replacement."""
        # Uniform up to one part in 2^32 / examples, the same in every precision, and half of randint's compilation.
        count = jnp.where(used == 0, len(examples.y), used).astype("uint32")
        chosen = jax.random.bits(key, (self.batch_size,), "uint32") % count
        return Examples(examples.x[chosen], examples.y[chosen])

    def loss(self, parameters: PyTree, batch: Examples) -> Float[Array, ""]:
        """Return the mean cross-entropy of a minibatch, and the penalty on kernels."""
        loss = jnp.mean(cross_entropy(self._logits(parameters, batch.x), batch.y))
        if not self.l2:
            return loss
        return loss + self.l2 * sum(jnp.sum(w**2) for w in jax.tree.leaves(parameters) if w.ndim > 1)

    def metrics(
        self, parameters: PyTree, sets: tuple[Examples, Examples], used: Int[Array, ""] | int
    ) -> Metrics:
        """Return loss and accuracy on the first `used` training examples (0: on all), and on the test examples."""
        metrics: Metrics = {}
        for name, examples in zip(("train", "test"), sets, strict=True):
            count = jnp.where((name == "test") | (used == 0), len(examples.y), used)
            loss, accuracy = evaluate(lambda x: self._logits(parameters, x), examples, count)
            metrics |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
        return metrics

    def _logits(self, parameters: PyTree, x: Array) -> Float[Array, "batch classes"]:
        return jnp.asarray(self.model.apply({"params": parameters}, features(x, self.floating)))


def classifier(
    model: nn.Module,
    data: tuple[Any, Any, Any, Any],
    optimizer: Callable[[Any], optax.GradientTransformation],
    *,
    batch_size: int,
    evaluated: int | None,
    dtype: Any,
    l2: float,
) -> Classifier:
    """Return the network with its data on the device; `evaluated` training examples are observed, or all (None).

    Raises ValueError for an optimiser in the place of its constructor, a batch size or `evaluated` below 1, a negative
    `l2`, a module that does not take the examples or has other variables than parameters, labels that are not 0 ..
    classes - 1, and examples that disagree.
    """
    if not callable(optimizer):
        raise ValueError(
            "optimizer must be a constructor that takes the learning rate, optax.adam and not optax.adam(0.01)"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not (isinstance(l2, int | float) and 0 <= l2 < np.inf):
        raise ValueError(f"l2 must be a number of at least 0, got {l2!r}")
    floating = jnp.zeros((), dtype or float).dtype
    train, test = on_device(data, floating)
    if evaluated is not None and not 1 <= evaluated <= len(train.y):
        raise ValueError(f"evaluated must lie between 1 and {len(train.y)} examples, got {evaluated}")
    example = example_of(train)
    variables = _shapes(model.init, jax.random.key(0), example)
    if set(variables) != {"params"}:
        raise ValueError(f"the model may hold parameters only, got the collections {sorted(variables)}")
    check_logits(_shapes(model.apply, variables, example).shape, train, test)
    seen = Examples(train.x[:evaluated], train.y[:evaluated])
    return Classifier(model, variables["params"], train, (seen, test), batch_size, floating, float(l2))


def _shapes(function: Callable[..., Any], first: Any, example: Array) -> Any:
    """Return the shapes of what a module's function returns for a batch of one example."""
    try:
        return jax.eval_shape(function, first, example)
    except Exception as error:  # a module is a user's code, and says in its own words what it cannot do
        told = " ".join(str(error).split())
        raise ValueError(
            f"the model does not take a batch of examples of shape {example.shape[1:]}: {type(error).__name__}: {told}"
        ) from error
