"""Networks as flax linen modules, in the default float type, with the initialisation of arXiv:1804.08838.

Kernels are he_normal (variance 2 / inputs of a unit), biases zero (SU-A1-I1).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
        for layer, width in enumerate(self.widths):
            x = _dense(width)(nn.relu(x) if layer else x)
        return x


class LeNet(nn.Module):
    """LeNet on images [batch, rows, columns] or [batch, rows, columns, channels], and its relatives (SU-A1-C2).

    Two rounds of a layer of `channels` feature maps, ReLU and 2 x 2 max pooling, then a fully connected network of
    `widths`. `form` says what the layer is: "convolution" (valid, `kernel` x `kernel`), "untied" (the same with
    weights of its own at each pixel), "dense" (all inputs to the same number of units) or "tied" (a convolution whose
    kernel reaches every pixel from every pixel, the border padded with zeros).

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
        fans = nn.initializers.he_normal(batch_axis=tuple(range(len(own))))
        dtype = jnp.zeros(()).dtype
        kernel = self.param("kernel", fans, (*own, height * width * channels, self.maps), dtype)
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


def _dense(width: int) -> nn.Dense:
    # flax would store float32 weights even where the rest of the program is float64.
    return nn.Dense(width, kernel_init=nn.initializers.he_normal(), param_dtype=jnp.zeros(()).dtype)


def _pool(x: Float[Array, "maps rows columns batch"]) -> Array:
    """Return the largest of each 2 x 2 pixels, as a maximum over axes: its gradient needs no scatter."""
    maps, rows, columns, batch = x.shape
    return x.reshape(maps, rows // 2, 2, columns // 2, 2, batch).max(axis=(2, 4))


def parameter_count(model: nn.Module, example: Sequence[int]) -> int:
    """Return the number D of parameters of a module for examples of that shape, without making any."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *example)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
