import numpy as np
import pytest
import xarray as xr

from theory_sim import (
    AtLeast,
    AtMost,
    Claim,
    Equals,
    Estimate,
    MatchesCurve,
    Ordering,
    RequestError,
    bootstrap,
    judge,
    verify,
)

NONE = xr.Dataset()


@pytest.mark.parametrize(
    ("prediction", "interval", "verdict"),
    [
        (Equals(1.0, 0.1), (1.0, 0.95, 1.05), "agrees"),
        (Equals(1.0, 0.1), (1.05, 0.95, 1.15), "inconclusive"),
        (Equals(1.0, 0.1), (1.3, 1.2, 1.4), "disagrees"),
        (AtMost(2.0), (1.0, 0.5, 1.9), "agrees"),
        (AtMost(2.0), (1.9, 1.5, 2.1), "inconclusive"),
        (AtMost(2.0), (3.0, 2.1, 3.5), "disagrees"),
        (AtLeast(2.0), (3.0, 2.1, 3.5), "agrees"),
        (AtLeast(2.0), (1.0, 0.5, 1.9), "disagrees"),
        (AtLeast(lambda data: 2.0), (2.0, 1.9, 2.1), "inconclusive"),
        (Equals(1.0, 0.1), (np.nan, np.nan, np.nan), "inconclusive"),
        (Equals(1.0, 0.1), (1.0, -np.inf, np.inf), "inconclusive"),
    ],
)
def test_the_verdict_follows_from_the_interval_alone(prediction, interval, verdict):
    assert judge(prediction, Estimate(*interval), NONE) == verdict


def curve(factor):
    x = np.array([1.0, 2.0, 4.0])
    return Estimate(factor / x, factor / x * 0.99, factor / x * 1.01)


def test_a_curve_must_match_at_every_point():
    predicted = MatchesCurve(lambda data: 1 / np.array([1.0, 2.0, 4.0]), 0.05)
    assert judge(predicted, curve(1.02), NONE) == "agrees"
    assert judge(predicted, curve(1.2), NONE) == "disagrees"
    assert judge(predicted, curve(np.array([1.0, 1.0, 1.5])), NONE) == "disagrees"
    assert judge(predicted, curve(1.05), NONE) == "inconclusive"


def test_an_ordering_needs_intervals_apart():
    def estimate(*values, half=0.1):
        return Estimate(np.array(values), np.array(values) - half, np.array(values) + half)

    assert judge(Ordering("increasing"), estimate(1, 2, 3), NONE) == "agrees"
    assert judge(Ordering("decreasing"), estimate(3, 2, 1), NONE) == "agrees"
    assert judge(Ordering("increasing"), estimate(1, 3, 2), NONE) == "disagrees"
    assert judge(Ordering("increasing"), estimate(1, 1.1, 2), NONE) == "inconclusive"


def test_a_doubted_estimate_can_refute_but_not_confirm():
    doubted = Estimate(1.0, 0.99, 1.01, doubts=("short window",))
    assert judge(Equals(1.0, 0.1), doubted, NONE) == "inconclusive"
    assert judge(Equals(2.0, 0.1), doubted, NONE) == "disagrees"


def data():
    values = np.stack([np.full(5, 1.0), np.full(5, 2.0), np.full(5, np.nan)]) + np.linspace(0, 0.01, 5)
    return xr.Dataset({"x": (("kind", "run_seed"), values)}, {"kind": ["law", "other", "lost"]})


def claim(**changes):
    parts = {
        "ids": ("T-1",),
        "statement": "x is one",
        "source": "nowhere",
        "label": "unconfirmed",
        "measure": lambda chosen: bootstrap(chosen["x"].to_numpy()),
        "prediction": Equals(1.0, 0.1),
        "at": {"kind": "law"},
        "control": {"kind": "other"},
        "control_reason": "x is two there",
        "tolerance_reason": "far from two",
    }
    return Claim(**{**parts, **changes})


def test_a_claim_agrees_and_its_control_is_rejected():
    finding = verify(claim(), data(), "study")
    assert (finding.verdict, finding.control) == ("agrees", "rejected")
    assert finding.good
    assert finding.record()["ids"] == ["T-1"]
    assert finding.control_measured == pytest.approx(2.005)


def test_a_control_that_passes_breaks_the_claim():
    finding = verify(claim(control={"kind": "law"}), data())
    assert (finding.verdict, finding.control) == ("agrees", "passed")
    assert not finding.good


def test_a_control_that_cannot_be_measured_is_not_rejected():
    finding = verify(claim(control={"kind": "lost"}), data())
    assert finding.control == "passed"
    assert finding.doubts == ("control: 5 of 5 runs are not finite",)


def few(*values):
    return Estimate(np.array(values), np.array(values) - 0.1, np.array(values) + 0.1)


