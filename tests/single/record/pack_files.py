"""Packs for tests."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from hpcsgd.record.pack_writer import PackWriter

CLASSES = ["ant", "bee", "caf\udce9"]
SIDE = 5


def images_of(seed: int, count: int) -> list[tuple[np.ndarray, int]]:
    """Random images with labels of all classes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)
    return [(image, place % len(CLASSES)) for place, image in enumerate(pixels)]


def write_pack(path: Path, seed: int = 0, skipped: int = 0, classes: list[str] = CLASSES, shift: int = 0) -> Path:
    """A pack of 9 training and 4 test images; ``skipped`` more were planned, labels are ``shift`` further."""
    writer = PackWriter(path, {"train": 9 + skipped, "test": 4}, (SIDE, SIDE, 3), classes)
    for split, count in (("train", 9), ("test", 4)):
        writer.write(split, [(image, (label + shift) % 3) for image, label in images_of(seed, count)])
    writer.finish()
    return path


def contents_of(seed: int, count: int) -> list[bytes]:
    """Files of several sizes, which are no images: the pack does not look into them."""
    generator = np.random.default_rng(seed)
    return [generator.bytes(int(size)) for size in generator.integers(1, 90, count)]


def write_encoded_pack(path: Path, seed: int = 0, skipped: int = 0, shift: int = 0, files: int = 0) -> Path:
    """The same with encoded images; ``files`` is the seed of what they are."""
    contents = {split: contents_of(files, count) for split, count in (("train", 9), ("test", 4))}
    room = {split: sum(map(len, content)) + 7 * skipped for split, content in contents.items()}
    writer = PackWriter(path, {"train": 9 + skipped, "test": 4}, (SIDE, SIDE, 3), CLASSES, room)
    for split, content in contents.items():
        samples = zip(content, images_of(seed, len(content)), strict=True)
        writer.write_encoded(split, [(file, image, (label + shift) % 3) for file, (image, label) in samples])
    writer.finish()
    return path


def write_first_version(path: Path, seed: int = 0, shift: int = 0) -> Path:
    """A pack as version 1 had them."""
    with h5py.File(path, "w") as file:
        file.attrs["version"] = 1
        file.attrs["classes"] = CLASSES[:2] + ["cow"]
        file.attrs["mean"] = file.attrs["std"] = np.full(3, 100.0)
        for split, count in (("train", 9), ("test", 4)):
            images, labels = zip(*images_of(seed, count), strict=True)
            file.create_dataset(f"{split}/images", data=np.stack(images), track_times=False)
            file.create_dataset(f"{split}/labels", data=(np.array(labels) + shift) % 3, track_times=False)
    return path
