"""Writing a pack: its frame by HDF5, its images as memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.pack import VERSION, digest_of, to_bytes

FRAME_BYTES = 1 << 16
"""Enough for all of a pack but images, labels and names of classes."""

_NO_DIGEST = np.bytes_(b"-" * 64)


class PackWriter:
    """Writes a pack: make it, ``write`` each split, ``finish``."""

    def __init__(
        self, path: Path, sizes: Mapping[str, int], shape: tuple[int, int, int], classes: Sequence[str]
    ) -> None:
        """
        Args:
            path: the file; the caller sees to it that half a pack is not taken for one.
            sizes: the most samples of each split.
            shape: height, width, channels of an image.
            classes: names, in the order of the labels.

        Raises:
            OSError: there is no room.
        """
        self.path = path
        self._classes = list(classes)
        self._places: dict[str, int] = {}
        self._labels: dict[str, NDArray[np.int64]] = {}
        self._sha256: dict[str, str] = {}
        self._sums = np.zeros((2, shape[2]))
        self._pixels = 0
        names = np.array([to_bytes(name) for name in classes])
        # HDF5 crashes the process where it finds no room for what it holds back to the end: look for it without HDF5.
        path.write_bytes(bytes(FRAME_BYTES + names.nbytes + 8 * sum(sizes.values())))
        with h5py.File(path, "w", locking=False) as file:
            file.attrs["version"] = VERSION
            # All that is written last has its place from now on: a disk that is full by then loses nothing.
            file.attrs["mean"] = file.attrs["std"] = np.zeros(shape[2])
            file.attrs["digest"] = _NO_DIGEST
            file.create_dataset("classes", data=names, track_times=False)
            for split, size in sizes.items():
                images = _reserve(file, f"{split}/images", (size, *shape))
                file.create_dataset(f"{split}/labels", data=np.full(size, -1, np.int64), track_times=False)
                images.attrs["sha256"] = _NO_DIGEST
                file[split].attrs["num_samples"] = 0
                self._places[split] = images.id.get_offset()

    def write(self, split: str, samples: Iterable[tuple[NDArray[np.uint8], int]]) -> NDArray[np.int64]:
        """Write the samples of a split, each an image [H, W, C] and its label; the labels, int64 [N].

        Raises:
            OSError: there is no room.
        """
        labels, digest = [], hashlib.sha256()
        with self.path.open("r+b") as file:
            file.seek(self._places[split])
            for image, label in samples:
                content = np.ascontiguousarray(image).data
                file.write(content)
                digest.update(content)
                labels.append(label)
                if split == "train":
                    values = image.reshape(-1, image.shape[-1]).astype(np.float64)
                    self._sums += values.sum(axis=0), np.square(values).sum(axis=0)
                    self._pixels += len(values)
        self._sha256[split] = digest.hexdigest()
        self._labels[split] = np.array(labels, np.int64)
        return self._labels[split]

    def finish(self) -> None:
        """Write what is known at the end: moments, labels and digests. Each split has at least one sample."""
        mean = self._sums[0] / self._pixels
        std = np.sqrt(np.maximum(self._sums[1] / self._pixels - mean**2, 0.0))
        std[std == 0] = 1.0
        with h5py.File(self.path, "r+", locking=False) as file:
            for split, labels in self._labels.items():
                file[f"{split}/labels"][: len(labels)] = labels
                file[split].attrs.modify("num_samples", len(labels))
                file[f"{split}/images"].attrs.modify("sha256", np.bytes_(self._sha256[split]))
            file.attrs.modify("mean", mean)
            file.attrs.modify("std", std)
            shape = file["train/images"].shape[1:]
            digest = digest_of(self._classes, shape, mean, std, self._labels, self._sha256)
            file.attrs.modify("digest", np.bytes_(digest))


def _reserve(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """A dataset of bytes that has its place in the file, and nothing in it."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return file.create_dataset(name, shape, "u1", track_times=False, dcpl=properties)
