from theory_sim.bench.margins import seconds


def test_instances_are_timed_and_solved():
    compiling, solving, gap = seconds("frobenius", instances=4)
    assert compiling > 0
    assert solving > 0
    assert gap < 1e-8
