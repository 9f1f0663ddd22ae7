"""What the kernels compute, as a user writes it in NumPy for one run: loops to be faster than, and references.

The gradients are derived by hand, so that they also check the kernels' own.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Array = np.ndarray


def selection_step(weights: Array, tokens: Array, queries: Array, scores: Array, step_size: float) -> Array:
    """One normalised step of token selection on the logistic loss, by the softmax's own derivative."""
    logits = np.einsum("ntd,de,ne->nt", tokens, weights, queries)
    attended = np.exp(logits - logits.max(axis=1, keepdims=True))
    attended /= attended.sum(axis=1, keepdims=True)
    outputs = np.sum(attended * scores, axis=1, keepdims=True)
    pulls = attended * (scores - outputs) / (1 + np.exp(outputs))
    gradient = np.einsum("nt,ntd,ne->de", pulls, tokens, queries)
    return weights + step_size * gradient / (np.linalg.norm(gradient) + 2.22e-16)


def sensing_step(factor: Array, matrices: Array, observed: Array, step_size: float) -> Array:
    """One gradient step of symmetric sensing with two BLAS matrix-vector products.

    Row i of `matrices [measurements, dim * dim]` is `A_i`, flat.
    """
    return factor - step_size * _pull(matrices, factor @ factor.T, observed) @ factor


def asymmetric_step(
    left: Array, right: Array, matrices: Array, observed: Array, step_size: float
) -> tuple[Array, Array]:
    """One gradient step of asymmetric sensing, both factors at once."""
    pull = _pull(matrices, left @ right.T, observed)
    return left - step_size * pull @ right, right - step_size * pull.T @ left


def subgradient_step(factor: Array, matrices: Array, observed: Array, length: float) -> Array:
    """One step of the sub-gradient method, the sign field normalised by its operator norm."""
    signs = np.sign(matrices @ (factor @ factor.T).ravel() - observed)
    field = (signs @ matrices).reshape(len(factor), len(factor))
    # Two rounds of power iteration from the factor's first column: a user would not pay for a decomposition.
    image = field @ factor[:, 0]
    norm = np.linalg.norm(field @ image) / np.linalg.norm(image)
    return factor - 2 * length / norm * field @ factor


def scaled_step(factor: Array, matrices: Array, observed: Array, step_size: float, damping: float) -> Array:
    """One step of ScaledGD(lambda)."""
    gram = factor.T @ factor + damping * np.eye(factor.shape[1])
    gradient = _pull(matrices, factor @ factor.T, observed) @ factor
    return factor - step_size * np.linalg.solve(gram, gradient.T).T


def gauss_newton_step(
    left: Array, right: Array, matrices: Array, observed: Array, step_size: float
) -> tuple[Array, Array]:
    """One alternating Gauss-Newton step: the left factor, then the right one with a new residual."""
    left = left - step_size * _pull(matrices, left @ right.T, observed) @ right @ np.linalg.pinv(
        right.T @ right
    )
    pull = _pull(matrices, left @ right.T, observed)
    return left, right - step_size * pull.T @ left @ np.linalg.pinv(left.T @ left)


def weight_normalized_step(
    factor: Array, core: Array, matrices: Array, observed: Array, step_size: float, core_step_size: float
) -> tuple[Array, Array]:
    """One step of the weight-normalised method: the orthonormal factor, then its core with a new residual."""
    euclidean = _pull(matrices, factor @ core @ factor.T, observed) @ factor @ core
    inner = factor.T @ euclidean
    moved = factor - step_size * (euclidean - factor @ (inner + inner.T) / 2)
    values, vectors = np.linalg.eigh(moved.T @ moved)
    factor = moved @ (vectors / np.sqrt(values)) @ vectors.T
    pull = _pull(matrices, factor @ core @ factor.T, observed)
    return factor, core - core_step_size / 2 * factor.T @ pull @ factor


