"""The pack: images of a whole data set in one HDF5 file, one sample after another.

``/train`` and ``/test`` hold ``images``, uint8 [N, H, H, C], and ``labels``, int64 [N]. All of them are contiguous, not
chunked: a sample is one stretch of the file, at a place that is known, and is read and written as memory, without HDF5.
(Automatic chunks cut an image in pieces across many samples: several hundred times as slow. And HDF5 cannot give up a
file that did not find room on the disk.) The attribute ``num_samples`` of a split says how many of the N are samples:
where files were skipped, the rest is zero, with label -1. ``/classes`` has the names of the classes as bytes.

A pack is known by its content, not by its name, size or time. The attribute ``sha256`` of ``images`` is of the
samples; ``digest`` of the file is of these and of all else that :func:`open_pack` gives. Packs of version 1 have names
in an attribute (at most 64 kB) and no digests.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError, reason

VERSION = 2
VERSIONS = (1, 2)
SPLITS = ("train", "test")
_PART = 8
"""Images at either end of a split that tell a pack of version 1 from others."""

CHECKED_BYTES = 1 << 28
"""Images of a pack that is read to its end each time it is opened for training: less than half a second."""

_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Pack:
    """A pack that is open.

    Attributes:
        images: of each split, uint8 [N, H, H, C], as memory that is read from the file when it is looked at.
        labels: of each split, int64 [N].
        classes: names.
        mean, std: of the training pixels, by channel.
        digest: what tells this content from any other: ``sha256:`` of all of it, or, of a pack of version 1,
            ``parts-sha256:`` of all but the images, of which there are the moments and the first and last ones.
        sha256: of the images of each split, as they were written; empty of a pack of version 1.
    """

    images: Mapping[str, NDArray[np.uint8]]
    labels: Mapping[str, NDArray[np.int64]]
    classes: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    sha256: Mapping[str, str]

    def is_whole(self) -> bool:
        """Read all images, and say whether they are those that were packed; False where that is not known."""
        return bool(self.sha256) and all(sha256_of(self.images[split]) == self.sha256[split] for split in SPLITS)


def open_pack(path: Path) -> Pack:
    """Open a pack.

    Raises:
        UsageError: it is not there, is no pack, was cut or altered (of the images themselves, :meth:`Pack.is_whole`
            tells that), or contradicts itself.
    """
    if not path.is_file():
        raise UsageError(
            f"cannot read the pack {path}: {'it is no file' if path.exists() else 'there is no such file'}"
        )
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _read(path, file)
    except UsageError:
        raise
    except Exception as error:  # h5py has no error of its own: a damaged file may give one of any kind
        raise UsageError(f"cannot read the pack {path}: {reason(error)}") from error


def open_checked(path: Path) -> Pack:
    """Open a pack, and read all images of a small one first: of a large one, staging does.

    Raises:
        UsageError: as :func:`open_pack`, or an image of a small pack is not the one that was packed.
    """
    pack = open_pack(path)
    small = sum(images.nbytes for images in pack.images.values()) <= CHECKED_BYTES
    if small and pack.sha256 and not pack.is_whole():
        raise UsageError(f"{path} was altered: its images are not those that were packed; pack them again")
    return pack


def _read(path: Path, file: h5py.File) -> Pack:
    """The content of a file that is open.

    Raises:
        UsageError: it is no pack.
    """
    version = np.asarray(file.attrs.get("version", 0))
    if version.shape or version not in VERSIONS:
        raise UsageError(f"{path} is no pack of version {VERSION}: make one by hpcsgd data pack SOURCE OUT.h5")
    images, labels = {}, {}
    for split in SPLITS:
        stored, all_labels = file[f"{split}/images"], file[f"{split}/labels"]
        _check_datasets(path, split, stored, all_labels)
        memory = _as_memory(path, stored)
        count = len(stored) if version == 1 else int(file[split].attrs["num_samples"])
        if not 1 <= count <= len(stored):
            raise UsageError(f"{path}: {split}/num_samples is {count}, expected 1 to {len(stored)}")
        images[split], labels[split] = memory[:count], all_labels[:count].astype(np.int64)
    names = file.attrs["classes"] if version == 1 else file["classes"][:]
    classes = [to_text(name) for name in names]
    moments: list[Any] = [file.attrs["mean"], file.attrs["std"]]
    mean, std = (tuple(float(value) for value in values) for values in moments)
    _check_content(path, images, labels, len(classes), mean, std)
    shape = images["train"].shape[1:]
    if version == 1:
        ends = {split: sha256_of(np.concatenate([part[:_PART], part[-_PART:]])) for split, part in images.items()}
        digest = "parts-sha256:" + digest_of(classes, shape, mean, std, labels, ends)
        return Pack(images, labels, classes, mean, std, digest, {})
    sha256 = {split: to_text(file[f"{split}/images"].attrs["sha256"]) for split in SPLITS}
    digest = digest_of(classes, shape, mean, std, labels, sha256)
    if digest != to_text(file.attrs["digest"]):
        raise UsageError(f"{path} was altered: its labels, classes or moments are not those that were packed")
    return Pack(images, labels, classes, mean, std, f"sha256:{digest}", sha256)


def _check_datasets(path: Path, split: str, images: Any, labels: Any) -> None:
    """Refuse what cannot be images and labels by its shape and type.

    Raises:
        UsageError: it cannot.
    """
    for name, found in (("images", images), ("labels", labels)):
        if not isinstance(found, h5py.Dataset):
            raise UsageError(f"{path}: {split}/{name} is no dataset")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2]:
        raise UsageError(f"{path}: {split}/images is {images.dtype} {list(images.shape)}, expected uint8 [N, H, H, C]")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise UsageError(
            f"{path}: {split}/labels is {labels.dtype} {list(labels.shape)}, expected int64 [{len(images)}]"
        )


def _check_content(
    path: Path,
    images: Mapping[str, NDArray[np.uint8]],
    labels: Mapping[str, NDArray[np.int64]],
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Refuse what contradicts itself.

    Raises:
        UsageError: it does.
    """
    train, test = (images[split].shape[1:] for split in SPLITS)
    if train != test:
        raise UsageError(f"{path}: training images are {train}, test images {test}")
    for split in SPLITS:
        low, high = int(labels[split].min()), int(labels[split].max())
        if low < 0 or high >= num_classes:
            raise UsageError(f"{path}: {split}/labels go from {low} to {high}, expected 0 to {num_classes - 1}")
    usable = all(map(math.isfinite, (*mean, *std))) and all(value > 0 for value in std)
    if not usable or not len(mean) == len(std) == train[-1]:
        raise UsageError(f"{path}: mean {mean} and std {std} are not of {train[-1]} channels of pixels")


