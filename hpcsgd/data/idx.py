"""The IDX file format of MNIST and Fashion-MNIST, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcsgd.data.arrays import ArraySplit, labelled
from hpcsgd.data.contents import GZIP, describe
from hpcsgd.errors import UsageError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""As MNIST and Fashion-MNIST are published: the training split and the test split."""

_UBYTE = 0x08
_TYPES = {
    _UBYTE: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}


def read_bytes(path: Path) -> bytearray:
    """The whole content of ``path``, unzipped where it is a gzip file, whatever its name.

    Raises:
        UsageError: the file cannot be read, or its gzip stream is cut short or damaged.
    """
    try:
        content = path.read_bytes()
        return bytearray(gzip.decompress(content) if content.startswith(GZIP) else content)
    except EOFError:
        raise UsageError(f"{path} is truncated: its gzip stream ends early. Fetch it again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{path} is not a sound gzip file ({error}). Fetch it again.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def parse_idx(content: bytearray, num_dims: int, source: str) -> NDArray[np.uint8]:
    """Decode an IDX array of unsigned bytes.

    The header is two zero bytes, a type byte, a byte with the number of dimensions, and each dimension as a
    big-endian 32-bit integer.

    Args:
        content: the file's bytes; the result is a writable view of them.
        num_dims: dimensions that the caller expects: 3 for images, 1 for labels.
        source: the file's name, for messages.

    Returns:
        The array, uint8.

    Raises:
        UsageError: wrong magic number, type or number of dimensions, more or fewer bytes than the header says, or
            images without pixels.
    """
    if len(content) < 4:
        raise UsageError(f"{source} is truncated: {len(content)} bytes, less than an IDX header")
    if content[:4] != bytes((0, 0, _UBYTE, num_dims)):
        raise UsageError(f"{source} is not the IDX file expected, {_name(_UBYTE, num_dims)}: it is {_what_is(content)}")
    offset = 4 + 4 * num_dims
    if len(content) < offset:
        raise UsageError(f"{source} is truncated: {len(content)} bytes, its IDX header has {offset}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", num_dims, 4))
    if 0 in shape[1:]:
        raise UsageError(
            f"{source} holds {shape[0]} images of {shape[1]} x {shape[2]} pixels: there is nothing in them"
        )
    found = len(content) - offset
    if found != math.prod(shape):
        what = "truncated" if found < math.prod(shape) else "too long"
        raise UsageError(f"{source} is {what}: {found} bytes of data, its header says {math.prod(shape)} {shape}")
    return np.frombuffer(content, np.uint8, offset=offset).reshape(shape)


def _name(kind: int, num_dims: int) -> str:
    """An IDX file by its type and its dimensions."""
    what = {1: "labels", 3: "images"}.get(num_dims, f"{num_dims} dimensions")
    return f"{what} of {_TYPES[kind]}"


def _what_is(content: bytearray) -> str:
    """What is there in the place of the IDX file that was expected."""
    if content[:2] == b"\0\0" and content[2] in _TYPES:
        return _name(content[2], content[3])
    return describe(content) or f"of the unknown magic number 0x{content[:4].hex()}"


def read_idx(path: Path, num_dims: int) -> NDArray[np.uint8]:
    """Read an IDX file (see ``parse_idx``)."""
    return parse_idx(read_bytes(path), num_dims, str(path))


def read_split(paths: Sequence[Path]) -> ArraySplit:
    """One split from its two files: images [N, 1, H, W] and labels [N].

    Raises:
        UsageError: a file is unsound, or they contradict each other.
    """
    images_path, labels_path = paths
    images = read_idx(images_path, 3)
    labels = read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise UsageError(f"{images_path} has {len(images)} images, but {labels_path} has {len(labels)} labels")
    return labelled(images[:, np.newaxis], labels.astype(np.int64))
