"""The same loops in PyTorch: autograd and a stock optimiser, one run after the other.

PyTorch is no dependency; without it the ratios are left out.
"""

import itertools
import math
import warnings
from collections.abc import Callable

import numpy as np
import torch

from theory_sim.bench.plain_numpy import Dense, Map, OneHot

Step = Callable[[], object]


def sensing(matrices: np.ndarray, observed: np.ndarray, factor: np.ndarray, step_size: float) -> Step:
    """Return one step of symmetric sensing, row i of `matrices` being the flat `A_i`, by autograd and SGD."""
    operator, seen = torch.tensor(matrices), torch.tensor(observed)
    x = torch.tensor(factor, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=step_size)

    def step() -> object:
        return _descend((operator @ (x @ x.T).ravel() - seen).square().sum() / 4, optimizer)

    return step


def transformer(
    tokens: np.ndarray, labels: np.ndarray, width: int, batch: int, queries: int, step_size: float
):
    """Return one step of SGD on the one-layer transformer's hinge loss."""
    all_x, all_y = torch.tensor(tokens), torch.tensor(labels)
    dim = tokens.shape[-1]
    head = torch.where(torch.arange(width) % 2 == 0, 1.0, -1.0).to(all_x.dtype) / math.sqrt(width)
    eye = torch.eye(dim, dtype=all_x.dtype)
    query, key, value = ((0.3 * eye).requires_grad_() for _ in range(3))
    output = (0.01 * torch.randn(width, dim, dtype=all_x.dtype)).requires_grad_()
    optimizer = torch.optim.SGD([query, key, value, output], lr=step_size)

    def step() -> object:
        index = torch.randint(len(all_y), (batch,))
        x, y = all_x[index], all_y[index]
        asked, keys, values = x[:, :queries] @ query.T, x @ key.T, x @ value.T
        attention = torch.softmax(asked @ keys.transpose(1, 2), dim=-1)
        outputs = (torch.relu(attention @ values @ output.T) @ head).mean(dim=1)
        return _descend(torch.clamp(1 - y * outputs, min=0).mean(), optimizer)

    return step


def network_training(
    x: np.ndarray,
    y: np.ndarray,
    widths: list[int],
    start: np.ndarray,
    maps: Map | None,
    *,
    batch: int,
    step_size: float,
) -> Step:
    """Return one step of Adam on a network's parameters (`maps` None) or in a subspace."""
    if maps is None:
        return _mapped(x, y, widths, start, start.size, lambda z: z, batch, step_size)
    if isinstance(maps, Dense):
        with warnings.catch_warnings():  # of an array that may not be written, as nobody does
            warnings.simplefilter("ignore", UserWarning)
            rows = torch.from_numpy(maps.rows)  # no copy: what several loops share stays in the cache
        return _mapped(x, y, widths, start, maps.dim, lambda z: z @ rows, batch, step_size)
    if isinstance(maps, OneHot):
        columns, signs = torch.tensor(maps.columns), torch.tensor(maps.signs).to(torch.tensor(x).dtype)
        scales = torch.bincount(columns).to(signs.dtype).rsqrt()
        return _mapped(
            x, y, widths, start, maps.dim, lambda z: (z * scales)[columns] * signs, batch, step_size
        )
    flips, gaussians = torch.tensor(maps.signs), torch.tensor(maps.gaussians)
    permutation, scale = torch.tensor(maps.permutation.astype(np.int64)), float(maps.scale)

    def fastfood(z: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(z * flips, (0, len(gaussians) - len(z)))
        return scale * _butterflies(_butterflies(padded)[permutation] * gaussians)[: start.size]

    return _mapped(x, y, widths, start, maps.dim, fastfood, batch, step_size)


def _butterflies(x: torch.Tensor) -> torch.Tensor:
    half = 1
    while half < x.numel():
        pairs = x.view(-1, 2, half)
        x = torch.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), dim=1).view(-1)
        half *= 2
    return x


def _mapped(
    x: np.ndarray,
    y: np.ndarray,
    widths: list[int],
    start: np.ndarray,
    dim: int,
    displacement: Callable[[torch.Tensor], torch.Tensor],
    batch: int,
    step_size: float,
) -> Step:
    """Return one step of Adam on z, the parameters being `start + displacement(z)`."""
    all_x, all_y, offset = torch.tensor(x), torch.tensor(y.astype(np.int64)), torch.tensor(start)
    moved = torch.zeros(dim, dtype=all_x.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=step_size, betas=(0.9, 0.99))
    sizes = [size for i, o in itertools.pairwise(widths) for size in (o, i * o)]

    def step() -> object:
        index = torch.randint(len(all_y), (batch,))
        parts = torch.split(offset + displacement(moved), sizes)
        hidden = all_x[index]
        for layer in range(len(widths) - 1):
            hidden = torch.relu(hidden) if layer else hidden
            hidden = hidden @ parts[2 * layer + 1].view(widths[layer], widths[layer + 1]) + parts[2 * layer]
        return _descend(torch.nn.functional.cross_entropy(hidden, all_y[index]), optimizer)

    return step


def selection(
    tokens: np.ndarray, queries: np.ndarray, labels: np.ndarray, head: np.ndarray, step_size: float
) -> Step:
    """Return one normalised step of attention weights on the logistic loss, by autograd and SGD."""
    x, z, y, v = (torch.tensor(part) for part in (tokens, queries, labels, head))
    weights = torch.zeros(z.shape[1], z.shape[1], dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=step_size)

    def step() -> object:
        attention = torch.softmax((x @ (z @ weights.T)[:, :, None])[..., 0], dim=1)
        outputs = (attention[:, None] @ x)[:, 0] @ v
        (gradient,) = torch.autograd.grad(torch.nn.functional.softplus(-y * outputs).mean(), weights)
        weights.grad = gradient / (gradient.norm() + 2.22e-16)
        return optimizer.step()

    return step


def _descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> object:
    optimizer.zero_grad()
    loss.backward()
    return optimizer.step()
