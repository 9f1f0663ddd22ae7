import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt

from theory_sim import Estimate, RequestError, plotting


def results():
    steps = np.array([0, 1, 10, 100])
    values = np.random.default_rng(0).random((3, 1, 5, 4)) + 0.1
    dims = ("rate", "problem_seed", "run_seed")
    return xr.Dataset(
        {
            "error": ((*dims, "step"), values, {"long_name": "recovery error"}),
            "status": (dims, np.zeros((3, 1, 5), int)),
        },
        {"rate": [0.1, 0.2, 0.3], "step": steps},
    )


def test_a_figure_built_twice_is_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        with plotting.style():
            plotting.save(plotting.default_figure(results()), tmp_path / name / "x", {"computation": "1234"})
    for ending in ("pdf", "png"):
        first = (tmp_path / "a" / f"x.{ending}").read_bytes()
        assert first == (tmp_path / "b" / f"x.{ending}").read_bytes()
        assert b"computation=1234" in first


def test_the_default_figure_labels_lines_and_axes():
    figure = plotting.default_figure(results())
    (axis,) = figure.axes
    assert axis.get_ylabel() == "recovery error"
    assert axis.get_xlabel() == "step"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        "rate = 0.1",
        "rate = 0.2",
        "rate = 0.3",
    ]
    plt.close(figure)


def test_results_without_scalars_have_no_default_figure():
    with pytest.raises(RequestError, match="figure of its own"):
        plotting.default_figure(results().drop_vars("error"))


def test_style_leaves_the_callers_settings_alone():
    before = plt.rcParams["font.size"]
    with plotting.style():
        assert plt.rcParams["font.size"] == plotting.STYLE["font.size"]
    assert plt.rcParams["font.size"] == before


def test_a_band_ends_where_most_runs_are_lost():
    figure, axis = plotting.figure(columns=1)
    runs = np.array([[1.0, 1.0, np.nan], [2.0, np.inf, np.inf], [3.0, 3.0, 3.0]])
    plotting.band(axis, [1, 2, 3], runs)
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [2.0, 2.0, np.nan])
    plt.close(figure)


def test_bars_end_at_the_interval():
    figure, axis = plotting.figure(columns=1)
    plotting.interval(axis, [1.0], Estimate(np.array([2.0]), np.array([1.5]), np.array([3.0])))
    (bars,) = [c for c in axis.containers if hasattr(c, "has_yerr")]
    (segment,) = bars.lines[2][0].get_segments()
    np.testing.assert_allclose(segment[:, 1], [1.5, 3.0])
    plt.close(figure)


def test_a_bar_without_end_goes_to_the_edge_and_leaves_the_limits_alone():
    figure, axis = plotting.figure(columns=1)
    plotting.log_axes(axis, "y")
    plotting.interval(
        axis, [1.0, 2.0], Estimate(np.array([2.0, 3.0]), np.array([1.5, 2.5]), np.array([3.0, np.inf]))
    )
    figure.canvas.draw()
    assert axis.get_ylim()[1] < 10
    (bar,) = axis.texts
    assert bar.xy == (2.0, 1)
    assert bar.xyann == (2.0, 3.0)
    plt.close(figure)


def test_both_files_of_a_figure_have_one_layout(tmp_path, monkeypatch):
    fig, places = plotting.default_figure(results()), []
    original = type(fig).savefig

    def savefig(self, *args, **options):
        original(self, *args, **options)
        places.append([axis.get_position().bounds for axis in self.axes])

    monkeypatch.setattr(type(fig), "savefig", savefig)
    plotting.save(fig, tmp_path / "x")
    assert places[0] == places[1]
