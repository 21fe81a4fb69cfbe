"""Folders of images, one a class, as ImageNet comes: SPLIT/CLASS/IMAGE.

A folder is a class and a file an image only where nothing else can be meant. What systems and programs leave behind
(hidden files, ``__MACOSX``, ``Thumbs.db``) and files of other endings are left out, and counted; a folder whose images
lie elsewhere than expected is refused.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcsgd.data.remarks import LeftOut, name_some, printable
from hpcsgd.errors import UsageError, reason

ENDINGS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""As torchvision's ``ImageFolder``, in small or large letters."""

_SYSTEM = {"__macosx", "@eadir", "$recycle.bin", "lost+found", "system volume information"}
_SYSTEM |= {"desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db"}
_TEST_NAMES = ("val", "test")
_PACK_STREAM = 5
"""First word of the seed of the order in a pack, in the count of ``hpcsgd.data.shards``."""

Sample = tuple[Path, int]


@dataclass(frozen=True)
class Folders:
    """The files of a data set.

    Attributes:
        classes: names, sorted; the label is the place.
        train, test: files with their labels.
        remarks: what was left out, a line each, for the user.
    """

    classes: list[str]
    train: list[Sample]
    test: list[Sample]
    remarks: list[str]


def find_folders(source: Path) -> Folders:
    """The files below ``source``/train and ``source``/val (or ``source``/test), by class and name.

    Raises:
        UsageError: a folder is missing, empty or cannot be read, images lie in folders of folders, or a class of the
            test split has no training images.
    """
    try:
        left = LeftOut(source)
        train, test = _splits(source, left)
        by_class = _scan(train, left), _scan(test, left)
    except OSError as error:
        raise UsageError(f"cannot read {printable(error.filename or source)}: {reason(error)}") from error
    for folder, files in zip((train, test), by_class, strict=True):
        if not any(files.values()):
            said = f"; left out: {left}" if str(left) else ""
            endings = ", ".join(ENDINGS)
            raise UsageError(f"{printable(folder)} holds no images ({endings}) in folders of classes{said}")
    classes = list(by_class[0])
    missing = _check_classes(train, test, *by_class)
    remarks = [f"{printable(source)}: left out: {left}"] if str(left) else []
    if missing:
        remarks.append(f"{printable(test)} has no images of classes that {printable(train)} has: {name_some(missing)}")
    samples = [
        [(file, label) for label, name in enumerate(classes) for file in files.get(name, ())] for files in by_class
    ]
    return Folders(classes, samples[0], samples[1], remarks)


def _splits(source: Path, left: LeftOut) -> tuple[Path, Path]:
    """The folders of the training and the test split."""
    entries = {entry.name: entry.is_dir() for entry in _entries(source, left)}
    folders = [name for name, is_folder in entries.items() if is_folder]
    test = next((name for name in _TEST_NAMES if name in folders), None)
    if "train" not in folders or test is None:
        lacks = "val or test" if "train" in folders else "train"
        has = f"it has {name_some(folders)}" if folders else "it has no folders"
        raise UsageError(f"{printable(source)} has no folder {lacks}, {has}: one a split, then one a class, is needed")
    for name, is_folder in entries.items():
        if name not in ("train", test):
            left.add(f"{'folders' if is_folder else 'files'} beside train and {test}", source / name)
    return source / "train", source / test


def _entries(folder: Path, left: LeftOut) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, by name, without what systems and programs have left there."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if _is_hidden(entry.name):
            left.add("hidden or of the system", entry.path)
        else:
            yield entry


def _is_hidden(name: str) -> bool:
    """Whether a file or folder is no part of the data."""
    return name.startswith(".") or name.lower() in _SYSTEM


def _scan(split: Path, left: LeftOut) -> dict[str, list[Path]]:
    """The images of a split by class, both by name."""
    classes: dict[str, list[Path]] = {}
    for entry in _entries(split, left):
        if entry.is_dir():
            classes[entry.name] = _images(Path(entry.path), left)
        else:
            left.add("outside of the folders of classes", entry.path)
    return classes


def _images(folder: Path, left: LeftOut) -> list[Path]:
    """The images of a class."""
    images = []
    for entry in _entries(folder, left):
        if entry.is_dir():
            _refuse_deeper(entry.path)
            left.add("folders below those of classes", entry.path)
        elif entry.name.lower().endswith(ENDINGS):
            images.append(Path(entry.path))
        else:
            left.add_file(entry.path)
    return images


def _refuse_deeper(folder: str) -> None:
    """Refuse images in a folder of the folder of a class: are they of this class, or is it one of classes?"""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        deep = min((name for name in files if name.lower().endswith(ENDINGS) and not _is_hidden(name)), default=None)
        if deep is not None:
            raise UsageError(
                f"{printable(Path(place, deep))} lies too deep: images are read from SPLIT/CLASS/IMAGE alone; move "
                "the folders of classes up, or this one away"
            )


def _check_classes(
    train: Path, test: Path, train_files: Mapping[str, list[Path]], test_files: Mapping[str, list[Path]]
) -> list[str]:
    """The classes that have training images and no test images.

    Raises:
        UsageError: a class has no training images.
    """
    unknown = sorted(test_files.keys() - train_files.keys())
    if unknown:
        near = difflib.get_close_matches(unknown[0], train_files, 1)
        hint = f" (it has {printable(near[0])})" if near else ""
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise UsageError(
            f"{printable(test)} has the class {printable(unknown[0])}{more}, which {printable(train)} has not{hint}"
        )
    empty = [name for name, files in train_files.items() if not files]
    if empty:
        raise UsageError(
            f"{printable(train)} has folders of classes without images, {name_some(empty)}: remove them, or fill them"
        )
    return [name for name in train_files if not test_files.get(name)]


def mixed(samples: Sequence[Sample], seed: int = 0) -> list[Sample]:
    """The samples in one fixed random order, so that every stretch of them has all classes."""
    order = np.random.default_rng([_PACK_STREAM, seed]).permutation(len(samples))
    return [samples[place] for place in order]
