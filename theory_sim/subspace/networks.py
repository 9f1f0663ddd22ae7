"""Networks as flax linen modules, in the default float type, with the initialisation of arXiv:1804.08838.

Kernels are he_normal (variance 2 / inputs of a unit), biases zero (SU-A1-I1).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

_CUT = 0.87962566103423978
"""Standard deviation of a standard normal number cut at two deviations."""

LENET_FORMS = ("convolution", "untied", "dense", "tied")


class MLP(nn.Module):
    """Fully connected ReLU network on flattened inputs; `widths` are the hidden widths and the output width.

    >>> parameter_count(MLP([200, 200, 10]), (28, 28))
    199210
    """

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch outputs"]:
        """Return the logits."""
        x = x.reshape(x.shape[0], -1)
        kernels = _kernels(self, x.shape[1], self.widths)
        for layer, (width, kernel) in enumerate(zip(self.widths, kernels, strict=True)):
            x = _dense(width, kernel)(nn.relu(x) if layer else x)
        return x


class LeNet(nn.Module):
    """LeNet on images [batch, rows, columns] or [batch, rows, columns, channels], and its relatives (SU-A1-C2).

    Two rounds of a layer of `channels` feature maps, ReLU and 2 x 2 max pooling, then a fully connected network of
    `widths`. `form` says what the layer is: "convolution" (valid, `kernel` x `kernel`), "untied" (the same with
    weights of its own at each pixel), "dense" (all inputs to the same number of units) or "tied" (a convolution whose
    kernel reaches every pixel from every pixel, the border padded with zeros). The tied form is unconfirmed: it gives
    the numbers of parameters that are reported at second hand.

    >>> [parameter_count(LeNet(form), (28, 28)) for form in LENET_FORMS]
    [44426, 286334, 3640574, 193370]
    """

    form: str = "convolution"
    channels: Sequence[int] = (6, 16)
    kernel: int = 5
    widths: Sequence[int] = (120, 84, 10)

    @nn.compact
    def __call__(self, x: Float[Array, "batch rows columns ..."]) -> Float[Array, "batch outputs"]:
        """Return the logits; ValueError for another form, or images that the layers do not fit."""
        if self.form not in LENET_FORMS:
            raise ValueError(f"unknown form {self.form!r} of LeNet, expected one of {', '.join(LENET_FORMS)}")
        x = x[..., None] if x.ndim == 3 else x
        if x.ndim != 4:
            raise ValueError(f"LeNet takes images [batch, rows, columns(, channels)], got shape {x.shape}")
        # The batch last: patches are then copied in long pieces, and a batch of runs is a batch of matrix products,
        # where XLA computes convolutions with kernels of their own one by one. Three times faster on a CPU.
        x = x.transpose(3, 1, 2, 0)
        for maps in self.channels:
            x = _pool(nn.relu(_Layer(self.form, maps, self.kernel)(x)))
        return MLP(self.widths)(x.transpose(3, 1, 2, 0))


class _Layer(nn.Module):
    """One layer of `maps` feature maps [maps, rows, columns, batch], in one of the forms of LeNet."""

    form: str
    maps: int
    kernel: int

    @nn.compact
    def __call__(self, x: Float[Array, "channels rows columns batch"]) -> Array:
        channels, rows, columns, batch = x.shape
        side, tied = self.kernel, self.form == "tied"
        out = (rows, columns) if tied else (rows - side + 1, columns - side + 1)
        if min(out) < 2 or out[0] % 2 or out[1] % 2:
            told = f"a {side} x {side} layer makes {out[0]} x {out[1]} of {rows} x {columns} pixels"
            raise ValueError(f"{told}; pooling needs even sizes")
        if self.form == "dense":
            units = _dense(out[0] * out[1] * self.maps)(x.reshape(-1, batch).T)
            return units.T.reshape(self.maps, *out, batch)
        # A kernel of twice the size less one, centred on each pixel, reaches all of them.
        height, width = (2 * rows - 1, 2 * columns - 1) if tied else (side, side)
        own = out if self.form == "untied" else ()
        dtype = jnp.zeros(()).dtype
        kernel = self.param("kernel", _he_normal, (*own, height * width * channels, self.maps), dtype)
        bias = self.param("bias", nn.initializers.zeros, (*own, self.maps), dtype)
        if tied:
            kernel = kernel.reshape(height, width, channels, self.maps)
            order = ("CHWN", "HWIO", "CHWN")
            return jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=order
            ) + jnp.reshape(bias, (-1, 1, 1, 1))
        patches = jnp.concatenate(
            [x[:, i : i + out[0], j : j + out[1]] for i in range(height) for j in range(width)]
        )
        if own:
            return jnp.einsum("ihwb,hwio->ohwb", patches, kernel) + bias.transpose(2, 0, 1)[..., None]
        maps = kernel.T @ patches.reshape(len(patches), -1) + bias[:, None]
        return maps.reshape(self.maps, *out, batch)


def _he_normal(key: PRNGKeyArray, shape: Sequence[int], dtype: Any) -> Float[Array, "..."]:
    """Return normal numbers of variance 2 / inputs, cut at two deviations; leading axes hold units of their own."""
    # Drawn flat: the same numbers, in half of the time that XLA takes to compile a draw in the shape of a matrix.
    drawn = jax.random.truncated_normal(key, -2.0, 2.0, (math.prod(shape),), dtype)
    return drawn.reshape(shape) * (math.sqrt(2 / shape[-2]) / _CUT)


def _kernels(module: nn.Module, inputs: int, widths: Sequence[int]) -> Iterator[Callable[..., Array]]:
    """Yield the initialiser of each layer's kernel, he_normal; all are cut from one draw, for XLA compiles each."""
    shapes = list(zip([inputs, *widths[:-1]], widths, strict=True))
    drawn = jnp.zeros(sum(math.prod(shape) for shape in shapes))
    if module.is_initializing():
        drawn = _he_normal(module.make_rng("params"), (1, drawn.size), drawn.dtype)[0]
    start = 0
    for shape in shapes:
        end = start + math.prod(shape)
        yield lambda *_, a=start, b=end, shape=shape: drawn[a:b].reshape(shape) / math.sqrt(shape[0])
        start = end


def _dense(width: int, kernel_init: Callable[..., Array] = _he_normal) -> nn.Dense:
    # flax would store float32 weights even where the rest of the program is float64.
    return nn.Dense(width, kernel_init=kernel_init, param_dtype=jnp.zeros(()).dtype)


def _pool(x: Float[Array, "maps rows columns batch"]) -> Array:
    """Return the largest of each 2 x 2 pixels, as a maximum over axes: its gradient needs no scatter."""
    maps, rows, columns, batch = x.shape
    return x.reshape(maps, rows // 2, 2, columns // 2, 2, batch).max(axis=(2, 4))


def parameter_count(model: nn.Module, example: Sequence[int]) -> int:
    """Return the number D of parameters of a module for examples of that shape, without making any."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *example)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
