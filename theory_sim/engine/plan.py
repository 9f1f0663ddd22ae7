"""Cut the cells of one shape into blocks: the unit of work, of storage and of distribution.

A block holds a few problems and, for each, a few runs, which share one copy of the problem. A problem with more
runs than a block takes of one is cut into pieces, each with a copy of its own. The cut depends on the wanted cells
and on the sizes alone, so that a resumed sweep runs the very blocks that an uninterrupted one would have run, and
gives the same bits.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

STATE_BYTES = 2**21
"""Runs advance together while their states fit a core's cache; a wider batch streams from memory."""

NARROWEST = 256
"""Runs that advance together also where their problems, each with an array or more of its own, do not fit the cache:
fewer would be bound by the overhead of small operations."""

MAX_RUNS = 2**16
"""Runs in one block at most: enough to hide the cost of a file, few enough to lose little in a crash."""

BLOCK_FLOPS = {"cpu": 3e11, "gpu": 3e13, "cuda": 3e13, "rocm": 3e13, "tpu": 3e13}
"""Work in one block: about ten seconds, so that a killed sweep loses about that."""


LONG_FLOPS = 2e11
"""Work of one shape from which on its program is compiled with care: tens of seconds, of which a tenth may be won."""

PIECE_COST = 2
"""What a problem costs each piece of its runs on a CPU, in runs: to draw a data set takes as long as a run or two."""


class Sizes(NamedTuple):
    """Static sizes of one shape's program: `problems x runs` a block, `together` problems side by side.

    A problem with more than `runs` runs is cut into pieces, each of which counts as a problem. A `careful` program is
    made to run fast, another to be compiled fast: kept with the sizes, for it may change last bits, as they do.
    """

    problems: int
    runs: int
    together: int
    careful: bool = False

    @property
    def cells(self) -> int:
        """Runs in one block."""
        return self.problems * self.runs


class Block(NamedTuple):
    """Cells to compute in one call: indices into the problems and runs of a shape, padding marked invalid."""

    problems: Int[np.ndarray, "p"]
    runs: Int[np.ndarray, "p r"]
    valid: Bool[np.ndarray, "p r"]


def choose_sizes(
    wanted: Bool[np.ndarray, "p r"],
    *,
    state_bytes: int,
    problem_bytes: int,
    run_flops: float,
    platform: str,
    devices: int,
) -> Sizes:
    """Return block sizes from the sizes of one state and of one problem and the work of one run.

    `runs` is as many runs of one problem as advance together at cache speed, or, on a CPU, fewer where problems
    have different numbers of them, so that little is filled up; short rows of runs are filled up with further
    problems (`together`), and a block takes as many of such batches as ten seconds of work allow.
    On accelerators width is limited by memory alone, which the compiled program tells. The program is `careful` where
    all wanted runs are long enough.
    """
    lengths = wanted.sum(axis=1)
    lengths = lengths[lengths > 0]
    longest = max(int(lengths.max(initial=0)), 1)
    width = max(64, STATE_BYTES // max(state_bytes, 1)) if platform == "cpu" else MAX_RUNS
    affordable = int(BLOCK_FLOPS.get(platform, 3e11) / max(run_flops, 1.0))
    width = min(width, MAX_RUNS, max(64, affordable))
    even = _even_share(longest, width)
    if devices > 1 and even >= devices:
        even = _round_up(even, devices)
    runs = _cheapest(lengths, even, devices) if platform == "cpu" else even
    rows = int(np.sum(-(-lengths // runs)))
    if platform == "cpu":
        fitting = STATE_BYTES * runs // max(state_bytes * runs + problem_bytes, 1)
        width = min(width, max(NARROWEST, fitting))
    together = _even_share(rows, max(1, width // runs))
    if devices > 1 and runs % devices:
        together = _round_up(together, devices)
    batches = max(1, min(affordable, MAX_RUNS) // (runs * together))
    total = -(-rows // together)
    careful = bool(run_flops * lengths.sum() >= LONG_FLOPS)
    return Sizes(_even_share(total, batches) * together, runs, together, careful)


def _cheapest(lengths: Int[np.ndarray, " rows"], most: int, devices: int) -> int:
    """Return the size of the pieces, up to `most`, in which rows of these lengths cost least, each piece being full.

    A piece is shared by all devices, or, when it is a lone run, one of many. Rows of one length stay whole; so do
    others, unless a tenth is to be gained.
    """
    sizes = np.arange(most, 0, -devices if most % devices == 0 else -1)
    sizes = np.append(sizes, 1) if len(lengths) >= devices and sizes[-1] > 1 else sizes
    different, counts = np.unique(lengths, return_counts=True)
    cost = counts @ -(-different[:, None] // sizes) * (sizes + PIECE_COST)
    best = int(np.argmin(cost))
    return int(sizes[best] if cost[best] < 0.9 * cost[0] else most)


def halve(sizes: Sizes, devices: int) -> Sizes | None:
    """Return sizes that need about half the memory, or None when a block is down to one run a device."""
    if sizes.problems > sizes.together:
        batches = max(1, sizes.problems // sizes.together // 2)
        return sizes._replace(problems=batches * sizes.together)
    if sizes.together > 1:
        together = _round_up(max(1, sizes.together // 2), devices if sizes.runs % devices else 1)
        if together < sizes.together:
            return sizes._replace(problems=together, together=together)
    runs = sizes.runs // 2
    if sizes.runs % devices == 0:
        runs = runs // devices * devices
    return sizes._replace(runs=runs) if runs >= 1 else None


def cut(wanted: Bool[np.ndarray, "p r"], done: Bool[np.ndarray, "p r"], sizes: Sizes) -> Iterator[Block]:
    """Yield the blocks that compute every wanted cell which is not done.

    Blocks none of whose cells are done come as in a fresh sweep; the missing cells of the others, as after an
    axis has grown, are packed together.
    """
    left_over = np.zeros_like(wanted)
    for block in _tiles(wanted, sizes):
        finished = done[block.problems[:, None], block.runs] & block.valid
        if not finished.any():
            yield block
        elif (finished != block.valid).any():
            p, r = np.nonzero(block.valid & ~finished)
            left_over[block.problems[p], block.runs[p, r]] = True
    yield from _tiles(left_over, sizes)


def _tiles(wanted: np.ndarray, sizes: Sizes) -> Iterator[Block]:
    pieces = _pieces(wanted, sizes.runs)
    while group := list(islice(pieces, sizes.problems)):
        valid = np.arange(sizes.runs) < np.array([len(piece) for _, piece in group])[:, None]
        # Padding repeats a real run, so that it can neither fail nor be slower than its neighbours.
        runs = np.stack([np.pad(piece, (0, sizes.runs - len(piece)), mode="edge") for _, piece in group])
        yield Block(np.array([row for row, _ in group]), runs, valid)


def _pieces(wanted: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    for row in np.flatnonzero(wanted.any(axis=1)):
        columns = np.flatnonzero(wanted[row])
        for first in range(0, len(columns), most):
            yield int(row), columns[first : first + most]


def _even_share(total: int, most: int) -> int:
    """Return the size of the pieces when `total` is cut into as few pieces of at most `most` as possible."""
    pieces = -(-total // max(most, 1))
    return max(1, -(-total // max(pieces, 1)))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
