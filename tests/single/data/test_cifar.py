"""CIFAR files in both published versions, and pickles that must not be believed."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcsgd.data.cifar import read_binary, read_python
from hpcsgd.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)


def python2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The pickle that Python 2 wrote for ``{"data": pixels, "labels": labels}``: the form of the real files."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"K" + bytes([len(pixels)]) + b"M" + struct.pack("<H", 3072) + b"\x86"
    raw = b"T" + struct.pack("<I", pixels.size) + pixels.tobytes()
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return (
        b"\x80\x02}(U\x04data" + array + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tbU\x06labels" + numbers + b"u."
    )


def test_binary_version_of_cifar10(tmp_path: Path) -> None:
    path = tmp_path / "batch.bin"
    labels = np.array([[3], [9], [0]], np.uint8)
    path.write_bytes(np.hstack((labels, PIXELS)).tobytes())
    images, found = read_binary(path, 1)
    np.testing.assert_array_equal(images, PIXELS.reshape(3, 3, 32, 32))
    assert found.tolist() == [3, 9, 0]
    assert (images.dtype, found.dtype) == (np.uint8, np.int64)


def test_binary_version_of_cifar100_gives_the_fine_label(tmp_path: Path) -> None:
    path = tmp_path / "train.bin"
    labels = np.array([[1, 33], [2, 99], [3, 0]], np.uint8)
    path.write_bytes(np.hstack((labels, PIXELS)).tobytes())
    images, found = read_binary(path, 2)
    np.testing.assert_array_equal(images, PIXELS.reshape(3, 3, 32, 32))
    assert found.tolist() == [33, 99, 0]


@pytest.mark.parametrize("num_bytes", [0, 3072, 3074, 2 * 3073 - 1])
def test_binary_file_that_is_no_whole_number_of_records(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "batch.bin"
    path.write_bytes(bytes(num_bytes))
    with pytest.raises(UsageError, match=rf"batch\.bin is truncated.*{num_bytes} bytes, expected a multiple of 3073"):
        read_binary(path, 1)


def test_python_version_as_python_2_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(python2_batch(PIXELS, [7, 0, 9]))
    images, labels = read_python(path, "labels")
    np.testing.assert_array_equal(images, PIXELS.reshape(3, 3, 32, 32))
    assert labels.tolist() == [7, 0, 9]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("key", ["fine_labels", b"fine_labels"])
def test_python_version_as_python_3_writes_it(tmp_path: Path, protocol: int, key: str | bytes) -> None:
    path = tmp_path / "train"
    data = "data" if isinstance(key, str) else b"data"
    path.write_bytes(pickle.dumps({data: PIXELS, key: [5, 99, 1], "extra": b"\xff"}, protocol))
    images, labels = read_python(path, "fine_labels")
    np.testing.assert_array_equal(images, PIXELS.reshape(3, 3, 32, 32))
    assert labels.tolist() == [5, 99, 1]


class Command:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    path, witness = tmp_path / "data_batch_1", tmp_path / "witness"
    for function, arguments in ((os.mkdir, (str(witness),)), (eval, (f"open({str(witness)!r}, 'w')",))):
        path.write_bytes(pickle.dumps({"data": PIXELS, "labels": Command(function, *arguments)}))
        with pytest.raises(UsageError, match=f"it asks for .*{function.__name__}"):
            read_python(path, "labels")
        assert not witness.exists()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"data": PIXELS}, "no entries data and labels: it has .'data'."),
        ({"data": PIXELS[:, :-1], "labels": [1, 2, 3]}, r"data is uint8 \(3, 3071\), expected uint8 \(N, 3072\)"),
        ({"data": PIXELS.astype(np.int32), "labels": [1, 2, 3]}, "data is int32"),
        ({"data": PIXELS, "labels": [1, 2]}, "3 images, but labels is int64"),
        ({"data": PIXELS, "labels": ["a", "b", "c"]}, "batch: labels are <U1: classes are whole numbers"),
        ([PIXELS], "holds a list, expected a dictionary"),
    ],
)
def test_python_file_with_wrong_entries(tmp_path: Path, table: object, words: str) -> None:
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(table, 4))
    with pytest.raises(UsageError, match=words):
        read_python(path, "labels")


@pytest.mark.parametrize("num_bytes", [0, 1, 40, 200, 9000])
def test_truncated_python_file(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "batch"
    path.write_bytes(python2_batch(PIXELS, [7, 0, 9])[:num_bytes])
    with pytest.raises(UsageError, match="batch is not a CIFAR batch in the Python version, or truncated"):
        read_python(path, "labels")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<html>not found</html>", "a web page"),
        (b"PK\x03\x04....", "a zip archive"),
        (pickle.dumps({"data": 1}, 2), "a pickle"),
    ],
)
def test_what_is_there_in_its_place_is_said(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"expected a multiple of 3073: it is {what}"):
        read_binary(path, 1)
