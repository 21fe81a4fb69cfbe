"""The images of a split of a pack, as the file has them: pixels, or encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError
from hpcsgd.record.encoded import CHANNELS, EncodedImages

IMAGES, BYTES, BOUNDS = "images", "bytes", "bounds"
"""Datasets of a split beside its labels."""

Images = NDArray[np.uint8] | EncodedImages


def read_decoded(path: Path, split: str, file: h5py.File, planned: int, count: int) -> NDArray[np.uint8]:
    """The first ``count`` images of a split.

    Raises:
        UsageError: they cannot be images by their shape and type.
    """
    images = _dataset(path, file, f"{split}/{IMAGES}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2]:
        raise UsageError(f"{path}: {split}/images is {images.dtype} {list(images.shape)}, expected uint8 [N, H, H, C]")
    if len(images) != planned:
        raise UsageError(f"{path}: {split} has {len(images)} images, but {planned} labels")
    return _as_memory(path, images)[:count]


def read_encoded(path: Path, split: str, file: h5py.File, planned: int, count: int) -> EncodedImages:
    """The same of a pack of encoded images.

    Raises:
        UsageError: the images are not where the pack says, or are to be decoded to another form than H, H, 3.
    """
    content, bounds = (_dataset(path, file, f"{split}/{name}") for name in (BYTES, BOUNDS))
    for found, kind, shape in ((content, "uint8", content.shape[:1]), (bounds, "int64", (planned + 1,))):
        if found.dtype != kind or found.shape != shape:
            raise UsageError(
                f"{path}: {found.name} is {found.dtype} {list(found.shape)}, expected {kind} {list(shape)}"
            )
    height, width, channels = (int(side) for side in file.attrs["shape"])
    if not 1 <= height == width or channels != CHANNELS:
        raise UsageError(f"{path}: shape is {[height, width, channels]}, expected H, H, {CHANNELS}")
    memory, places = _as_memory(path, content), bounds[: count + 1]
    _check_bounds(path, split, places, len(memory))
    return EncodedImages(path, split, memory[: places[-1]], places, np.arange(count), height)


def _dataset(path: Path, file: h5py.File, name: str) -> Any:
    """A dataset.

    Raises:
        UsageError: it is none.
    """
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise UsageError(f"{path}: {name} is no dataset")
    return found


def stored(images: Images) -> NDArray[np.uint8]:
    """What the file has of them: pixels, or the bytes of their whole split."""
    return images.content if isinstance(images, EncodedImages) else images


def shape_of(images: Images) -> tuple[int, ...]:
    """Height, width and channels."""
    return (images.side, images.side, CHANNELS) if isinstance(images, EncodedImages) else images.shape[1:]


def _as_memory(path: Path, dataset: h5py.Dataset) -> NDArray[np.uint8]:
    """The content of a contiguous dataset as a memory map of the file."""
    if dataset.size == 0:
        raise UsageError(f"{path}: {dataset.name} is empty")
    offset = dataset.id.get_offset()
    if dataset.chunks is not None or offset is None:
        raise UsageError(f"{path}: {dataset.name} is not contiguous: make the pack by hpcsgd data pack")
    return np.memmap(path, np.uint8, "r", offset, dataset.shape)


def _check_bounds(path: Path, split: str, bounds: NDArray[np.int64], num_bytes: int) -> None:
    """Refuse places of images that are not one after another, each with something in it.

    Raises:
        UsageError: they are not.
    """
    if bounds[0] != 0 or (np.diff(bounds) < 1).any() or bounds[-1] > num_bytes:
        raise UsageError(f"{path}: {split}/bounds are not where images of {num_bytes} bytes in all begin and end")
