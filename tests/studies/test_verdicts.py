"""The verdicts of three studies at the size of the ledger: what an error in a formula or an estimate would change."""

from collections import Counter
from pathlib import Path

import pytest

from theory_sim import open_results, run, verify
from theory_sim.study import load_study

SWEEPS = Path(__file__).parents[2] / "sweeps"
AGREE = {"sensing_sign_field": 4, "attention_quadratic_head": 5, "attention_prompt_start": 3}


@pytest.mark.parametrize("name", AGREE)
def test_the_verdicts_of_the_ledger_are_found_again(name, tmp_path):
    study = load_study(str(SWEEPS / f"{name}.py"))
    run(study.sweep.with_preset("quick"), tmp_path / name, name=name, study=study.path)
    findings = [verify(claim, open_results(tmp_path / name), name) for claim in study.claims]
    assert Counter(finding.verdict for finding in findings) == {"agrees": AGREE[name]}
    assert {finding.control for finding in findings} == {"rejected"}
