"""Labelled examples on the device: checked once, read by index, evaluated piece by piece."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

PIECE = 1500
"""Examples evaluated at a time: the activations of a whole data set would not fit into memory."""


class Examples(NamedTuple):
    """Features and labels on the device; bytes stay bytes there."""

    x: Array
    y: Int[Array, " examples"]


def features(x: Array, floating: Any) -> Array:
    """Return features of that floating type; bytes are grey levels from 0 to 255, divided by 255.

    Other whole numbers are tokens, and stay what they are.
    """
    if x.dtype == jnp.uint8:
        return x.astype(floating) / 255
    return x if jnp.issubdtype(x.dtype, jnp.integer) else x.astype(floating)


def example_of(examples: Examples) -> Array:
    """Return an example of zeros, as the module sees it."""
    return features(jnp.zeros((1, *examples.x.shape[1:]), examples.x.dtype), jnp.zeros(()).dtype)


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """Return the cross-entropy of each example."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def evaluate(
    logits_of: Callable[[Array], Array], examples: Examples, used: Int[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the mean cross-entropy and the accuracy over the first `used` examples, piece by piece."""
    total = len(examples.y)
    pieces = -(-total // PIECE)
    size = -(-total // pieces)
    used = jnp.minimum(used, total)

    def sums(start: Array) -> Float[Array, "2"]:
        # The last piece overlaps the one before it; what was seen there does not count again.
        begin = jnp.minimum(start, total - size)
        x, y = (jax.lax.dynamic_slice_in_dim(part, begin, size) for part in examples)
        index = begin + jnp.arange(size)
        counts = (index >= start) & (index < used)
        logits = logits_of(x)
        right = jnp.argmax(logits, axis=-1) == y
        return jnp.stack(
            [
                jnp.sum(cross_entropy(logits, y), where=counts),
                jnp.sum(right, where=counts, dtype=logits.dtype),
            ]
        )

    starts = size * jnp.arange(pieces)
    whole = sums(starts[0]) if pieces == 1 else jax.lax.map(sums, starts).sum(axis=0)
    return whole[0] / used, whole[1] / used


def on_device(data: tuple[Any, Any, Any, Any], floating: Any) -> tuple[Examples, Examples]:
    """Return training and test examples as arrays of the device, from (train_x, train_y, test_x, test_y).

    Features that are no whole numbers are held in that floating type.

    Raises ValueError when labels are no whole numbers, or examples disagree in number or shape, or in whether they are
    bytes.
    """
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
    if (train_x.dtype == np.uint8) != (test_x.dtype == np.uint8):
        raise ValueError(
            f"bytes alone are divided by 255: train_x is {train_x.dtype} and test_x is {test_x.dtype}"
        )
    return (
        Examples(_placed(train_x, floating), jnp.asarray(train_y, jnp.int32)),
        Examples(_placed(test_x, floating), jnp.asarray(test_y, jnp.int32)),
    )


def _placed(x: np.ndarray, floating: Any) -> Array:
    return jnp.asarray(x) if np.issubdtype(x.dtype, np.integer) else jnp.asarray(x, floating)


def check_logits(shape: tuple[int, ...], train: Examples, test: Examples) -> None:
    """Raise ValueError unless logits have the shape [batch, classes] and labels are 0 .. classes - 1."""
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