def _pull(matrices: Array, estimate: Array, observed: Array) -> Array:
    return ((matrices @ estimate.ravel() - observed) @ matrices).reshape(estimate.shape)


class Transformer(NamedTuple):
    """The trained matrices of the one-layer transformer."""

    query: Array
    key: Array
    value: Array
    output: Array


def transformer_step(
    weights: Transformer, tokens: Array, labels: Array, head: Array, queries: int, step_size: float
) -> Transformer:
    """One step of gradient descent on the hinge loss of a minibatch `tokens [samples, tokens, dim]`."""
    samples = len(labels)
    asked = tokens[:, :queries]
    scores = asked @ (weights.query.T @ weights.key) @ tokens.transpose(0, 2, 1)
    softmax = np.exp(scores - scores.max(axis=-1, keepdims=True))
    softmax /= softmax.sum(axis=-1, keepdims=True)
    attended = softmax @ tokens
    values = attended @ weights.value.T
    hidden = values @ weights.output.T
    outputs = np.maximum(hidden, 0).mean(axis=1) @ head
    slope = -labels * (labels * outputs < 1) / samples
    d_hidden = slope[:, None, None] * head / queries * (hidden > 0)
    d_values = d_hidden @ weights.output
    d_softmax = d_values @ weights.value @ tokens.transpose(0, 2, 1)
    d_scores = softmax * (d_softmax - (softmax * d_softmax).sum(axis=-1, keepdims=True))
    d_product = np.einsum("bsi,bsl,blj->ij", asked, d_scores, tokens, optimize=True)
    gradient = Transformer(
        query=weights.key @ d_product.T,
        key=weights.query @ d_product,
        value=np.einsum("bsi,bsj->ij", d_values, attended),
        output=np.einsum("bsi,bsj->ij", d_hidden, values),
    )
    return Transformer(*(w - step_size * g for w, g in zip(weights, gradient, strict=True)))


class Network(NamedTuple):
    """A ReLU network: kernels `[inputs, outputs]` and biases, first layer first."""

    kernels: list[Array]
    biases: list[Array]


def network_gradient(network: Network, x: Array, labels: Array) -> Network:
    """Return the gradient of the mean cross-entropy of a minibatch."""
    inputs = [x]
    for kernel, bias in zip(network.kernels[:-1], network.biases[:-1], strict=True):
        inputs.append(np.maximum(inputs[-1] @ kernel + bias, 0))
    logits = inputs[-1] @ network.kernels[-1] + network.biases[-1]
    slope = np.exp(logits - logits.max(axis=1, keepdims=True))
    slope /= slope.sum(axis=1, keepdims=True)
    slope[np.arange(len(labels)), labels] -= 1
    slope /= len(labels)
    kernels, biases = [], []
    for layer in range(len(network.kernels) - 1, -1, -1):
        kernels.append(inputs[layer].T @ slope)
        biases.append(slope.sum(axis=0))
        if layer:
            slope = slope @ network.kernels[layer].T * (inputs[layer] > 0)
    return Network(kernels[::-1], biases[::-1])


class Adam(NamedTuple):
    """The memory of Adam: the number of steps and the first and second moments."""

    steps: int
    mean: Array
    square: Array


def adam_update(gradient: Array, memory: Adam, step_size: float, b1: float, b2: float) -> tuple[Array, Adam]:
    """Return Adam's update and its new memory."""
    steps = memory.steps + 1
    mean = b1 * memory.mean + (1 - b1) * gradient
    square = b2 * memory.square + (1 - b2) * gradient**2
    update = -step_size * (mean / (1 - b1**steps)) / (np.sqrt(square / (1 - b2**steps)) + 1e-8)
    return update, Adam(steps, mean, square)


