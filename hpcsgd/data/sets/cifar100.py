"""CIFAR-100: small photographs of 100 classes."""

from __future__ import annotations

from functools import partial

from hpcsgd.data.cifar import read_binary, read_python, read_split
from hpcsgd.data.published import Layout
from hpcsgd.data.sets.files import FileSet

# Each record has the label of the superclass first.
_BINARY = partial(read_split, read=partial(read_binary, num_label_bytes=2))
_PYTHON = partial(read_split, read=partial(read_python, label_key="fine_labels"))

CIFAR100 = FileSet(
    name="cifar100",
    num_classes=100,
    sizes=(50000, 10000),
    layouts=(
        Layout(_BINARY, ("cifar-100-binary",), ("train.bin",), ("test.bin",), has_counts=False),
        Layout(_PYTHON, ("cifar-100-python",), ("train",), ("test",)),
    ),
    addresses=("https://www.cs.toronto.edu/~kriz/",),
    downloads={"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
)
