"""A digest of a traced computation, the same in every process that traces the same formulas.

The text of a jaxpr is not: what it prints once and what it repeats depends on which inner functions JAX still had in
its caches when it traced them, that is, on all that the process has done before.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

PLACEMENT = {
    "name", "inline", "keep_unused", "ctx_mesh", "donated_invars", "compiler_options_kvs", "in_shardings",
    "out_shardings", "in_layouts", "out_layouts",
}  # fmt: skip
"""Parameters of inner functions that change no value."""


def digest(jaxprs: Iterable[ClosedJaxpr], arrays: Iterable[Any]) -> str:
    """Return 16 hexadecimal digits that identify jaxprs, the arrays captured by them and those given."""
    known: dict[int, tuple[str, Any]] = {}
    parts = [_value(jaxpr, known) for jaxpr in jaxprs] + [_array(array, known) for array in arrays]
    return _hash(" ".join(parts))[:16]


def _jaxpr(jaxpr: Jaxpr, known: dict[int, tuple[str, Any]]) -> str:
    """Digest a jaxpr by the digests of the jaxprs in its equations, its variables numbered in order."""
    if id(jaxpr) in known:
        return known[id(jaxpr)][0]
    numbers: dict[Any, int] = {}

    def bind(variables: Iterable[Any]) -> str:
        for variable in variables:
            numbers[variable] = len(numbers)
        return " ".join(str(variable.aval) for variable in variables)

    def read(atom: Any) -> str:
        return f"{atom.val!r}:{atom.aval}" if isinstance(atom, Literal) else str(numbers[atom])

    lines = [bind([*jaxpr.constvars, *jaxpr.invars])]
    for equation in jaxpr.eqns:
        inputs = " ".join(map(read, equation.invars))
        parameters = [
            f"{name}={_value(value, known)}"
            for name, value in sorted(equation.params.items())
            if name not in PLACEMENT and not callable(value)
        ]
        lines.append(f"{equation.primitive} {inputs} {parameters} {bind(equation.outvars)}")
    lines.append(" ".join(map(read, jaxpr.outvars)))
    return _keep(jaxpr, _hash("\n".join(lines)), known)


def _value(value: Any, known: dict[int, tuple[str, Any]]) -> str:
    """Return what identifies a parameter of an equation: its text, or the digest of what is large."""
    match value:
        case ClosedJaxpr():
            return " ".join([_jaxpr(value.jaxpr, known), *(_array(const, known) for const in value.consts)])
        case Jaxpr():
            return _jaxpr(value, known)
        case tuple() | list():
            return f"({', '.join(_value(each, known) for each in value)})"
        case np.ndarray() | jax.Array():
            return _array(value, known)
        case _:
            return re.sub(r"0x[0-9a-f]+", "", str(value))  # the address of an object


def _array(array: Any, known: dict[int, tuple[str, Any]]) -> str:
    if id(array) in known:
        return known[id(array)][0]
    keys = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    values = np.ascontiguousarray(jax.random.key_data(array) if keys else array)
    return _keep(array, f"{values.dtype}{values.shape}{_hash(values.tobytes())}", known)


def _keep(thing: Any, text: str, known: dict[int, tuple[str, Any]]) -> str:
    """Remember the digest of an object, and the object itself, whose address would else be given to another."""
    known[id(thing)] = text, thing
    return text


def _hash(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
