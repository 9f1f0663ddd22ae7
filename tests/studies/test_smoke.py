"""Every study runs, is drawn and is judged at its smoke preset, from its file alone."""

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt

from theory_sim import AtLeast, Ordering, Status, open_results, plotting, run, verify
from theory_sim.study import find_studies, load_study

STUDIES = find_studies(Path(__file__).parents[2] / "sweeps")


@pytest.fixture(scope="module", params=STUDIES)
def smoke(request, tmp_path_factory):
    study = load_study(str(STUDIES[request.param]))
    if lacking := study.missing():
        pytest.skip(f"{study.name} {lacking}")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    # The workers of a parallel suite share the results: who comes second finds every cell computed.
    with open(shared / f"{study.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        out = shared / "smoke" / study.name
        summary = run(study.sweep.with_preset("smoke"), out, name=study.name, study=study.path)
    return study, summary, open_results(out)


def test_all_cells_end_well_and_are_finite(smoke):
    study, summary, data = smoke
    assert summary.computed + summary.found == summary.cells == study.sweep.with_preset("smoke").cells
    assert int(data["complete"].sum()) == summary.cells
    statuses = np.unique(data["status"].where(data["complete"], Status.FINISHED))
    assert [Status(code) for code in statuses] == [Status.FINISHED]
    for name, metric in data.data_vars.items():
        assert metric.attrs.get("long_name"), name
        if name not in ("status", "complete", "diverged_at"):
            assert "units" in metric.attrs, name
            assert np.isfinite(metric).any(), name


def test_every_claim_and_every_control_is_measured(smoke):
    study, _, data = smoke
    for claim in study.claims:
        finding = verify(claim, data, study.name)
        assert "measuring failed" not in " ".join(finding.doubts), finding
        assert "cannot compare" not in " ".join(finding.doubts), finding
        assert claim.control_reason, claim.ids
        assert claim.tolerance_reason or isinstance(claim.prediction, Ordering | AtLeast), claim.ids


def test_the_figure_is_drawn_with_its_axes_named(smoke):
    study, _, data = smoke
    with plotting.style():
        figure = study.draw(data)
        for axis in figure.axes:
            # The bar of a colour map has one axis.
            bar = axis.get_label() == "<colorbar>"
            assert not axis.get_visible() or (axis.get_ylabel() and (bar or axis.get_xlabel()))
        figure.canvas.draw()
    plt.close(figure)


def test_presets_can_be_built(smoke):
    study, _, _ = smoke
    for preset in study.sweep.presets:
        sweep = study.sweep.with_preset(preset)
        assert sweep.cells > 0
        for shape in sweep.shapes:
            sweep.build(shape)
