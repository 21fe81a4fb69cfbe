"""Folders of images, one a class, as ImageNet comes: SPLIT/CLASS/IMAGE. Read by Pillow, brought to one size."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError

ENDINGS = {".jpeg", ".jpg", ".png"}
CHANNELS = 3
_PACK_STREAM = 5
"""First word of the seed of the order in a pack, in the count of ``hpcsgd.data.shards``."""

Sample = tuple[Path, int]


@dataclass(frozen=True)
class Folders:
    """The files of a data set.

    Attributes:
        classes: names, sorted; the label is the place.
        train, test: files with their labels.
    """

    classes: list[str]
    train: list[Sample]
    test: list[Sample]


def find_folders(source: Path) -> Folders:
    """The files below ``source``/train and ``source``/val (or ``source``/test), by class and name.

    Raises:
        UsageError: a folder is missing or empty, or a class of the test split has no training images.
    """
    train = source / "train"
    test = next((source / name for name in ("val", "test") if (source / name).is_dir()), None)
    if not train.is_dir() or test is None:
        raise UsageError(
            f"{source} has no folder {'val or test' if train.is_dir() else 'train'}: one a split, then one a class"
        )
    classes = sorted(folder.name for folder in train.iterdir() if folder.is_dir())
    unknown = sorted({folder.name for folder in test.iterdir() if folder.is_dir()} - set(classes))
    if unknown:
        raise UsageError(f"{test} has the class {unknown[0]}, which {train} has not")
    found = Folders(classes, _files(train, classes), _files(test, classes))
    for folder, files in ((train, found.train), (test, found.test)):
        if not files:
            raise UsageError(f"{folder} holds no images ({', '.join(sorted(ENDINGS))}) in folders of classes")
    return found


def _files(split: Path, classes: Sequence[str]) -> list[Sample]:
    """The files of a split with their labels."""
    return [
        (file, label)
        for label, name in enumerate(classes)
        if (split / name).is_dir()
        for file in sorted((split / name).iterdir())
        if file.suffix.lower() in ENDINGS
    ]


def mixed(samples: Sequence[Sample], seed: int = 0) -> list[Sample]:
    """The samples in one fixed random order, so that every stretch of them has all classes."""
    order = np.random.default_rng([_PACK_STREAM, seed]).permutation(len(samples))
    return [samples[place] for place in order]


def check_pillow() -> None:
    """Say what to install where Pillow is missing.

    Raises:
        UsageError: it is.
    """
    if importlib.util.find_spec("PIL") is None:
        raise UsageError("images are read by Pillow, which is not installed: pip install pillow")


def read_image(file: Path, size: int) -> NDArray[np.uint8]:
    """An image, its shorter side brought to ``size`` and its middle cut out: uint8 [size, size, 3].

    Raises:
        UsageError: it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"cannot read the image {file}: {error}") from error
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)), np.uint8)


def read_all(
    samples: Sequence[Sample], size: int, show: Callable[[], object] = lambda: None
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Images with their labels, in order; ``show`` is called after each."""
    for file, label in samples:
        yield read_image(file, size), label
        show()
