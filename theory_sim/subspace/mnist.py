"""MNIST from a folder that holds its four original files, checked before they are used.

The package ships no images. Download `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz`,
`t10k-images-idx3-ubyte.gz` and `t10k-labels-idx1-ubyte.gz` into one folder from a public mirror,
https://storage.googleapis.com/cvdf-datasets/mnist/ or https://ossci-datasets.s3.amazonaws.com/mnist/, and name the
folder, compressed files or not, by `theory-sim run ... --data DIR` or by the environment variable THEORY_SIM_DATA.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from theory_sim.subspace.datasets import Dataset

VARIABLE = "THEORY_SIM_DATA"
MIRROR = "https://storage.googleapis.com/cvdf-datasets/mnist/"
CHECKSUMS: Mapping[str, str] = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Names of the four files and the MD5 of what they hold uncompressed."""


def mnist(
    directory: str | os.PathLike | None = None,
    *,
    held_out: int = 10_000,
    checksums: Mapping[str, str] | None = CHECKSUMS,
) -> Dataset:
    """Return MNIST as bytes [count, 28, 28] with labels 0..9: 50,000 images to train on and 10,000 to test.

    `directory` holds the four files under their published names, compressed (.gz) or not; None means the one that
    THEORY_SIM_DATA names. The last `held_out` training images are left out, as in arXiv:1804.08838 (SU-A1-I1; which
    ones is not published). `subspace_training` reads bytes as grey levels in [0, 1]; there is no standardisation.
    `checksums` None accepts other data in the same format. Raises ValueError, in one line, for a missing folder or
    file, content that is truncated, corrupt or not of that format, a checksum that differs, and labels above 9.
    """
    folder = _folder(directory)
    if not isinstance(held_out, int) or held_out < 0:
        raise ValueError(f"held_out must be a whole number of at least 0, got {held_out!r}")
    train_x, train_y, test_x, test_y = (_array(folder, name, checksums) for name in CHECKSUMS)
    for (name, x), y in zip((("training", train_x), ("test", test_x)), (train_y, test_y), strict=True):
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y) or not len(x):
            raise ValueError(f"{folder}: {name} images {x.shape} and labels {y.shape} do not belong together")
        if y.max() > 9:
            raise ValueError(f"{folder}: {name} labels must lie in 0 .. 9, got a label {y.max()}")
    if held_out >= len(train_y):
        raise ValueError(f"held_out must leave some of {len(train_y)} training images, got {held_out}")
    kept = len(train_y) - held_out
    return Dataset(train_x[:kept], train_y[:kept].astype(np.int32), test_x, test_y.astype(np.int32))


def missing_mnist() -> str | None:
    """Return None where THEORY_SIM_DATA names a folder, and else one line that says how to obtain the files."""
    if os.environ.get(VARIABLE):
        return None
    return f"needs MNIST: download its four files from {MIRROR} to a folder and name that by --data DIR or {VARIABLE}"


def read_idx(path: Path, checksum: str | None = None) -> UInt8[np.ndarray, "..."]:
    """Return the array of bytes that an IDX file holds, uncompressed first if its name ends in .gz.

    Format: two zero bytes, the type (8: bytes), the number of axes, their lengths as big-endian 32-bit numbers, the
    values. Raises ValueError when the file cannot be read as that or has another MD5 than `checksum`.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read, it may be truncated or corrupt: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an IDX file of bytes, it begins with 0x{content[:4].hex()}")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"{path}: truncated, {len(content)} bytes do not hold its header")
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    if len(content) - start != int(np.prod(shape, dtype=object)):
        raise ValueError(f"{path}: truncated or corrupt, {len(content) - start} bytes for the shape {shape}")
    if checksum is not None and (found := hashlib.md5(content).hexdigest()) != checksum:
        raise ValueError(f"{path}: corrupt or another file, its content has the MD5 {found}, not {checksum}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _folder(directory: str | os.PathLike | None) -> Path:
    named = directory if directory is not None else os.environ.get(VARIABLE)
    if not named:
        raise ValueError(f"no folder of MNIST's files is named: give one, or set {VARIABLE}; see {MIRROR}")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: it should hold MNIST's four files from {MIRROR}")
    return folder


def _array(folder: Path, name: str, checksums: Mapping[str, str] | None) -> UInt8[np.ndarray, "..."]:
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise ValueError(f"{folder} holds neither {name} nor {name}.gz; MNIST's files are at {MIRROR}")
    return read_idx(path, None if checksums is None else checksums.get(name))
