r"""Products of a trained matrix with many columns, whose derivatives are fast products too.

>>> import jax
>>> import jax.numpy as jnp
>>> matrix, columns = jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 5.0], [4.0, 6.0]])
>>> product(matrix, columns).tolist(), jax.grad(lambda m: product(m, columns).sum())(matrix).tolist()
([[11.0, 17.0]], [[8.0, 10.0]])
"""

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier
from jaxtyping import Array, Float


@jax.custom_vjp
def product(matrix: Float[Array, "rows dim"], columns: Float[Array, "dim many"]) -> Float[Array, "rows many"]:
    """Return `matrix @ columns`, to be differentiated in reverse mode.

    The derivative by the columns is `matrix^T slope`. A barrier keeps the transpose out of that product: on a CPU XLA
    folds it in, and the batched product then takes a path half as fast (jaxlib 0.10). The derivative by the matrix,
    `slope columns^T`, is fast as it stands; with columns in the place of rows it would be the slow one.
    """
    return matrix @ columns


def _forward(matrix: Array, columns: Array) -> tuple[Array, tuple[Array, Array]]:
    return matrix @ columns, (matrix, columns)


def _backward(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    matrix, columns = kept
    return slope @ columns.T, optimization_barrier(optimization_barrier(matrix.T) @ slope)


product.defvjp(_forward, _backward)


@jax.custom_vjp
def similarities(
    rows: Float[Array, "samples many dim"], tokens: Float[Array, "samples count dim"]
) -> Float[Array, "samples many count"]:
    """Return the inner products of rows and tokens, `rows @ tokens^T`, the transpose written out first."""
    return rows @ _transposed(tokens)


@jax.custom_vjp
def mixtures(
    shares: Float[Array, "samples many count"], tokens: Float[Array, "samples count dim"]
) -> Float[Array, "samples many dim"]:
    """Return `shares @ tokens`, whose derivative by the shares needs the transposed tokens of `similarities`."""
    return shares @ tokens


def _transposed(stack: Array) -> Array:
    return optimization_barrier(jnp.swapaxes(stack, 1, 2))


similarities.defvjp(
    lambda rows, tokens: (similarities(rows, tokens), (rows, tokens)),
    lambda kept, slope: (slope @ kept[1], jnp.swapaxes(slope, 1, 2) @ kept[0]),
)
mixtures.defvjp(
    lambda shares, tokens: (shares @ tokens, (shares, tokens)),
    lambda kept, slope: (slope @ _transposed(kept[1]), jnp.swapaxes(kept[0], 1, 2) @ slope),
)
