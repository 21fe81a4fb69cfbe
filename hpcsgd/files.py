"""A file is there whole or not at all; and files are found in a directory and below in one way."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The name under which the body is to make a file; at its end the file is on the disk and becomes ``path``.

    A body that fails leaves ``path`` as it was, and nothing beside it.

    Raises:
        OSError: the file cannot be kept.
    """
    # Another host, or a container, may have a process of the same number.
    unfinished = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        OSError: it cannot be written; one that was there before is as it was.
    """
    with whole(path) as unfinished:
        unfinished.write_bytes(content)


def sync(path: Path) -> None:
    """Wait until a file, or a renaming in a directory, is on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync(descriptor: int) -> None:
    """Wait until an open file is on the disk itself, where the file system can say so: not all of them can.

    Raises:
        OSError: it could not be written.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


class Finder:
    """Looks through directories; links are followed, and each real directory is looked through once.

    Attributes:
        problems: one line for each directory that cannot be looked into, and each link that leads nowhere.
    """

    def __init__(self) -> None:
        """Nothing is looked through yet."""
        self.problems: list[str] = []

    def walk(self, root: Path, *, hidden: bool = True) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
        """Each directory from ``root`` down with what lies in it, by name; those behind links come last.

        A link to a directory that ``root`` lies in leads back here: it is not followed. ``hidden``: directories whose
        names begin with a dot are looked through too.
        """
        seen = {_identity(parent) for parent in root.resolve().parents}
        plain, linked = [root], list[Path]()
        while plain or linked:
            directory = plain.pop() if plain else linked.pop(0)
            try:
                identity = _identity(directory)
                if identity in seen:
                    continue
                seen.add(identity)
                with os.scandir(directory) as scanned:
                    entries = sorted(scanned, key=lambda entry: entry.name)
            except OSError as error:
                self.problems.append(f"{directory}: cannot be looked into: {error.strerror or error}")
                continue
            below = [entry for entry in entries if _is_directory(entry) and (hidden or not entry.name.startswith("."))]
            plain += [Path(entry.path) for entry in reversed(below) if not entry.is_symlink()]
            linked += [Path(entry.path) for entry in below if entry.is_symlink()]
            self.problems += [
                f"{entry.path}: a link to {os.readlink(entry.path)}, which is not there"
                for entry in entries
                # Editors lock files by hidden links that lead nowhere.
                if entry.is_symlink() and not entry.name.startswith(".") and not os.path.exists(entry.path)
            ]
            yield directory, entries

    def files(self, root: Path, names: Container[str]) -> list[Path]:
        """The files of these names below ``root``, by path, each real file once.

        A directory of such a name counts as a file, so that it is refused by name, but where it holds a file of it.
        """
        found: dict[tuple[int, int], Path] = {}
        for directory, entries in self.walk(root):
            for entry in entries:
                path = directory / entry.name
                if entry.name not in names or (_is_directory(entry) and (path / entry.name).exists()):
                    continue
                try:
                    found.setdefault(_identity(path), path)
                except OSError:
                    # A link that leads nowhere is told of already.
                    continue
        return sorted(found.values())


def _identity(path: Path) -> tuple[int, int]:
    """What a file or directory is, by whatever path it is reached."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """Whether it is a directory, or a link to one; what cannot be asked is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
