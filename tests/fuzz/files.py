"""IDX and CIFAR files: cut, flipped, foreign, gzipped or not, with headers that lie."""

from __future__ import annotations

import gzip
import pickle
import shutil
import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.fuzz.case import Case, Command, run_makes, train
from tests.fuzz.damage import INPUT, Damage, damage, files_below, squeezed
from tests.fuzz.sound import idx_bytes

SIZES = (0, 1, 5, 23, 25, 255, 2**16, 2**31, 2**32 - 1)


def lie(rng: Random, path: Path) -> None:
    """A number of an IDX header is another one; a CIFAR file has another label somewhere."""
    content = bytearray(path.read_bytes())
    place = 4 * rng.randrange(4)
    content[place : place + 4] = struct.pack(">I", rng.choice(SIZES))
    path.write_bytes(content)


def other_array(rng: Random, path: Path) -> None:
    """A sound IDX file of another shape."""
    shape = tuple(rng.choice([0, 1, 5, 8, 24]) for _ in range(rng.choice([0, 1, 2, 3, 3, 4])))
    path.write_bytes(idx_bytes(np.full(shape, rng.choice([0, 9, 10, 255]), np.uint8)))


def other_table(rng: Random, path: Path) -> None:
    """A sound pickle of what no CIFAR file holds."""
    data: Any = rng.choice(
        [np.zeros((4, 3072), np.uint8), np.zeros((0, 3072), np.uint8), np.zeros((4, 3071)), [], None]
    )
    labels: Any = rng.choice(
        [[0, 1, 2, 3], [0, 1, 2], [0, 1, 2, 10], [0, 1, 2, -1], [], "abcd", [[0]] * 4, [2**70] * 4]
    )
    labels_key = rng.choice([b"labels", b"labels", "labels", b"fine_labels", 3])
    table = rng.choice([{b"data": data, labels_key: labels}, [data, labels], {1: 2, b"data": 0}, {b"data": data}])
    path.write_bytes(pickle.dumps(table, protocol=rng.choice([0, 2, 5])))


def zipped(rng: Random, path: Path) -> None:
    """Soundly gzipped, as published, or cut after it; now and then the plain file stays beside it."""
    content = gzip.compress(path.read_bytes())
    path.with_name(f"{path.name}.gz").write_bytes(
        content[: rng.choice([len(content), len(content) // 2, len(content) - 3])]
    )
    if rng.random() < 0.7:
        path.unlink()


def make(rng: Random, work: Path, sound: Path) -> Case:
    """Damage one or two of the files of a data set, and train on it."""
    name, folder, own = rng.choice(SETS)
    shutil.copytree(sound / folder, work / "files")
    note = damage(rng, files_below(work / "files"), INPUT + 3 * (lie, zipped, squeezed, *own))
    words = train(data__name=name, data__dir="files")
    return Case(f"{name} of {folder}: {note}", (Command(words, makes=run_makes("run")),))


SETS: tuple[tuple[str, str, tuple[Damage, ...]], ...] = (
    ("mnist", "idx", (other_array,)),
    ("fashion_mnist", "idx", (other_array,)),
    ("cifar10", "cifar/bin", ()),
    ("cifar10", "cifar/py", (other_table, other_table)),
)
