"""The ledger in Markdown and the explanation of a claim."""

import numpy as np
import xarray as xr

from theory_sim import Claim, Equals, bootstrap, report, verify

DATA = xr.Dataset(
    {"y": (("x", "seed"), np.array([[1.0, 2.0]]).T + np.linspace(-0.01, 0.01, 5))}, {"x": [1, 2]}
)


def claim(value, remark=""):
    return Claim(
        ids="T-1",
        statement="y is | what it is",
        source="derived",
        label="paper",
        measure=lambda data: bootstrap(data["y"].to_numpy()),
        prediction=Equals(value, 0.1),
        at={"x": 1},
        control={"x": 2},
        control_reason="y is 2 there",
        tolerance_reason="a tenth",
        remark=remark,
    )


def test_a_row_of_the_ledger_stays_one_row_whatever_its_texts_hold():
    text = report.ledger_markdown([verify(claim(3.0, "two lines\n  and a | bar"), DATA, "bad")])
    rows = [line for line in text.splitlines() if line.startswith("| T-1")]
    assert [row.replace("\\|", "").count("|") for row in rows] == [9, 8]
    assert "two lines and a \\| bar" in text


def test_the_ledger_opens_with_what_does_not_agree_and_what_is_known_of_why():
    findings = [verify(claim(1.0), DATA, "good"), verify(claim(3.0, "y is one third"), DATA, "bad")]
    assert [finding.verdict for finding in findings] == ["agrees", "disagrees"]
    text = report.ledger_markdown(findings)
    head, _, folded = text.partition("</details>")
    assert "what is known of why" in head
    assert "y is one third" in head
    assert "y is one third" not in folded
    assert folded.count("<summary>") == 2
    for row in text.splitlines():
        if row.startswith("|"):
            # A bar within a cell would open another column.
            assert row.replace("\\|", "").count("|") == (9 if row in head.splitlines() else 8)


def test_a_claim_explains_itself_with_its_remark():
    told = claim(3.0, "y is one third")
    words = report.explain(told, verify(told, DATA, "bad"))
    assert "remark      y is one third" in words
    assert "verdict     disagrees" in words
    assert "not measured yet" in report.explain(told, None)
