"""The parts of a sweep, one a shape: checked whole before anything is stored, then compared with what is."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from theory_sim.engine.block import Job
from theory_sim.engine.current import ANEW, require_same, traced
from theory_sim.engine.describe import defaults, identity, metrics, require_one_meaning
from theory_sim.engine.inspection import devices_for
from theory_sim.engine.plan import Sizes, choose_sizes
from theory_sim.engine.results import completed
from theory_sim.engine.store import Store, key_of
from theory_sim.errors import RequestError, StoreError
from theory_sim.simulation import Simulation
from theory_sim.sweep import Sweep, cells, fields


class Asked(NamedTuple):
    """One shape of a sweep before it is looked up: its cells, which of them are wanted, and what is to be stored."""

    shape: dict[str, Any]
    problems: dict[str, np.ndarray]
    runs: dict[str, np.ndarray]
    wanted: np.ndarray
    devices: int
    record: dict[str, Any]


class Part(NamedTuple):
    """One shape of a sweep: its cells, which of them are wanted, and which are stored already."""

    job: Job
    problems: dict[str, np.ndarray]
    runs: dict[str, np.ndarray]
    wanted: np.ndarray
    done: np.ndarray


def checked(sweep: Sweep, steps: np.ndarray) -> list[Asked]:
    """Return the shapes of a sweep that have wanted cells, each traced, its cells and metrics checked.

    Raises RequestError for whatever cannot run or could not be told apart in the results; touches no folder.
    """
    simulations = [(shape, sweep.build(shape)) for shape in sweep.shapes]
    asked = [each for shape, simulation in simulations if (each := _checked(sweep, shape, simulation, steps))]
    require_one_meaning(sweep, [each.record["metrics"] for each in asked])
    return asked


def _checked(sweep: Sweep, shape: dict, simulation: Simulation, steps: np.ndarray) -> Asked | None:
    problems, runs, wanted = cells(sweep, shape)
    if not wanted.any():
        return None
    facts = traced(sweep, simulation, steps)
    problems, runs = _filled(problems, simulation.setting), _filled(runs, simulation.hyper)
    record: dict[str, Any] = {
        "shape": identity(sweep, shape),
        "digest": facts.digest,
        "jax": jax.__version__,
        "setting": defaults(simulation.setting),
        "hyper": defaults(simulation.hyper),
        "metrics": metrics(simulation.variables, facts.records, facts.conclusions),
    }
    _check_cells(sweep, simulation, problems, runs, wanted)
    devices = devices_for(facts)
    sizes = choose_sizes(
        wanted,
        state_bytes=facts.state_bytes,
        problem_bytes=facts.problem_bytes,
        run_flops=facts.run_flops,
        platform=jax.default_backend(),
        devices=devices,
    )
    return Asked(shape, problems, runs, wanted, devices, {**record, "sizes": list(sizes)})


def compared(sweep: Sweep, asked: list[Asked], store: Store, factory: Any) -> list[Part]:
    """Keep the record of each shape in a folder, and find out which of its cells are missing there.

    `factory` is how other processes find the simulation. Raises StoreError when the folder's results of a shape have
    other formulas or defaults, or lack an argument that is swept now.
    """
    stored = store.read("shapes")
    for key, shape in stored.items():
        if new := sorted(sweep.shape.keys() - shape.get("shape", {}).keys()):
            raise StoreError(
                f"{store.path} holds results (shapes/{key}.json) without the argument {new[0]!r}: {ANEW}"
            )
    require_one_meaning(
        sweep, [shape.get("metrics", {}) for shape in (*stored.values(), *(each.record for each in asked))]
    )
    return [_compared(sweep, each, store, factory) for each in asked]


def _compared(sweep: Sweep, asked: Asked, store: Store, factory: Any) -> Part:
    key = key_of(asked.record["shape"])
    stored = store.add_shape(key, asked.record)
    require_same(store.path, key, stored, asked.record)
    header = store.header
    job = Job(
        factory=factory,
        shape=tuple(asked.shape.items()),
        steps=tuple(header["steps"]),
        root_seed=header["root_seed"],
        precision=header["precision"],
        key=key,
        digest=asked.record["digest"],
        # The sizes of the first run are kept: the same blocks give the same bits.
        sizes=Sizes(*stored["sizes"]),
        devices=asked.devices,
        store=store,
    )
    return Part(
        job, asked.problems, asked.runs, asked.wanted, completed(store, key, asked.problems, asked.runs)
    )


def _check_cells(
    sweep: Sweep,
    simulation: Simulation,
    problems: Mapping[str, np.ndarray],
    runs: Mapping[str, np.ndarray],
    wanted: np.ndarray,
) -> None:
    """Refuse, or warn of, what the simulation says about the wanted cells: how many, and the axes of the first."""
    setting = _replaced(simulation.setting, {name: values[:, None] for name, values in problems.items()})
    hyper = _replaced(simulation.hyper, {name: values[None, :] for name, values in runs.items()})
    for about in (simulation.refuse, simulation.caution):
        for message, cells_about in (about(setting, hyper) if about else {}).items():
            p, r = np.nonzero(wanted & np.broadcast_to(cells_about, wanted.shape))
            if not len(p):
                continue
            swept = {name: problems[name][p[0]] for name in sweep.problem}
            swept |= {name: runs[name][r[0]] for name in sweep.run}
            first = ", ".join(f"{name}={value:g}" for name, value in swept.items())
            told = f"{len(p)} of {int(wanted.sum())} cells: {message}" + (
                f" (first: {first})" if first else ""
            )
            if about is simulation.refuse:
                raise RequestError(told)
            warnings.warn(told, RuntimeWarning, stacklevel=2)


def _replaced(defaults: Any, values: Mapping[str, np.ndarray]) -> Any:
    names = fields(defaults)
    return defaults._replace(**{name: values[name] for name in names}) if names else defaults


def _filled(columns: Mapping[str, np.ndarray], values: Any) -> dict[str, np.ndarray]:
    """Add the fields that are not swept, at their defaults."""
    length = len(next(iter(columns.values())))
    fixed = {name: np.full(length, getattr(values, name)) for name in fields(values) if name not in columns}
    return {**columns, **fixed}
