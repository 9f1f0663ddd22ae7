"""Metrics with dimensions of their own: what is refused before anything is stored, and where values are found again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.examples import scalar_descent
from theory_sim import RequestError, Sweep, Variable, export, open_results, run


def seeing(observe, dims=None, conclude=None):
    variables = {name: Variable(name, dims=own) for name, own in (dims or {}).items()}

    def factory():
        return scalar_descent()._replace(
            observe=lambda problem, hyper, x: observe(x),
            conclude=conclude and (lambda problem, hyper, records, x: conclude(x)),
            variables=variables,
        )

    return factory


def test_shapes_with_other_coordinates_share_one_labelled_dimension(tmp_path):
    def factory(*, levels="few"):
        values = {"few": [1, 4], "many": [1, 2, 3]}[levels]
        return scalar_descent()._replace(
            observe=lambda problem, hyper, x: {"level": jnp.asarray(values, float)},
            variables={"level": Variable("level", dims={"at": values})},
        )

    run(Sweep(factory, shape={"levels": ["few", "many"]}, steps=2), tmp_path / "r")
    data = open_results(tmp_path / "r")["level"].isel(step=0).squeeze(drop=True)
    assert data["at"].to_numpy().tolist() == [1, 2, 3, 4]
    for levels, values in [("few", [1, np.nan, np.nan, 4]), ("many", [1, 2, 3, np.nan])]:
        np.testing.assert_array_equal(data.sel(levels=levels), values)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            seeing(lambda x: {"a": jnp.ones(2), "b": jnp.ones(3)}, {"a": {"row": None}, "b": {"row": None}}),
            "dimension 'row' has other values in metric 'b' than in another",
        ),
        (seeing(lambda x: {"a": x, "b": jnp.ones(3)}, {"b": {"a": None}}), "'a' of metric 'b' has the name"),
        (seeing(lambda x: {"b": jnp.ones(3)}, {"b": {"step_size": None}}), "'step_size' of metric 'b' has"),
        (seeing(lambda x: {"b": jnp.ones(3)}, {"b": {"run_seed": None}}), "'run_seed' of metric 'b' has"),
        (seeing(lambda x: {"b": jnp.ones(2)}, {"b": {"row": [1, 1]}}), "list different numbers or words"),
        (seeing(lambda x: {"b": jnp.ones(2)}, {"b": {"row": np.ones((2, 2))}}), "an array of shape"),
        (seeing(lambda x: {"b": x + 1j}), "metric 'b' is complex"),
        (
            seeing(lambda x: {"b": x}, conclude=lambda x: {"converged": jnp.ones(3, bool)}),
            r"one `converged` a run, got shape \(3,\)",
        ),
    ],
)
def test_metrics_that_results_could_not_tell_apart_are_refused_before_anything_is_stored(
    tmp_path, factory, message
):
    with pytest.raises(RequestError, match=message):
        run(Sweep(factory, run={"step_size": [0.1]}, steps=2), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_metric_has_the_same_dimensions_in_all_shapes_new_and_stored(tmp_path):
    def factory(*, dim="row"):
        return seeing(lambda x: {"b": jnp.ones(2)}, {"b": {dim: None}})()

    with pytest.raises(RequestError, match=r"'column'. in one shape and .*'row'. in another"):
        run(Sweep(factory, shape={"dim": ["row", "column"]}, steps=2), tmp_path / "r")
    run(Sweep(factory, shape={"dim": ["row"]}, steps=2), tmp_path / "r")
    with pytest.raises(RequestError, match=r"'column'. in one shape and .*'row'. in another"):
        run(Sweep(factory, shape={"dim": ["column"]}, steps=2), tmp_path / "r")
    assert open_results(tmp_path / "r")["b"].dims[-1] == "row"


def test_a_parquet_table_has_a_column_for_every_entry_of_a_metric(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    factory = seeing(
        lambda x: {"size": jnp.abs(x), "both": jnp.stack([x, -x])},
        {"both": {"sign": ["plus", "minus"]}},
        conclude=lambda x: {"grid": jnp.arange(4.0).reshape(2, 2)},
    )
    run(Sweep(factory, run_seeds=2, steps=[0, 3]), tmp_path / "r")
    table = pandas.read_parquet(export(tmp_path / "r", tmp_path / "r.parquet"))
    assert len(table) == 2 * 2
    assert {"run_seed", "step", "status", "size", "grid[0,1]"} <= set(table.columns)
    np.testing.assert_array_equal(table["both[plus]"], -table["both[minus]"])
    np.testing.assert_array_equal(table["both[plus]"].abs(), table["size"])
    assert (table["grid[1,0]"] == 2).all()


def test_a_branch_of_another_shape_is_told_with_both_shapes(tmp_path):
    def factory():
        return scalar_descent()._replace(
            step=lambda key, problem, hyper, x: jax.lax.scan(lambda c, _: (c[None], None), x, None, length=2)[
                0
            ]
        )

    with pytest.raises(RequestError, match=r"type float64\[\] but the .* has type float64\[1\]") as told:
        run(Sweep(factory, steps=2), tmp_path / "r")
    assert "\n" not in str(told.value)


def test_a_shape_axis_may_hold_lists(tmp_path):
    def factory(*, widths):
        return seeing(lambda x: {"layers": jnp.asarray(len(widths))})()

    run(Sweep(factory, shape={"widths": [[40], [40, 40]]}, steps=2), tmp_path / "r")
    data = open_results(tmp_path / "r")
    assert data["widths"].to_numpy().tolist() == ["[40]", "[40, 40]"]
    assert data["layers"].isel(step=0).squeeze(drop=True).to_numpy().tolist() == [1, 2]
