"""Files that are there whole or not at all: written under another name beside their own, then renamed."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
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
