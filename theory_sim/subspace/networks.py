"""Networks as flax linen modules, in the default float type, with the initialisation of arXiv:1804.08838."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class MLP(nn.Module):
    """Fully connected ReLU network on flattened inputs; `widths` are the hidden widths and the output width.

    Kernels are he_normal (variance 2 / inputs), biases zero (SU-A1-I1).

    >>> import jax
    >>> MLP([200, 10]).init(jax.random.key(0), jnp.zeros((1, 8, 8)))["params"]["Dense_0"]["kernel"].shape
    (64, 200)
    """

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch outputs"]:
        """Return the logits."""
        x = x.reshape(x.shape[0], -1)
        for layer, width in enumerate(self.widths):
            x = nn.relu(x) if layer else x
            # flax would store float32 weights even where the rest of the program is float64.
            dense = nn.Dense(width, kernel_init=nn.initializers.he_normal(), param_dtype=jnp.zeros(()).dtype)
            x = dense(x)
        return x
