"""Reading IDX files: what is sound is read, what is not is named."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from hpcsgd.data.idx import parse_idx, read_bytes, read_idx
from hpcsgd.errors import UsageError

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 3, 4) + ARRAY.tobytes()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_reads_plain_and_gzipped_files_whatever_their_names(tmp_path: Path, zipped: bool, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(CONTENT) if zipped else CONTENT)
    array = read_idx(path, 3)
    np.testing.assert_array_equal(array, ARRAY)
    assert array.flags.writeable  # torch shares the memory, and warns of read-only arrays


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated: 0 bytes"),
        (CONTENT[:11], "truncated: 11 bytes, its IDX header has 16"),
        (CONTENT[:-1], "truncated: 23 bytes of data, its header says 24"),
        (CONTENT + b"x", "too long: 25 bytes of data, its header says 24"),
        (b"\x00\x00\x08\x01" + CONTENT[4:], "expected, images of unsigned bytes: it is labels of unsigned bytes"),
        (b"\x00\x00\x0d\x03" + CONTENT[4:], "expected, images of unsigned bytes: it is images of 32-bit floats"),
        (b"\x00\x00\x08\x04" + CONTENT[4:], "it is 4 dimensions of unsigned bytes"),
        (b"\x1f\x8b\x08\x00" + CONTENT[4:], "it is a gzip file"),
        (b"\n<!DOCTYPE html>" + CONTENT[4:], "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer, not the file"),
        (b"\x99\x98\x97\x96", "it is of the unknown magic number 0x99989796"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 0, 4), "holds 2 images of 0 x 4 pixels: there is nothing in them"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 0, 28, 0), "holds 0 images of 28 x 0 pixels"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, *(3 * [2**32 - 1])), "truncated: 0 bytes of data, its header says 792281"),
    ],
)
def test_names_what_is_wrong(content: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_idx(bytearray(content), 3, "some/file")
    assert str(caught.value).startswith("some/file ")


def test_names_a_gzip_stream_that_is_cut_or_damaged(tmp_path: Path) -> None:
    zipped = gzip.compress(CONTENT)
    path = tmp_path / "x.gz"
    path.write_bytes(zipped[:-9])
    with pytest.raises(UsageError, match=r"x\.gz is truncated"):
        read_bytes(path)
    damaged = bytearray(zipped)
    damaged[12] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(UsageError, match="not a sound gzip file"):
        read_bytes(path)


def test_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent cannot be read: No such file"):
        read_bytes(tmp_path / "absent")
