"""Small data sets in the published formats, and a web that is a dictionary."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcsgd.cli import main
from tests.single.data.image_files import make_folders


def idx_bytes(array: np.ndarray) -> bytes:
    """``array`` of uint8 as an IDX file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def idx_files() -> dict[str, bytes]:
    """The four files of a data set of 60 training and 20 test images of 6x5 pixels."""
    generator = np.random.default_rng(1)
    files = {}
    for split, num in (("train", 60), ("t10k", 20)):
        images = generator.integers(0, 256, (num, 6, 5), dtype=np.uint8)
        files[f"{split}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{split}-labels-idx1-ubyte"] = idx_bytes((np.arange(num) % 10).astype(np.uint8))
    return files


@pytest.fixture
def write_files() -> Callable[[Path, dict[str, bytes]], Path]:
    """A function that writes files by name into a folder, and returns the folder."""

    def write(folder: Path, files: dict[str, bytes]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    return write


@pytest.fixture
def cifar10_files() -> dict[str, bytes]:
    """CIFAR-10's binary version with 4 samples a file: label and pixels of sample i of file f follow from 4 f + i."""
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    files = {}
    for number, name in enumerate(names):
        samples = np.arange(4 * number, 4 * number + 4)
        records = np.empty((4, 3073), np.uint8)
        records[:, 0] = samples % 10
        records[:, 1:] = (samples[:, np.newaxis] * 7 + np.arange(3072)) % 251
        files[name] = records.tobytes()
    return files


class Response(io.BytesIO):
    """What ``open_url`` gives: bytes and headers."""

    def __init__(self, content: bytes, length: int) -> None:
        super().__init__(content)
        self.headers = Message()
        self.headers["Content-Length"] = str(length)


@pytest.fixture
def fake_web() -> Callable[[dict[str, bytes]], Callable[[str], AbstractContextManager[Any]]]:
    """A function that makes an opener of the addresses in a dictionary; other addresses fail.

    Content that ends in ``b"<cut>"`` breaks off there: its length is announced one byte longer.
    """

    def make(pages: dict[str, bytes]) -> Callable[[str], AbstractContextManager[Any]]:
        def opener(url: str) -> AbstractContextManager[Any]:
            if url not in pages:
                raise OSError(f"no such page {url}")
            content = pages[url]
            return Response(content, len(content) + content.endswith(b"<cut>"))

        return opener

    return make


@pytest.fixture
def packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A pack of such images."""
    target = tmp_path / "out.h5"
    assert main(["data", "pack", str(make_folders(tmp_path / "images")), str(target), "--size", "16"]) == 0
    assert "24 training and 6 test images of 2 classes" in capsys.readouterr().out
    return target
