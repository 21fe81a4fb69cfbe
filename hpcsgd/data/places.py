"""Where a data set's files may lie, and how they are called."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcsgd.errors import UsageError
from hpcsgd.paths import resolved

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DEBIAN_DIRS = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}


@dataclass(frozen=True)
class Layout:
    """One way in which the files of a data set are published.

    Attributes:
        format: how a file is read.
        subfolder: folder that the published archive unpacks to.
        train: files of the training split, in order.
        test: files of the test split, in order.
    """

    format: Literal["idx", "cifar_binary", "cifar_python"]
    subfolder: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the data set."""
        return self.train + self.test


_IDX = Layout("idx", "", IDX_FILES[:2], IDX_FILES[2:])
_CIFAR10_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "fashion_mnist": (_IDX,),
    "mnist": (_IDX,),
    "cifar10": (
        Layout(
            "cifar_binary",
            "cifar-10-batches-bin",
            tuple(f"{name}.bin" for name in _CIFAR10_BATCHES),
            ("test_batch.bin",),
        ),
        Layout("cifar_python", "cifar-10-batches-py", _CIFAR10_BATCHES, ("test_batch",)),
    ),
    "cifar100": (
        Layout("cifar_binary", "cifar-100-binary", ("train.bin",), ("test.bin",)),
        Layout("cifar_python", "cifar-100-python", ("train",), ("test",)),
    ),
}


def cache_dir(name: str) -> Path:
    """The user's cache directory of data set ``name``: where ``fetch`` brings it by default.

    Raises:
        UsageError: the user has no home.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return resolved("the cache's directory", base) / "hpcsgd" / "data" / name


def search_dirs(name: str, explicit: str | None = None) -> list[Path]:
    """The directories that may hold data set ``name``, best first: only ``explicit``, where it is given."""
    if explicit is not None:
        return [resolved("data.dir", explicit)]
    places = []
    if os.environ.get("HPCSGD_DATA"):
        places.append(resolved("HPCSGD_DATA", os.environ["HPCSGD_DATA"]) / name)
    places.append(Path("data") / name)
    with contextlib.suppress(UsageError):
        # Without a home there is no cache; the data may be elsewhere.
        places.append(cache_dir(name))
    if name in DEBIAN_DIRS:
        places.append(DEBIAN_DIRS[name])
    return places


def existing_file(folder: Path, file: str) -> Path | None:
    """``folder/file``, or its gzipped form; None where there is neither."""
    for path in (folder / file, folder / f"{file}.gz"):
        if path.is_file():
            return path
    return None


def find_layout(name: str, place: Path) -> tuple[Path, Layout] | None:
    """The folder in ``place`` (itself or an archive's usual subfolder) that has every file of one layout."""
    for layout in LAYOUTS[name]:
        for folder in dict.fromkeys((place, place / layout.subfolder)):
            if all(existing_file(folder, file) for file in layout.files):
                return folder, layout
    return None


def locate(name: str, explicit: str | None = None) -> tuple[Path, Layout]:
    """Find the files of data set ``name``.

    Args:
        name: a key of ``LAYOUTS``.
        explicit: the only directory to look in; None searches the usual places.

    Returns:
        The folder of the files and their layout.

    Raises:
        UsageError: no place has all files; the text says what each place lacks and how to fetch them.
    """
    places = search_dirs(name, explicit)
    for place in places:
        found = find_layout(name, place)
        if found is not None:
            return found
    searched = "; ".join(f"{place} ({describe_lack(name, place)})" for place in places)
    hint = "name another data.dir" if explicit is not None else "set data.dir"
    raise UsageError(
        f"data set {name} was not found. Searched: {searched}. Fetch it with `hpcsgd data fetch {name}`, or {hint}."
    )


def describe_lack(name: str, place: Path) -> str:
    """What keeps ``place`` from being used, in a few words."""
    if not place.is_dir():
        return "a file, not a directory" if place.exists() else "no such directory"
    lacks = []
    for layout in LAYOUTS[name]:
        for folder in dict.fromkeys((place, place / layout.subfolder)):
            lacks.append([file for file in layout.files if existing_file(folder, file) is None])
    fewest = min(lacks, key=len)
    return f"lacks {fewest[0]}" + (f" and {len(fewest) - 1} more" if len(fewest) > 1 else "")
