import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from theory_sim.engine.memory import _allowed_memory
from theory_sim.engine.plan import MAX_RUNS, Sizes, choose_sizes, cut, halve

masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 12)))
sizes = st.builds(lambda p, r, t: Sizes(p * t, r, t), st.integers(1, 3), st.integers(1, 7), st.integers(1, 3))


def covered(blocks, shape):
    count = np.zeros(shape, dtype=int)
    for block in blocks:
        p, r = np.nonzero(block.valid)
        np.add.at(count, (block.problems[p], block.runs[p, r]), 1)
    return count


@given(masks, sizes)
def test_blocks_hold_every_wanted_cell_once_and_no_other(wanted, size):
    blocks = list(cut(wanted, np.zeros_like(wanted), size))
    np.testing.assert_array_equal(covered(blocks, wanted.shape), wanted)
    for block in blocks:
        assert block.valid.shape[0] <= size.problems
        assert block.valid.shape[1] == size.runs
        assert wanted[block.problems[:, None], block.runs].all(), "padding must repeat a wanted run"


@given(masks, sizes, st.data())
def test_what_is_done_is_not_done_again(wanted, size, data):
    done = data.draw(arrays(bool, wanted.shape))
    left = covered(cut(wanted, done, size), wanted.shape)
    np.testing.assert_array_equal(left, wanted & ~done)


@given(masks, sizes, st.randoms())
def test_a_resumed_sweep_runs_the_blocks_of_an_uninterrupted_one(wanted, size, random):
    fresh = list(cut(wanted, np.zeros_like(wanted), size))
    finished = [block for block in fresh if random.random() < 0.5]
    resumed = list(cut(wanted, covered(finished, wanted.shape) > 0, size))
    rest = [block for block in fresh if not any(block is other for other in finished)]
    assert len(resumed) == len(rest)
    for a, b in zip(resumed, rest, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@given(
    st.integers(1, 50),
    st.integers(1, 5000),
    st.integers(1, 10**7),
    st.floats(1, 1e13),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1.0, 0.5, 0.01]),
    st.integers(0, 10),
)
def test_sizes_are_consistent(problems, runs, state_bytes, run_flops, devices, share, seed):
    wanted = np.random.default_rng(seed).random((problems, runs)) < share
    for platform in ("cpu", "gpu", "tpu"):
        size = choose_sizes(
            wanted,
            state_bytes=state_bytes,
            problem_bytes=state_bytes // 3,
            run_flops=run_flops,
            platform=platform,
            devices=devices,
        )
        assert size.problems % size.together == 0
        assert size.cells <= 2 * MAX_RUNS
        # Either the runs or the problems side by side divide among the devices.
        assert size.runs % devices == 0 or size.together % devices == 0


@pytest.mark.parametrize("devices", [1, 2])
def test_problems_with_few_runs_are_not_filled_up_to_those_with_many(devices):
    wanted = np.zeros((20, 10), dtype=bool)
    wanted[0], wanted[1:5, :5], wanted[5:, 0] = True, True, True
    size = choose_sizes(
        wanted, state_bytes=8, problem_bytes=0, run_flops=1.0, platform="cpu", devices=devices
    )
    blocks = cut(wanted, np.zeros_like(wanted), size)
    assert sum(block.valid.size for block in blocks) < 1.6 * wanted.sum()
    whole = np.ones((20, 10), dtype=bool)
    size = choose_sizes(whole, state_bytes=8, problem_bytes=0, run_flops=1.0, platform="cpu", devices=devices)
    assert size.runs == 10


def test_rows_of_one_run_are_not_filled_up_for_the_sake_of_a_few_of_two():
    wanted = np.ones((3000, 2), dtype=bool)
    wanted[400:, 1] = False
    size = choose_sizes(wanted, state_bytes=800, problem_bytes=0, run_flops=1e6, platform="cpu", devices=2)
    blocks = list(cut(wanted, np.zeros_like(wanted), size))
    assert sum(block.valid.size for block in blocks) < 1.05 * wanted.sum()
    assert size.together % 2 == 0


@pytest.mark.parametrize(("problem_bytes", "together"), [(0, 2000), (8_000, 256), (10_000_000, 256)])
def test_problems_that_do_not_fit_the_cache_are_taken_a_few_at_a_time(problem_bytes, together):
    wanted = np.ones((2000, 1), dtype=bool)
    size = choose_sizes(
        wanted, state_bytes=800, problem_bytes=problem_bytes, run_flops=1e3, platform="cpu", devices=1
    )
    assert together / 2 < size.together <= together
    assert size.problems >= 2000
    shared = np.ones((10, 400), dtype=bool)
    size = choose_sizes(
        shared, state_bytes=800, problem_bytes=problem_bytes, run_flops=1e3, platform="cpu", devices=1
    )
    assert size.runs == 400


@given(sizes.filter(lambda s: s.cells > 1))
def test_halving_ends_at_one_run(size):
    seen = [size]
    while (smaller := halve(seen[-1], 1)) is not None:
        assert smaller.cells < seen[-1].cells
        assert smaller.problems % smaller.together == 0
        seen.append(smaller)
    assert seen[-1].cells == 1


def test_a_cheap_simulation_gets_wide_blocks_and_a_heavy_one_short_ones():
    wanted = np.ones((1000, 1000), dtype=bool)
    cheap = choose_sizes(wanted, state_bytes=8, problem_bytes=0, run_flops=3e3, platform="cpu", devices=1)
    heavy = choose_sizes(wanted, state_bytes=8, problem_bytes=0, run_flops=1e10, platform="cpu", devices=1)
    assert cheap.cells == pytest.approx(MAX_RUNS, rel=0.1)
    assert heavy.cells <= 1000


def test_the_limit_of_a_container_counts(tmp_path):
    membership = tmp_path / "cgroup"
    membership.write_text("0::/jobs/one\n")
    inner = tmp_path / "jobs" / "one"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max"), (inner.parent, "1000")):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("400")
        (folder / "memory.stat").write_text("anon 200\ninactive_file 50\n")
    assert _allowed_memory(tmp_path, membership) == 650
    (inner.parent / "memory.max").write_text("max")
    assert _allowed_memory(tmp_path, membership) == np.inf
    assert _allowed_memory(tmp_path, tmp_path / "absent") == np.inf