@pytest.mark.parametrize(
    ("prediction", "estimate", "told"),
    [
        (Ordering("increasing"), few(1.0), "an ordering needs at least two values"),
        (Ordering("decreasing"), Estimate(1.0, 0.9, 1.1), "an ordering needs at least two values"),
        (Ordering("increasing"), few(), "nothing was measured"),
        (AtMost(1.0), few(), "nothing was measured"),
        (Equals(1.0, 0.1), few(), "nothing was measured"),
        (MatchesCurve(np.ones(1), 0.1), few(), "nothing was measured"),
    ],
)
def test_with_nothing_to_compare_no_claim_agrees_and_no_control_is_rejected(prediction, estimate, told):
    assert judge(prediction, estimate, NONE) == "inconclusive"
    finding = verify(claim(prediction=prediction, measure=lambda chosen: estimate), data())
    assert (finding.verdict, finding.control, finding.control_cells[0]) == ("inconclusive", "passed", 0)
    assert finding.doubts == (told, f"control: {told}")
    assert not finding.good


def test_cells_that_cannot_be_chosen_are_reported_not_raised():
    finding = verify(claim(at={"kind": {"law": 1}}), data())
    assert finding.doubts == ("the results hold no kind={'law': 1}; values: law, other, lost",)
    assert verify(claim(at={"run_seed": 7}), data()).verdict == "inconclusive"


def test_missing_cells_and_failing_measurements_are_reported_not_raised():
    missing = verify(claim(at={"kind": "absent"}), data())
    assert missing.verdict == "inconclusive"
    assert missing.doubts == ("the results hold no kind=absent; values: law, other, lost",)
    assert (
        verify(claim(at={"knd": "law"}), data())
        .doubts[0]
        .startswith("the results have no axis 'knd'; axes: ")
    )
    failing = verify(claim(measure=lambda chosen: 1 / 0), data())
    assert failing.verdict == "inconclusive"
    assert "ZeroDivisionError" in failing.doubts[0]
    assert failing.record()["measured"] is None
    plain = verify(claim(measure=lambda chosen: float(chosen["x"].mean())), data())
    assert plain.verdict == "inconclusive"
    assert plain.doubts[0].startswith("measure must return a theory_sim.Estimate")
    assert plain.doubts[0].endswith("got float")


def test_of_many_numbers_one_alone_refutes_only_by_an_interval_that_holds_with_all_others():
    # One in twenty of such intervals misses its band by chance: none refutes by itself, a farther one does.
    twenty = np.where(np.arange(20) == 7, 1.2, 1.0)
    assert (
        judge(Equals(1.0, 0.1), Estimate(twenty[7:8], twenty[7:8] - 0.09, twenty[7:8] + 0.09), NONE)
        == "disagrees"
    )
    assert judge(Equals(1.0, 0.1), Estimate(twenty, twenty - 0.09, twenty + 0.09), NONE) == "inconclusive"
    assert judge(Equals(1.0, 0.1), Estimate(twenty, twenty - 0.06, twenty + 0.06), NONE) == "disagrees"


@pytest.mark.parametrize("seeds", [6, 8, 16])
def test_twenty_numbers_on_the_edge_of_the_band_are_seldom_refuted(seeds):
    # Each by its own interval would refute in a third of cases and more, at 2.5% each.
    rng, verdicts = np.random.default_rng(0), []
    cells = xr.Dataset({"complete": (("x", "problem_seed"), np.ones((20, seeds), bool))})
    for _ in range(200):
        found = bootstrap(1.1 + rng.normal(size=(seeds, 20)))
        verdicts.append(judge(AtMost(1.1), found, cells))
    assert verdicts.count("disagrees") <= 0.08 * 200
    assert judge(AtMost(1.1), bootstrap(3.1 + 0.1 * rng.normal(size=(seeds, 20))), cells) == "disagrees"


def test_of_many_the_one_that_is_outside_by_itself_is_told():
    values = xr.Dataset(
        {"x": (("problem_seed", "kind", "y"), np.random.default_rng(1).normal(size=(8, 2, 20)))},
        {"kind": ["law", "other"]},
    )
    values["x"][:, 1] += 10
    values["x"][:, 0, 3] += 0.25 + 0.3
    values["complete"] = (("problem_seed", "kind"), np.ones((8, 2), bool))
    finding = verify(
        claim(prediction=AtMost(0.0), measure=lambda d: bootstrap(d["x"].to_numpy() / 3)), values
    )
    assert (finding.verdict, finding.control) == ("inconclusive", "rejected")


def test_a_level_that_is_never_reached_is_judged():
    never = Estimate(np.full(3, np.inf), np.full(3, np.inf), np.full(3, np.inf))
    assert judge(AtLeast(1.0), never, NONE) == "agrees"
    assert judge(AtMost(1.0), never, NONE) == "disagrees"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ()}, "at least one id"),
        ({"label": "guess"}, "label must be one of"),
        ({"label": "derived"}, "needs its derivation"),
        ({"control": {}}, "needs a control"),
        ({"control_reason": ""}, "needs a control_reason"),
        ({"tolerance_reason": ""}, "needs its tolerance_reason"),
        ({"prediction": Equals(1.0, -0.1)}, "tolerance must be at least 0"),
        ({"prediction": 1.0}, "prediction must be Equals"),
        ({"prediction": Ordering("up")}, "increasing"),
        ({"at": ["law"]}, r"T-1: at must be a dict from axes to values, got \['law'\]"),
        ({"control": [("kind", "other")]}, "T-1: control must be a dict from axes to values"),
    ],
)
def test_an_incomplete_claim_is_refused(changes, message):
    with pytest.raises(RequestError, match=message):
        claim(**changes)
