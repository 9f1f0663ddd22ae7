"""What the measures of the studies of subspaces accept and refuse, on results that are planted."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from theory_sim import AtMost, judge
from theory_sim.errors import RequestError
from theory_sim.study import load_module
from theory_sim.subspace import dense_projection

SWEEPS = Path(__file__).parents[2] / "sweeps"


DIGITS = load_module(SWEEPS / "subspace_intrinsic_dimension.py")
CODIMENSION = load_module(SWEEPS / "subspace_codimension.py")
STRUCTURE = load_module(SWEEPS / "subspace_structure.py")


def planted_ratios(shift, seed, projections=512):
    """Ratios of as many projections from the Beta laws of dimensions moved by `shift(d)`."""
    dims = np.arange(1, 10)
    generator = np.random.default_rng(seed)
    ratios = np.stack(
        [generator.beta((10 - d - shift(d)) / 2, (d + shift(d)) / 2, projections) for d in dims], axis=1
    )
    axes = ("problem_seed", "dim")
    return xr.Dataset(
        {"best_ratio": (axes, ratios), "complete": (axes, np.ones(ratios.shape, dtype=bool))},
        coords={"dim": dims},
    )


def verdict_on(data):
    return judge(AtMost(CODIMENSION.kolmogorov), CODIMENSION.BETA(data), data)


@pytest.mark.parametrize(
    "shift",
    [lambda d: 0.5, lambda d: -0.5, lambda d: 0.5 if d < 5 else -0.5, lambda d: -0.5 if d < 5 else 0.5],
    ids=["more", "fewer", "more, then fewer", "fewer, then more"],
)
def test_the_law_of_a_neighbouring_dimension_is_refused_also_where_errors_have_opposite_signs(shift):
    assert [verdict_on(planted_ratios(shift, seed)) for seed in range(5)] == ["disagrees"] * 5


def test_the_right_law_is_accepted():
    verdicts = [verdict_on(planted_ratios(lambda d: 0, seed)) for seed in range(20)]
    assert "disagrees" not in verdicts
    assert verdicts.count("agrees") >= 12
    one = planted_ratios(lambda d: 0, 0).sel(dim=[1])
    assert verdict_on(one) == "agrees"
    assert CODIMENSION.kolmogorov(one) < CODIMENSION.kolmogorov(planted_ratios(lambda d: 0, 0))


def test_a_ratio_that_is_not_finite_is_doubted():
    data = planted_ratios(lambda d: 0, 0)
    data["best_ratio"][3, 2] = np.nan
    assert CODIMENSION.BETA(data).doubts == ("1 of 512 runs are not finite",)


def test_a_repeated_projection_spans_as_many_dimensions_as_it_has_columns():
    key = jax.random.key(0)
    projection, plain = DIGITS.repeated(2, key, 40, 8), dense_projection(key, 40, 4)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=8), generator.normal(size=40)
    forward, backward = projection.apply(x), projection.transpose(y)
    np.testing.assert_allclose(forward @ y, x @ backward)
    np.testing.assert_allclose(forward, plain.apply(jnp.asarray(x.reshape(4, 2).mean(axis=1))), atol=1e-14)
    columns = jax.vmap(projection.apply)(jnp.eye(8))
    np.testing.assert_allclose(projection.gram(), columns @ columns.T, atol=1e-14)
    assert np.linalg.matrix_rank(columns) == 4
    assert np.linalg.matrix_rank(jax.vmap(projection.restricted(6).apply)(jnp.eye(8))) == 3


@pytest.mark.parametrize(("study", "largest"), [(DIGITS, 480), (STRUCTURE, 240)])
def test_a_dimension_that_no_cell_has_room_for_is_told_the_limits(study, largest):
    assert study.SWEEP.override({"dim": [100]}).cells == study.SWEEP.override({"dim": [120]}).cells > 0
    too_large = study.SWEEP.override({"dim": [5000]})
    with pytest.raises(RequestError, match=rf"axis 'dim' must lie in \[0, {largest}\], got 5000"):
        too_large.build(too_large.shapes[0])
