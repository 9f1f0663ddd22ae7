"""Theorems about low-rank structure in learning, as executable claims."""

import importlib
from types import ModuleType

from theory_sim.claims import Claim, Finding, judge, verify
from theory_sim.engine.results import export, open_results
from theory_sim.engine.run import Progress, Summary, run
from theory_sim.errors import RequestError, StoreError
from theory_sim.estimate import (
    Estimate,
    bootstrap,
    cellwise,
    crossing,
    decay,
    exponent,
    first_reach,
    proportion,
    rate,
    time_to,
)
from theory_sim.laws import law_distance, right_law_distance
from theory_sim.predictions import AtLeast, AtMost, Equals, MatchesCurve, Ordering
from theory_sim.record import (
    decade,
    last,
    last_mean,
    last_share,
    late_exponent,
    late_slope,
    mean_exponent,
)
from theory_sim.samples import at_last, by_seed, computed
from theory_sim.simulation import Simulation, Status, Variable, log_spaced, rollout, trajectory
from theory_sim.sweep import Sweep

__all__ = [
    "AtLeast",
    "AtMost",
    "Claim",
    "Equals",
    "Estimate",
    "Finding",
    "MatchesCurve",
    "Ordering",
    "Progress",
    "RequestError",
    "Simulation",
    "Status",
    "StoreError",
    "Summary",
    "Sweep",
    "Variable",
    "at_last",
    "bootstrap",
    "by_seed",
    "cellwise",
    "computed",
    "crossing",
    "decade",
    "decay",
    "exponent",
    "export",
    "first_reach",
    "judge",
    "last",
    "last_mean",
    "last_share",
    "late_exponent",
    "late_slope",
    "law_distance",
    "log_spaced",
    "mean_exponent",
    "open_results",
    "proportion",
    "rate",
    "right_law_distance",
    "rollout",
    "run",
    "time_to",
    "trajectory",
    "verify",
]


def __getattr__(name: str) -> ModuleType:
    # The families are loaded when they are first used: flax and optax take a second.
    if name in ("attention", "sensing", "subspace"):
        return importlib.import_module(f"theory_sim.{name}")
    raise AttributeError(f"module 'theory_sim' has no attribute {name!r}")
