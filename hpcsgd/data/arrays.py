"""The samples of one split, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.data.trees import Tree, leaves, map_tree
from hpcsgd.errors import UsageError

_CHUNK = 1024  # images that are looked at at once


@dataclass(frozen=True)
class ArraySplit:
    """The samples of one split, in memory or on the disk.

    Attributes:
        inputs: tree of arrays or tensors, [N, ...].
        targets: tree of as many, [N, ...].

    Raises:
        UsageError: inputs and targets are not as many.
    """

    inputs: Tree
    targets: Tree

    def __post_init__(self) -> None:
        counts = sorted({_count(leaf) for leaf in leaves((self.inputs, self.targets))})
        if len(counts) > 1:
            raise UsageError(f"inputs and targets are not as many: there are {' and '.join(map(str, counts))}")

    def __len__(self) -> int:
        return len(next(leaves((self.targets, self.inputs))))

    def part(self, samples: slice | NDArray[np.int64]) -> ArraySplit:
        """Those of some samples."""
        return ArraySplit(*(map_tree(lambda leaf: leaf[samples], tree) for tree in (self.inputs, self.targets)))


def labelled(images: NDArray[Any], labels: NDArray[Any]) -> ArraySplit:
    """Images with their labels. Labels of other whole numbers are taken as int64; nothing is rounded.

    Args:
        images: [N, C, H, W], uint8 pixels (float32 where synthetic); of a text, tokens [N, T], int64.
        labels: whole numbers [N]; of a text, the next tokens, [N, T].

    Raises:
        UsageError: images are no real numbers, labels no whole ones or too large, or they are not as many.
    """
    if images.dtype.kind not in "buif":
        raise UsageError(f"images are {images.dtype}: they must be real numbers, as uint8 or float32")
    if len(images) != len(labels):
        raise UsageError(f"there are {len(images)} images, but {len(labels)} labels")
    return ArraySplit(native(images), as_labels(labels))


def native(array: NDArray[Any]) -> NDArray[Any]:
    """An array in the byte order of the machine: torch takes no other."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _count(leaf: Any) -> int:
    """Samples of an array or tensor, which has its samples along the first axis."""
    if not len(leaf.shape):
        raise UsageError("inputs or targets have a single number: they must be arrays [samples, ...]")
    return len(leaf)


def as_labels(values: NDArray[Any], what: str = "labels") -> NDArray[np.int64]:
    """``values`` as int64, if that changes none; ``what`` names them in messages.

    Raises:
        UsageError: they are no whole numbers, or too large.
    """
    if values.dtype.kind not in "bui":
        raise UsageError(f"{what} are {values.dtype}: classes are whole numbers from 0 on, and nothing is cut to them")
    if values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise UsageError(f"{what} go up to {values.max()}, which {values.dtype} holds, but int64 does not")
    return values.astype(np.int64, copy=False)


def check_labels(labels: NDArray[np.int64], num_classes: int, what: str) -> None:
    """Refuse labels that are not from 0 to ``num_classes`` - 1; ``what`` names them in the message."""
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or high >= num_classes:
        raise UsageError(f"{what}: labels go from {low} to {high}, expected 0 to {num_classes - 1}")


def check_exact(images: NDArray[Any], dtype: str) -> None:
    """Refuse images that floating-point type ``dtype`` cannot hold as they are."""
    if not np.can_cast(images.dtype, dtype, "safe"):
        wider = (
            "set dtype: float64, or convert them" if np.can_cast(images.dtype, "float64", "safe") else "convert them"
        )
        raise UsageError(f"images are {images.dtype}, and would be rounded to {dtype}: {wider}")


def check_finite(images: NDArray[Any], what: str) -> None:
    """Refuse images with values that are NaN or infinite; ``what`` names them in the message."""
    if images.dtype.kind != "f":
        return
    for start in range(0, len(images), _CHUNK):
        bad = ~np.isfinite(images[start : start + _CHUNK]).reshape(len(images[start : start + _CHUNK]), -1).all(axis=1)
        if bad.any():
            raise UsageError(f"{what}: image {start + int(bad.argmax())} has a value that is NaN or infinite")
