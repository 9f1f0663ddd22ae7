"""What the instances of max margin problems must be; values are checked where they are known.

Under a transformation only shapes are: an instance that is not finite then has a gap of NaN, and is not feasible.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def known(*values: Array) -> bool:
    """Return whether the values are numbers, not traced."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def floats(**arrays: Array) -> list[Array]:
    """Return the named arrays in their common floating type; ValueError unless they are finite."""
    kept = {name: jnp.asarray(array) for name, array in arrays.items()}
    dtype = jnp.result_type(*(array.dtype for array in kept.values()), float)
    for name, array in kept.items():
        if known(array) and not np.isfinite(array).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"{name} must be finite, got {np.asarray(array)[place]} at {place}")
    return [array.astype(dtype) for array in kept.values()]


def check_tokens(name: str, tokens: Array) -> None:
    """Raise ValueError unless there are sequences of two tokens or more, in one dimension or more."""
    if tokens.ndim != 3 or any(size < least for size, least in zip(tokens.shape, (1, 2, 1), strict=True)):
        raise ValueError(
            f"{name} must have shape [samples, at least 2 tokens, at least 1 dim], got {tokens.shape}"
        )


def check_queries(tokens: Array, queries: Array) -> None:
    """Raise ValueError unless the shapes fit and no query is zero: it would give all tokens the same score."""
    check_tokens("tokens", tokens)
    samples, _, dim = tokens.shape
    if queries.shape != (samples, dim):
        raise ValueError(f"queries must have shape {(samples, dim)}, as tokens have, got {queries.shape}")
    if known(queries) and not np.any(queries, axis=1).all():
        raise ValueError(
            f"queries must not be zero, got zero for sequence {np.argmin(np.any(queries, axis=1))}"
        )


def places_of(
    selected: Int[Array, " samples"], tokens: Float[Array, "samples tokens dim"]
) -> Int[Array, " samples"]:
    """Return one selected token a sequence; ValueError unless each is the index of a token."""
    places, (samples, count, _) = jnp.asarray(selected), tokens.shape
    if places.shape != (samples,) or not jnp.issubdtype(places.dtype, jnp.integer):
        raise ValueError(
            f"selected must be {samples} whole numbers, one a sequence, got {places.dtype} of shape {places.shape}"
        )
    if known(places) and not np.all((places >= 0) & (places < count)):
        wrong = np.asarray(places)[np.argmax((np.asarray(places) < 0) | (np.asarray(places) >= count))]
        raise ValueError(f"selected must lie between 0 and {count - 1}, got {wrong}")
    return places


def selection(selected: Bool[Array, "samples tokens"], tokens: Float[Array, "samples tokens dim"]) -> Array:
    """Return which tokens are selected; ValueError unless each sequence has one, and some sequence another."""
    chosen = jnp.asarray(selected)
    if chosen.dtype != bool or chosen.shape != tokens.shape[:2]:
        raise ValueError(
            f"selected must be booleans of shape {tokens.shape[:2]}, got {chosen.dtype} of shape {chosen.shape}"
        )
    if known(chosen):
        if not np.asarray(chosen).any(axis=1).all():
            sequence = int(np.argmin(np.asarray(chosen).any(axis=1)))
            raise ValueError(f"selected must have a token in each sequence, got none in sequence {sequence}")
        if np.asarray(chosen).all():
            raise ValueError("selected must leave a token out, got all tokens of all sequences")
    return chosen
