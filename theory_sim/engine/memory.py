"""How much memory a program takes, and how much there is."""

import math
import os
from pathlib import Path
from typing import Any


def program_bytes(compiled: Any) -> int:
    """Return the bytes that a compiled program takes on one device: its temporaries, arguments and outputs."""
    memory = compiled.memory_analysis()
    if memory is None:
        return 0
    return memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes


def free_memory(device: Any) -> int:
    """Return the free memory of a device in bytes; for a CPU that of the machine or of its container."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    try:
        with open("/proc/meminfo") as lines:
            available = next(line for line in lines if line.startswith("MemAvailable"))
        free = int(available.split()[1]) * 1024
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return int(min(free, _allowed_memory(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))))


def _allowed_memory(mount: Path, membership: Path) -> float:
    """Return what the control groups (version 2) of this process leave of their limits; infinity without any."""
    left = math.inf
    try:
        own = next(line[3:] for line in membership.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return left
    group = mount / own.strip("/")
    for folder in (group, *group.parents):
        try:
            limit = (folder / "memory.max").read_text().strip()
            used = int((folder / "memory.current").read_text())
            kept = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            if limit != "max":  # cached files are given up on demand
                left = min(left, int(limit) - used + int(kept.get("inactive_file", 0)))
        except (OSError, ValueError):
            continue
    return left
