"""The pack: images of a whole data set in one HDF5 file, one sample after another.

``/train`` and ``/test`` hold ``images``, uint8 [N, H, W, C], and ``labels``, int64 [N]. All of them are contiguous, not
chunked: a sample is one stretch of the file, at a place that is known, and is read as memory, without HDF5. (Automatic
chunks cut an image in pieces across many samples: several hundred times as slow.)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError

VERSION = 1
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Pack:
    """A pack that is open.

    Attributes:
        images: of each split, uint8 [N, H, W, C], as memory that is read from the file when it is looked at.
        labels: of each split, int64 [N].
        classes: names.
        mean, std: of the training pixels, by channel.
    """

    images: Mapping[str, NDArray[np.uint8]]
    labels: Mapping[str, NDArray[np.int64]]
    classes: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class PackWriter:
    """Writes a pack under another name, and gives it its own when it is whole."""

    def __init__(
        self, path: Path, sizes: Mapping[str, int], shape: tuple[int, int, int], classes: Sequence[str]
    ) -> None:
        """
        Args:
            path: the file.
            sizes: samples of each split.
            shape: height, width, channels of an image.
            classes: names, in the order of the labels.
        """
        self.path = path
        self._unfinished = path.with_name(path.name + ".new")
        self._file = h5py.File(self._unfinished, "w", locking=False)
        self._file.attrs["version"] = VERSION
        self._file.attrs["classes"] = list(classes)
        for split, size in sizes.items():
            self._file.create_dataset(f"{split}/images", (size, *shape), "u1", track_times=False)
            self._file.create_dataset(f"{split}/labels", (size,), "i8", track_times=False)
        self._sums = np.zeros((2, shape[2]))
        self._pixels = 0

    def write(self, split: str, samples: Iterable[tuple[NDArray[np.uint8], int]]) -> None:
        """Write the samples of a split, each an image [H, W, C] and its label."""
        images, labels = self._file[f"{split}/images"], self._file[f"{split}/labels"]
        for place, (image, label) in enumerate(samples):
            images[place] = image
            labels[place] = label
            if split == "train":
                values = image.reshape(-1, image.shape[-1]).astype(np.float64)
                self._sums += values.sum(axis=0), np.square(values).sum(axis=0)
                self._pixels += len(values)

    def finish(self) -> None:
        """Keep the moments, and give the file its name."""
        mean = self._sums[0] / self._pixels
        std = np.sqrt(np.maximum(self._sums[1] / self._pixels - mean**2, 0.0))
        std[std == 0] = 1.0
        self._file.attrs["mean"], self._file.attrs["std"] = mean, std
        self._file.close()
        with self._unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self._unfinished, self.path)

    def give_up(self) -> None:
        """Leave nothing."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)


def open_pack(path: Path) -> Pack:
    """Open a pack.

    Raises:
        UsageError: it is not there, is no pack, or was cut.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("version") != VERSION:
                raise UsageError(f"{path} is no pack of version {VERSION}: make one by hpcsgd data pack SOURCE OUT.h5")
            images = {split: _as_memory(path, file[f"{split}/images"]) for split in SPLITS}
            labels = {split: file[f"{split}/labels"][:] for split in SPLITS}
            moments: list[Any] = [file.attrs["mean"], file.attrs["std"]]
            mean, std = (tuple(float(value) for value in values) for values in moments)
            return Pack(images, labels, [str(name) for name in file.attrs["classes"]], mean, std)
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"cannot read the pack {path}: {' '.join(str(error).split())}") from error


def _as_memory(path: Path, dataset: h5py.Dataset) -> NDArray[np.uint8]:
    """The content of a contiguous dataset as a memory map of the file."""
    offset = dataset.id.get_offset()
    if dataset.chunks is not None or offset is None:
        raise UsageError(f"{path}: {dataset.name} is not contiguous: make the pack by hpcsgd data pack")
    return np.memmap(path, np.uint8, "r", offset, dataset.shape)
