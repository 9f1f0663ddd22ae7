"""Whether stored results are those of the formulas and defaults that a study has now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from theory_sim.engine import compile as compiler
from theory_sim.engine.block import numerics
from theory_sim.engine.describe import defaults, identity, name_of
from theory_sim.engine.store import key_of, open_store
from theory_sim.errors import RequestError, StoreError
from theory_sim.simulation import Simulation
from theory_sim.sweep import Sweep


def require_current(sweep: Sweep, path: Path) -> None:
    """Raise StoreError when the results in a folder were computed by other formulas or with other defaults.

    Compared are the shapes of the sweep as it is written and of its presets; each is traced, none compiled.
    """
    store = open_store(path)
    header, stored = store.header, store.read("shapes")
    if header["simulation"] != name_of(sweep.simulation):
        raise StoreError(
            f"{path} holds results of {header['simulation']}, not of {name_of(sweep.simulation)}"
        )
    steps = np.asarray(header["steps"])
    with numerics(header["precision"]):
        for preset in (None, *sweep.presets):
            asked = sweep.with_preset(preset)
            for shape in asked.shapes:
                key = key_of(identity(asked, shape))
                if key not in stored:
                    continue
                simulation = asked.build(shape)
                present = {
                    "digest": traced(asked, simulation, steps).digest,
                    "jax": jax.__version__,
                    "setting": defaults(simulation.setting),
                    "hyper": defaults(simulation.hyper),
                }
                require_same(path, key, stored.pop(key), present)


def traced(sweep: Sweep, simulation: Simulation, steps: np.ndarray) -> compiler.Facts:
    """Trace one run; what goes wrong there is the request's fault, told in one line."""
    try:
        return compiler.inspect(simulation, steps)
    except (
        Exception
    ) as error:  # a simulation is a user's code: what it raises is their bad input, not our fault
        reason = str(error).strip().partition("\n")[0]
        if isinstance(error, jax.errors.ConcretizationTypeError):
            reason += " (values inside a simulation are traced: jnp.where chooses by them, `if` cannot)"
        told = f"{name_of(sweep.simulation)} cannot be simulated: {type(error).__name__}: {reason}"
        raise RequestError(told) from error


def require_same(path: Path, key: str, stored: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Raise StoreError unless a shape's stored record has the digest and the defaults of the present one."""
    if not {"digest", "sizes", "setting", "hyper", "jax"} <= stored.keys():
        raise StoreError(f"{path} is damaged: shapes/{key}.json is incomplete; run with --fresh")
    anew = "run it with --fresh to compute it anew, or give another --out"
    if stored["digest"] != present["digest"]:
        versions = "" if stored["jax"] == present["jax"] else f" (jax {stored['jax']}, now {present['jax']})"
        raise StoreError(f"{path} was computed by other formulas than the present ones{versions}: {anew}")
    for kind in ("setting", "hyper"):
        for name, value in present[kind].items():
            if stored[kind].get(name) != value:
                was = stored[kind].get(name)
                raise StoreError(f"{path} was computed with the default {name}={was}, now {value}: {anew}")
