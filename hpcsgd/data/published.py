"""What is known for certain about a published data set: its files, addresses, checksums, sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcsgd.data.arrays import ArraySplit


@dataclass(frozen=True)
class Layout:
    """One way in which the files of a data set are published.

    Attributes:
        read: reads one split from its files, in order.
        subfolders: folders that the published archive unpacks to, and other programs keep it in.
        train: files of the training split, in order.
        test: files of the test split, in order.
        has_counts: a file says how many samples it has; else one that was cut between two looks whole.
    """

    read: Callable[[Sequence[Path]], ArraySplit]
    subfolders: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    has_counts: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the data set."""
        return self.train + self.test


@dataclass(frozen=True)
class Published:
    """One published data set.

    Attributes:
        name: its ``data.name``.
        num_classes: classes.
        sizes: training and test samples.
        layouts: the ways in which it is published, best first.
        addresses: web folders that hold ``downloads``; tried in order.
        downloads: files to download, each with the MD5 of its bytes ("" where none is needed).
        sha256: of the uncompressed content of files, by name.
        debian: Debian package that has the files, and the directory where it puts them; None where there is none.
    """

    name: str
    num_classes: int
    sizes: tuple[int, int]
    layouts: tuple[Layout, ...]
    addresses: tuple[str, ...]
    downloads: Mapping[str, str]
    sha256: Mapping[str, str] = field(default_factory=dict)
    debian: tuple[str, Path] | None = None