def _as_memory(path: Path, dataset: h5py.Dataset) -> NDArray[np.uint8]:
    """The content of a contiguous dataset as a memory map of the file."""
    if dataset.size == 0:
        raise UsageError(f"{path}: {dataset.name} is empty")
    offset = dataset.id.get_offset()
    if dataset.chunks is not None or offset is None:
        raise UsageError(f"{path}: {dataset.name} is not contiguous: make the pack by hpcsgd data pack")
    return np.memmap(path, np.uint8, "r", offset, dataset.shape)


def digest_of(
    classes: Iterable[str],
    shape: Iterable[int],
    mean: Iterable[float],
    std: Iterable[float],
    labels: Mapping[str, NDArray[np.int64]],
    images: Mapping[str, str],
) -> str:
    """SHA-256 of a pack's content; ``images`` is of those of each split."""
    content = {
        "classes": list(classes),
        "shape": [int(side) for side in shape],
        "moments": [float(value).hex() for value in (*mean, *std)],
        "labels": [sha256_of(labels[split].astype("<i8")) for split in SPLITS],
        "images": [images[split] for split in SPLITS],
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def sha256_of(array: NDArray[Any]) -> str:
    """SHA-256 of the bytes of a contiguous array, read piece by piece."""
    digest, content = hashlib.sha256(), array.reshape(-1).view(np.uint8)
    for start in range(0, content.size, _CHUNK_BYTES):
        digest.update(content[start : start + _CHUNK_BYTES].data)
    return digest.hexdigest()


def to_bytes(name: str) -> bytes:
    """A name of a file as the system has it: it may be no UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def to_text(name: str | bytes) -> str:
    """The opposite; what HDF5 has as text is text already."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)
