"""What random subspaces reach of a problem of known codimension, and where training begins to succeed.

Ten linear conditions on any number of coordinates have intrinsic dimension 10 (arXiv:1804.08838), and what smaller
subspaces can reach of them has an exact law.
"""

import numpy as np
import xarray as xr

from theory_sim import AtMost, Claim, Equals, Estimate, Sweep, bootstrap, by_seed, computed
from theory_sim.subspace import codimension_toy, reachable_loss_law

K = 10  # codimension of the problem that the claims speak of
BELOW = range(1, K)
DIMS = [*BELOW, 10, 11, 12, 15, 18, 19, 20, 21, 25]

SWEEP = Sweep(
    simulation=codimension_toy,
    shape={"groups": [K, 2 * K], "max_dim": [25], "projection": ["dense"]},
    run={"dim": DIMS},
    problem_seeds=512,
    steps=[0, 10, 30, 100, 300, 1000],
    presets={
        "smoke": {"problem_seeds": 32, "steps": [0, 100]},
        "quick": {},
        "paper": {"problem_seeds": 2048, "steps": [0, 10, 30, 100, 300, 1000, 3000]},
    },
)


def last(data: xr.Dataset, name: str) -> np.ndarray:
    """Last recorded value of a metric for each seed and each dimension that was computed."""
    return by_seed(data.isel(step=-1), name, "dim")


def mean_ratio(data: xr.Dataset) -> Estimate:
    """Mean of best loss / initial loss, for each dimension below K."""
    return bootstrap(last(data.sel(dim=list(BELOW)), "best_ratio"))


def distance_from_law(data: xr.Dataset) -> Estimate:
    """Kolmogorov distance from uniform of the ratios, each mapped through its predicted distribution."""
    ratios = last(data.sel(dim=list(BELOW)), "best_ratio")
    mapped = np.stack([reachable_loss_law(K, d).cdf(r) for d, r in zip(BELOW, ratios.T, strict=True)])
    levels = np.linspace(0.05, 0.95, 19)
    # One row for each seed: the dimensions of a seed share a projection and are not independent.
    excess = (mapped[..., None] <= levels).mean(axis=0) - levels
    return bootstrap(excess, lambda rows, axis: np.abs(rows.mean(axis=axis)).max(axis=-1))


def solved_from(data: xr.Dataset) -> Estimate:
    """Smallest tested dimension at which the median performance of trained runs reaches 0.9."""
    dims = computed(data)["dim"].to_numpy()
    performance = last(data, "performance")

    def first(runs: np.ndarray, axis: int) -> np.ndarray:
        solved = np.median(runs, axis=axis) >= 0.9
        return np.where(solved.any(axis=-1), dims[np.argmax(solved, axis=-1)], np.inf)

    return bootstrap(performance, first)


LAW = (
    "The reachable residuals are a uniformly oriented d-plane in R^k; the squared sine of a fixed vector's angle\n"
    "to it is chi2(k-d) / (chi2(k-d) + chi2(d)), which is Beta((k-d)/2, d/2)."
)
SOURCE = "arXiv:1804.08838, toy problem"
TEN, TWENTY = ({"groups": k, "projection": "dense"} for k in (K, 2 * K))

CLAIMS = [
    Claim(
        ids=("SU-A1-1",),
        statement="the best loss in a random d-dimensional subspace is 1 - d/10 of the initial loss on average",
        source=SOURCE,
        label="derived",
        derivation=LAW,
        measure=mean_ratio,
        prediction=Equals([1 - d / K for d in BELOW], tolerance=0.05),
        tolerance_reason="5 standard errors of the widest law (0.204 at d = 5) with 512 projections",
        at=TEN,
        control=TWENTY,
        control_reason="codimension 20 gives 1 - d/20",
    ),
    Claim(
        ids=("SU-A1-1",),
        statement="that fraction follows Beta((10 - d)/2, d/2) as a whole distribution, for d = 1 .. 9",
        source=SOURCE,
        label="derived",
        derivation=LAW,
        measure=distance_from_law,
        prediction=AtMost(lambda data: 2 / np.sqrt(data.sizes["problem_seed"])),
        tolerance_reason="Kolmogorov's 95% distance 1.36/sqrt(n), times sqrt(2) for the resampling of the "
        "bootstrap; n counts projections alone",
        at=TEN,
        control=TWENTY,
        control_reason="codimension 20 follows Beta((20 - d)/2, d/2)",
    ),
    Claim(
        ids=("SU-A1-2",),
        statement="ten linear conditions on 1000 coordinates have intrinsic dimension 10: training succeeds there",
        source=SOURCE,
        label="derived",
        derivation="An affine d-plane in general position meets a plane of codimension k if and only if d >= k.",
        measure=solved_from,
        prediction=Equals(10.0, tolerance=0.5),
        tolerance_reason="dimensions are whole numbers",
        at=TEN,
        control=TWENTY,
        control_reason="twenty conditions have intrinsic dimension 20",
    ),
]
