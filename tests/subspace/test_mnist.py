"""MNIST's format from tiny files: read whole, and refused in one line when they are not what they should be."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from theory_sim.subspace import missing_mnist, mnist
from theory_sim.subspace.mnist import CHECKSUMS, VARIABLE, read_idx

NAMES = list(CHECKSUMS)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder, arrays, compressed=()):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        content = idx(array)
        if name in compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def arrays():
    draw = np.random.default_rng(0)
    counts = (30, 30, 8, 8)
    return {
        name: draw.integers(10 if "labels" in name else 256, size=count, dtype=np.uint8)
        if "labels" in name
        else draw.integers(256, size=(count, 4, 4), dtype=np.uint8)
        for name, count in zip(NAMES, counts, strict=True)
    }


@pytest.mark.parametrize("compressed", [(), NAMES, NAMES[1:3]])
def test_files_are_read_whole_compressed_or_not(tmp_path, arrays, compressed):
    data = mnist(write(tmp_path, arrays, compressed), held_out=10, checksums=None)
    np.testing.assert_array_equal(data.train_x, arrays[NAMES[0]][:20])
    np.testing.assert_array_equal(data.train_y, arrays[NAMES[1]][:20])
    np.testing.assert_array_equal(data.test_x, arrays[NAMES[2]])
    np.testing.assert_array_equal(data.test_y, arrays[NAMES[3]])
    assert data.train_x.dtype == np.uint8
    assert np.issubdtype(data.train_y.dtype, np.signedinteger)


def test_checksums_are_those_of_the_content(tmp_path, arrays):
    sums = {name: hashlib.md5(idx(array)).hexdigest() for name, array in arrays.items()}
    folder = write(tmp_path, arrays, NAMES[:1])
    assert len(mnist(folder, held_out=0, checksums=sums).train_y) == 30
    with pytest.raises(
        ValueError, match=r"train-images-idx3-ubyte\.gz: corrupt or another file, .* not 6bbc9ace"
    ):
        mnist(folder, held_out=0)


def test_the_folder_comes_from_the_environment(tmp_path, arrays, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert "download its four files" in missing_mnist()
    with pytest.raises(ValueError, match="no folder of MNIST's files is named"):
        mnist()
    monkeypatch.setenv(VARIABLE, str(write(tmp_path, arrays)))
    assert missing_mnist() is None
    assert len(mnist(held_out=1, checksums=None).train_y) == 29


def refused(folder, message, **options):
    with pytest.raises(ValueError, match=message) as caught:
        mnist(folder, **{"held_out": 1, "checksums": None, **options})
    assert "\n" not in str(caught.value)


def test_folders_and_files_that_are_missing_are_named(tmp_path, arrays):
    refused(tmp_path / "nowhere", "there is no folder .*nowhere")
    arrays.pop(NAMES[3])
    refused(write(tmp_path, arrays), "holds neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda good: good[:-3], "truncated or corrupt, 477 bytes for the shape"),
        (lambda good: good + b"x", "truncated or corrupt, 481 bytes"),
        (lambda good: good[:7], "truncated, 7 bytes do not hold its header"),
        (lambda good: b"", "not an IDX file of bytes, it begins with 0x$"),
        (lambda good: b"\x00\x00\x0d" + good[3:], "not an IDX file of bytes, it begins with 0x00000d03"),
        (lambda good: b"<html>", "begins with 0x3c68746d"),
    ],
)
def test_content_of_another_format_is_refused(tmp_path, arrays, content, message):
    path = write(tmp_path, arrays) / NAMES[0]
    path.write_bytes(content(path.read_bytes()))
    refused(tmp_path, message)


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-20], lambda raw: b"no" + raw[2:], lambda raw: raw[:40] + b"\xff\xff\xff" + raw[43:]],
)
def test_a_damaged_archive_is_refused(tmp_path, arrays, damage):
    path = write(tmp_path, arrays, NAMES[:1]) / f"{NAMES[0]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    refused(tmp_path, r"train-images-idx3-ubyte\.gz: cannot be read, it may be truncated or corrupt")


def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays):
    refused(
        write(tmp_path, {**arrays, NAMES[1]: arrays[NAMES[1]][:5]}),
        "training images .30, 4, 4. and labels .5,. do not",
    )
    refused(
        write(tmp_path, {**arrays, NAMES[1]: arrays[NAMES[1]] + 7}),
        r"training labels must lie in 0 .. 9, got a label 16",
    )
    refused(write(tmp_path, {**arrays, NAMES[3]: arrays[NAMES[2]]}), "do not belong together")
    refused(write(tmp_path, arrays), "held_out must leave some of 30 training images, got 30", held_out=30)
    refused(tmp_path, "held_out must be a whole number of at least 0, got -1", held_out=-1)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_idx(tmp_path)
