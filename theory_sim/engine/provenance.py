"""Where a result comes from: versions, commit, devices, precision, source digest."""

import datetime
import hashlib
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jaxlib

PACKAGE = Path(__file__).resolve().parents[1]


def provenance(precision: str) -> dict[str, Any]:
    """Return all that a reader needs to know to compute a result again; numbers and strings only."""
    devices = jax.local_devices()
    return {
        "theory_sim": version("theory_sim"),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "python": platform.python_version(),
        **_git(),
        "source_digest": source_digest(),
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "precision": precision,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Return a digest of the package's source files."""
    sha = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        sha.update(str(file.relative_to(PACKAGE)).encode() + file.read_bytes())
    return sha.hexdigest()[:16]


@lru_cache(maxsize=1)
def _git() -> dict[str, Any]:
    def ask(*words: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", "-C", str(PACKAGE), *words], check=False, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    # The package may be installed inside someone else's repository: its own files must be tracked there.
    if not commit or not ask("ls-files", "--", "__init__.py"):
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    return {
        "git_commit": commit,
        "git_dirty": "yes" if ask("status", "--porcelain", "--", str(PACKAGE)) else "no",
    }
