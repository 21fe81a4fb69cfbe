"""The pack: images of a whole data set in one HDF5 file, one sample after another.

``/train`` and ``/test`` hold ``images``, uint8 [N, H, H, C], and ``labels``, int64 [N]. All of them are contiguous, not
chunked: a sample is one stretch of the file, at a place that is known, and is read and written as memory, without HDF5.
(Automatic chunks cut an image in pieces across many samples: several hundred times as slow. And HDF5 cannot give up a
file that did not find room on the disk.) The attribute ``num_samples`` of a split says how many of the N are samples:
where files were skipped, the rest is zero, with label -1. ``/classes`` has the names of the classes as bytes.

A pack of encoded images (version 3) has their files as they are, one after another, in ``bytes``, uint8 [B], in the
place of ``images``; image i is in bytes ``bounds``[i] to ``bounds``[i + 1] - 1. The attribute ``shape`` of the file is
H, H, C of an image once it is decoded. (Bytes of variable length are a heap to HDF5: not one stretch, and not memory.)

A pack is known by its content, not by its name, size or time. The attribute ``sha256`` of ``images`` or ``bytes`` is of
the samples; ``digest`` of the file is of these and of all else that :func:`open_pack` gives. Packs of version 1 have
names in an attribute (at most 64 kB) and no digests.
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
from hpcsgd.record.encoded import EncodedImages
from hpcsgd.record.pack_images import BYTES, IMAGES, Images, read_decoded, read_encoded, shape_of, stored

VERSION = 2
ENCODED_VERSION = 3
VERSIONS = (1, VERSION, ENCODED_VERSION)
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
        images: of each split, uint8 [N, H, H, C], as memory that is read from the file when it is looked at; or
            encoded.
        labels: of each split, int64 [N].
        classes: names.
        mean, std: of the training pixels, by channel.
        digest: what tells this content from any other: ``sha256:`` of all of it, or, of a pack of version 1,
            ``parts-sha256:`` of all but the images, of which there are the moments and the first and last ones.
        sha256: of the images of each split, as they were written; empty of a pack of version 1.
    """

    images: Mapping[str, Images]
    labels: Mapping[str, NDArray[np.int64]]
    classes: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    sha256: Mapping[str, str]

    def is_whole(self) -> bool:
        """Read all images, and say whether they are those that were packed; False where that is not known."""
        return bool(self.sha256) and all(sha256_of(stored(self.images[name])) == self.sha256[name] for name in SPLITS)


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
        known = f"{VERSION} or {ENCODED_VERSION}"
        raise UsageError(f"{path} is no pack of version {known}: make one by hpcsgd data pack SOURCE OUT.h5")
    images: dict[str, Images] = {}
    labels = {}
    encoded = version == ENCODED_VERSION
    for split in SPLITS:
        all_labels = file[f"{split}/labels"]
        planned = _num_planned(path, split, all_labels)
        count = planned if version == 1 else int(file[split].attrs["num_samples"])
        if not 1 <= count <= planned:
            raise UsageError(f"{path}: {split}/num_samples is {count}, expected 1 to {planned}")
        images[split] = (read_encoded if encoded else read_decoded)(path, split, file, planned, count)
        labels[split] = all_labels[:count].astype(np.int64)
    names = file.attrs["classes"] if version == 1 else file["classes"][:]
    classes = [to_text(name) for name in names]
    moments: list[Any] = [file.attrs["mean"], file.attrs["std"]]
    mean, std = (tuple(float(value) for value in values) for values in moments)
    shapes = [shape_of(images[split]) for split in SPLITS]
    _check_content(path, shapes, labels, len(classes), mean, std)
    if version == 1:
        ends = {
            split: sha256_of(np.concatenate([stored(part[:_PART]), stored(part[-_PART:])]))
            for split, part in images.items()
        }
        digest = "parts-sha256:" + digest_of(classes, shapes[0], mean, std, labels, ends)
        return Pack(images, labels, classes, mean, std, digest, {})
    sha256 = {split: to_text(file[f"{split}/{BYTES if encoded else IMAGES}"].attrs["sha256"]) for split in SPLITS}
    bounds = {split: part.bounds for split, part in images.items() if isinstance(part, EncodedImages)}
    digest = digest_of(classes, shapes[0], mean, std, labels, sha256, bounds)
    if digest != to_text(file.attrs["digest"]):
        raise UsageError(f"{path} was altered: its labels, classes or moments are not those that were packed")
    return Pack(images, labels, classes, mean, std, f"sha256:{digest}", sha256)


def _num_planned(path: Path, split: str, labels: Any) -> int:
    """Labels of a split, of which the last ones may be of no sample.

    Raises:
        UsageError: they cannot be labels by their shape and type.
    """
    if not isinstance(labels, h5py.Dataset):
        raise UsageError(f"{path}: {split}/labels is no dataset")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise UsageError(f"{path}: {split}/labels is {labels.dtype} {list(labels.shape)}, expected int64 [N]")
    return len(labels)


def _check_content(
    path: Path,
    shapes: Sequence[tuple[int, ...]],
    labels: Mapping[str, NDArray[np.int64]],
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Refuse what contradicts itself.

    Raises:
        UsageError: it does.
    """
    train, test = shapes
    if train != test:
        raise UsageError(f"{path}: training images are {train}, test images {test}")
    for split in SPLITS:
        low, high = int(labels[split].min()), int(labels[split].max())
        if low < 0 or high >= num_classes:
            raise UsageError(f"{path}: {split}/labels go from {low} to {high}, expected 0 to {num_classes - 1}")
    usable = all(map(math.isfinite, (*mean, *std))) and all(value > 0 for value in std)
    if not usable or not len(mean) == len(std) == train[-1]:
        raise UsageError(f"{path}: mean {mean} and std {std} are not of {train[-1]} channels of pixels")


def digest_of(
    classes: Iterable[str],
    shape: Iterable[int],
    mean: Iterable[float],
    std: Iterable[float],
    labels: Mapping[str, NDArray[np.int64]],
    images: Mapping[str, str],
    bounds: Mapping[str, NDArray[np.int64]] | None = None,
) -> str:
    """SHA-256 of a pack's content; ``images`` is of those of each split, ``bounds`` of encoded ones."""
    content = {
        "classes": list(classes),
        "shape": [int(side) for side in shape],
        "moments": [float(value).hex() for value in (*mean, *std)],
        "labels": [sha256_of(labels[split].astype("<i8")) for split in SPLITS],
        "images": [images[split] for split in SPLITS],
    }
    if bounds:
        content["bounds"] = [sha256_of(bounds[split].astype("<i8")) for split in SPLITS]
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
