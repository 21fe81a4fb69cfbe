"""CIFAR-10: small photographs of 10 classes."""

from __future__ import annotations

from functools import partial

from hpcsgd.data.cifar import read_binary, read_python, read_split
from hpcsgd.data.published import Layout
from hpcsgd.data.sets.files import FileSet

_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_BINARY = partial(read_split, read=partial(read_binary, num_label_bytes=1))
_PYTHON = partial(read_split, read=partial(read_python, label_key="labels"))

CIFAR10 = FileSet(
    name="cifar10",
    num_classes=10,
    sizes=(50000, 10000),
    layouts=(
        Layout(
            _BINARY,
            ("cifar-10-batches-bin",),
            tuple(f"{name}.bin" for name in _BATCHES),
            ("test_batch.bin",),
            has_counts=False,
        ),
        Layout(_PYTHON, ("cifar-10-batches-py",), _BATCHES, ("test_batch",)),
    ),
    addresses=("https://www.cs.toronto.edu/~kriz/",),
    downloads={"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
)
