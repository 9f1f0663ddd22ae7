"""Whether stored results are those of the formulas and defaults that a study has now."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from theory_sim.engine.block import numerics
from theory_sim.engine.describe import defaults, identity, name_of
from theory_sim.engine.inspection import Facts, inspect
from theory_sim.engine.store import key_of, open_store
from theory_sim.errors import RequestError, StoreError
from theory_sim.simulation import Simulation
from theory_sim.sweep import Sweep

ANEW = "run it with --fresh to compute it anew, or give another --out"


def require_current(sweep: Sweep, path: Path) -> None:
    """Raise StoreError when the results in a folder were computed by other formulas or with other defaults.

    Every stored shape is built anew and traced; none is compiled.
    """
    store = open_store(path)
    header, stored = store.header, store.read("shapes")
    if header["simulation"] != name_of(sweep.simulation):
        raise StoreError(
            f"{path} holds results of {header['simulation']}, not of {name_of(sweep.simulation)}"
        )
    sweeps = [sweep.with_preset(preset) for preset in (None, *sweep.presets)]
    present = {key_of(identity(each, shape)): (each, shape) for each in sweeps for shape in each.shapes}
    swept = {axis for each in sweeps for axis in each.shape}
    swept |= {axis for asked in store.read("requests").values() for axis in asked["axes"]["shape"]}
    steps = np.asarray(header["steps"])
    with numerics(header["precision"]):
        for key, record in stored.items():
            if key not in present:
                _require_same_arguments(path, record["shape"], identity(sweep, sweep.shapes[0]), swept)
            each, shape = present.get(key, (sweep, record["shape"]))
            simulation = each.build(shape)
            now = {
                "digest": traced(each, simulation, steps).digest,
                "jax": jax.__version__,
                "setting": defaults(simulation.setting),
                "hyper": defaults(simulation.hyper),
            }
            require_same(path, key, record, now)


def _require_same_arguments(
    path: Path, stored: Mapping[str, Any], present: Mapping[str, Any], swept: set
) -> None:
    """Raise StoreError unless a factory has the arguments of a stored shape, and its defaults where none was swept."""
    if odd := sorted(stored.keys() ^ present.keys()):
        whose = "present" if odd[0] in present else "stored"
        raise StoreError(
            f"{path} has another shape: only the {whose} one has the argument {odd[0]!r}; {ANEW}"
        )
    for name, value in stored.items():
        if name not in swept and value != present[name]:
            raise StoreError(
                f"{path} was computed with the default {name}={value}, now {present[name]}: {ANEW}"
            )


def traced(sweep: Sweep, simulation: Simulation, steps: np.ndarray) -> Facts:
    """Trace one run; what goes wrong there is the request's fault, told in one line."""
    try:
        return inspect(simulation, steps)
    except (
        Exception
    ) as error:  # a simulation is a user's code: what it raises is their bad input, not our fault
        # JAX tells what differs in the lines after the first, and then where in its own code and ours, and whom to ask.
        telling = re.split(
            r"^(?:The error occurred while|See https:|Revise )", str(error), flags=re.MULTILINE
        )[0]
        reason = textwrap.shorten(telling, 500, placeholder=" ...")
        if isinstance(error, jax.errors.ConcretizationTypeError):
            reason += " (values inside a simulation are traced: jnp.where chooses by them, `if` cannot)"
        told = f"{name_of(sweep.simulation)} cannot be simulated: {type(error).__name__}: {reason}"
        raise RequestError(told) from error


def require_same(path: Path, key: str, stored: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Raise StoreError unless a shape's stored record has the digest and the defaults of the present one."""
    if not {"digest", "sizes", "setting", "hyper", "jax"} <= stored.keys():
        raise StoreError(f"{path} is damaged: shapes/{key}.json is incomplete; run with --fresh")
    if stored["digest"] != present["digest"]:
        versions = "" if stored["jax"] == present["jax"] else f" (jax {stored['jax']}, now {present['jax']})"
        raise StoreError(f"{path} was computed by other formulas than the present ones{versions}: {ANEW}")
    for kind in ("setting", "hyper"):
        for name, value in present[kind].items():
            if stored[kind].get(name) != value:
                was = stored[kind].get(name)
                raise StoreError(f"{path} was computed with the default {name}={was}, now {value}: {ANEW}")
