"""Writing a pack: its frame by HDF5, its images as memory, decoded or as their files have them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError
from hpcsgd.record.pack import ENCODED_VERSION, VERSION, digest_of, to_bytes
from hpcsgd.record.pack_images import BOUNDS, BYTES, IMAGES

FRAME_BYTES = 1 << 16
"""Enough for all of a pack but images, labels and names of classes."""

_NO_DIGEST = np.bytes_(b"-" * 64)


class PackWriter:
    """Writes a pack: make it, ``write`` each split (or ``write_encoded``), ``finish``."""

    def __init__(
        self,
        path: Path,
        sizes: Mapping[str, int],
        shape: tuple[int, int, int],
        classes: Sequence[str],
        encoded_bytes: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            path: the file; the caller sees to it that half a pack is not taken for one.
            sizes: the most samples of each split.
            shape: height, width, channels of an image.
            classes: names, in the order of the labels.
            encoded_bytes: the most bytes of the files of each split, which are kept as they are; None: pixels are kept.

        Raises:
            OSError: there is no room.
        """
        self.path = path
        self._classes = list(classes)
        self._shape = shape
        self._encoded = encoded_bytes is not None
        self._images = BYTES if self._encoded else IMAGES
        self._room = {split: size * math.prod(shape) for split, size in sizes.items()}
        self._room.update(encoded_bytes or {})
        self._places: dict[str, int] = {}
        self._bounds: dict[str, NDArray[np.int64]] = {}
        self._labels: dict[str, NDArray[np.int64]] = {}
        self._sha256: dict[str, str] = {}
        self._sums = np.zeros((2, shape[2]))
        self._pixels = 0
        names = np.array([to_bytes(name) for name in classes])
        # HDF5 crashes the process where it finds no room for what it holds back to the end: look for it without HDF5.
        path.write_bytes(bytes(FRAME_BYTES + names.nbytes + 8 * (1 + self._encoded) * sum(sizes.values())))
        with h5py.File(path, "w", locking=False) as file:
            file.attrs["version"] = ENCODED_VERSION if self._encoded else VERSION
            if self._encoded:
                file.attrs["shape"] = shape
            # All that is written last has its place from now on: a disk that is full by then loses nothing.
            file.attrs["mean"] = file.attrs["std"] = np.zeros(shape[2])
            file.attrs["digest"] = _NO_DIGEST
            file.create_dataset("classes", data=names, track_times=False)
            for split, size in sizes.items():
                form = (self._room[split],) if self._encoded else (size, *shape)
                images = _reserve(file, f"{split}/{self._images}", form)
                if self._encoded:
                    file.create_dataset(f"{split}/{BOUNDS}", data=np.zeros(size + 1, np.int64), track_times=False)
                file.create_dataset(f"{split}/labels", data=np.full(size, -1, np.int64), track_times=False)
                images.attrs["sha256"] = _NO_DIGEST
                file[split].attrs["num_samples"] = 0
                self._places[split] = images.id.get_offset()

    def write(self, split: str, samples: Iterable[tuple[NDArray[np.uint8], int]]) -> NDArray[np.int64]:
        """Write the samples of a split, each an image [H, W, C] and its label; the labels, int64 [N].

        Raises:
            OSError: there is no room.
        """
        assert not self._encoded
        return self._write(split, ((np.ascontiguousarray(image).data, image, label) for image, label in samples))

    def write_encoded(self, split: str, samples: Iterable[tuple[bytes, NDArray[np.uint8], int]]) -> NDArray[np.int64]:
        """The same of a pack of encoded images: the content of each file, the image that it is, and its label.

        Raises:
            OSError: there is no room.
            UsageError: the files have more bytes than they were to have.
        """
        assert self._encoded
        return self._write(split, samples)

    def _write(
        self, split: str, samples: Iterable[tuple[bytes | memoryview, NDArray[np.uint8], int]]
    ) -> NDArray[np.int64]:
        """What is kept of each sample, its image, and its label."""
        labels, ends, digest = [], [0], hashlib.sha256()
        with self.path.open("r+b") as file:
            file.seek(self._places[split])
            for content, image, label in samples:
                ends.append(ends[-1] + memoryview(content).nbytes)
                if ends[-1] > self._room[split]:
                    raise UsageError(
                        f"files of the split {split} have grown since their bytes were counted: start again"
                    )
                file.write(content)
                digest.update(content)
                labels.append(label)
                if split == "train":
                    values = image.reshape(-1, image.shape[-1]).astype(np.float64)
                    self._sums += values.sum(axis=0), np.square(values).sum(axis=0)
                    self._pixels += len(values)
        self._sha256[split] = digest.hexdigest()
        self._bounds[split] = np.array(ends, np.int64)
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
                file[f"{split}/{self._images}"].attrs.modify("sha256", np.bytes_(self._sha256[split]))
                if self._encoded:
                    file[f"{split}/{BOUNDS}"][: len(labels) + 1] = self._bounds[split]
            file.attrs.modify("mean", mean)
            file.attrs.modify("std", std)
            bounds = self._bounds if self._encoded else None
            digest = digest_of(self._classes, self._shape, mean, std, self._labels, self._sha256, bounds)
            file.attrs.modify("digest", np.bytes_(digest))


def _reserve(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """A dataset of bytes that has its place in the file, and nothing in it."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return file.create_dataset(name, shape, "u1", track_times=False, dcpl=properties)