def unflatten(parameters: Array, widths: list[int]) -> Network:
    """Return a network whose parameters lie in one vector: of each layer the biases, then the kernel."""
    kernels, biases, start = [], [], 0
    for inputs, outputs in itertools.pairwise(widths):
        biases.append(parameters[start : start + outputs])
        start += outputs
        kernels.append(parameters[start : start + inputs * outputs].reshape(inputs, outputs))
        start += inputs * outputs
    return Network(kernels, biases)


def flatten(network: Network) -> Array:
    """Return the parameters of a network in one vector, as `unflatten` takes them."""
    pairs = zip(network.biases, network.kernels, strict=True)
    return np.concatenate([part.ravel() for pair in pairs for part in pair])


class Dense(NamedTuple):
    """A dense map, by its columns: `rows [d, D]` is its transpose."""

    rows: Array

    @property
    def dim(self) -> int:
        """The number of dimensions d."""
        return len(self.rows)

    def apply(self, z: Array) -> Array:
        """Return `P z`."""
        return z @ self.rows

    def transpose(self, y: Array) -> Array:
        """Return `P^T y`."""
        return self.rows @ y


class OneHot(NamedTuple):
    """A signed one-hot map: parameter i is `signs[i] / sqrt(load)` times coordinate `columns[i]`."""

    columns: Array
    signs: Array
    dim: int

    def apply(self, z: Array) -> Array:
        """Return `P z`."""
        return (z / np.sqrt(np.bincount(self.columns)))[self.columns] * self.signs

    def transpose(self, y: Array) -> Array:
        """Return `P^T y`."""
        sums = np.bincount(self.columns, weights=y * self.signs, minlength=self.dim)
        return sums / np.sqrt(np.bincount(self.columns))


class Fastfood(NamedTuple):
    """A Fastfood map by butterflies, over all L entries: `scale H G Pi H B [z; 0]`, cut to the parameters."""

    signs: Array
    permutation: Array
    gaussians: Array
    scale: Array

    @property
    def dim(self) -> int:
        """The number of dimensions d."""
        return self.signs.size

    def apply(self, z: Array) -> Array:
        """Return `P z`, all L entries."""
        padded = np.zeros(self.gaussians.size)
        padded[: z.size] = z * self.signs
        return self.scale * butterflies(butterflies(padded)[self.permutation] * self.gaussians)

    def transpose(self, y: Array) -> Array:
        """Return `P^T y` of L entries, those beyond the parameters being zero."""
        mixed = np.empty(self.gaussians.size)
        mixed[self.permutation] = butterflies(y) * self.gaussians
        return self.scale * butterflies(mixed)[: self.signs.size] * self.signs


Map = Dense | OneHot | Fastfood


def butterflies(x: Array) -> Array:
    """Return the Hadamard transform of a vector, one factor of two at a time."""
    half = 1
    while half < x.size:
        pairs = x.reshape(-1, 2, half)
        x = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).ravel()
        half *= 2
    return x


def network_training(
    x: Array,
    y: Array,
    widths: list[int],
    start: Array,
    maps: Map | None,
    *,
    batch: int,
    step_size: float,
) -> Callable[[], Array]:
    """Return one step of Adam on a network's parameters (`maps` None) or in a subspace; it returns what has moved."""
    draw, count = np.random.default_rng(0), start.size
    size = count if maps is None else maps.dim
    moved, memory = np.zeros(size), Adam(0, np.zeros(size), np.zeros(size))

    def step() -> Array:
        nonlocal moved, memory
        chosen = draw.integers(len(y), size=batch)
        image = moved if maps is None else maps.apply(moved)[:count]
        gradient = flatten(network_gradient(unflatten(start + image, widths), x[chosen], y[chosen]))
        if isinstance(maps, Fastfood):
            gradient = np.pad(gradient, (0, maps.gaussians.size - count))
        pulled = gradient if maps is None else maps.transpose(gradient)
        update, memory = adam_update(pulled, memory, step_size, b1=0.9, b2=0.99)
        moved = moved + update
        return moved

    return step
