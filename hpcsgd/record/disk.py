"""A file under HDF5 that a killed process leaves readable: writes wait, and reach the file in a safe order.

Left alone, HDF5 writes its index nodes by their address: a node that is split is rewritten in place before its new
children are there, and a process killed in between has lost a whole column. Here all writes of a flush wait in
memory until :meth:`OrderedFile.commit`, which writes what is pointed to before what points to it.

What a killed process leaves is every write up to some moment, the last one perhaps cut at the end of a page. Loss of
power is another matter: only :meth:`OrderedFile.sync` waits for the disk itself.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from pathlib import Path

from hpcsgd.files import fsync

_NODE_SIGNATURE = b"TREE"
_NODE_LEVEL = 5
"""Place of the level in an index node: 0 is a leaf."""


class OrderedFile:
    """An existing file, opened for HDF5's file-object driver.

    Raises:
        OSError: the file cannot be opened; from :meth:`commit` and :meth:`close`, it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._position = 0
        self._committed_size = self._size = os.fstat(self._fd).st_size
        self._starts: list[int] = []
        self._pending: dict[int, bytes] = {}
        self._given_up = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the start, or from the end."""
        assert whence in (os.SEEK_SET, os.SEEK_END), whence
        self._position = offset + (self._size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def flush(self) -> None:
        """Nothing: what HDF5 flushes is written by :meth:`commit`."""

    def truncate(self, size: int) -> int:
        """Set the size, at the next commit. HDF5 only ever extends this file."""
        assert size >= self._committed_size, (size, self._committed_size)
        self._size = size
        return size

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Keep a write for the next commit; it replaces what it overlaps of the writes kept."""
        merged = bytes(data)
        length = len(merged)
        begin = start = self._position
        stop = start + length
        first, last = self._overlapping(start, stop)
        for old_start in self._starts[first:last]:
            old = self._pending.pop(old_start)
            merged = old[: max(0, start - old_start)] + merged + old[max(0, stop - old_start) :]
            begin = min(begin, old_start)
        self._starts[first:last] = [begin]
        self._pending[begin] = merged
        self._position = stop
        self._size = max(self._size, stop)
        return length

    def read(self, size: int) -> bytes:
        """Read as :meth:`readinto` does."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read as if all writes kept were done; what was never written is zero."""
        view = memoryview(buffer).cast("B")
        start, stop = self._position, self._position + len(view)
        num_read = os.preadv(self._fd, [view], start)
        view[num_read:] = bytes(len(view) - num_read)
        first, last = self._overlapping(start, stop)
        for old_start in self._starts[first:last]:
            old = self._pending[old_start]
            begin, end = max(start, old_start), min(stop, old_start + len(old))
            view[begin - start : end - start] = old[begin - old_start : end - old_start]
        self._position = stop
        return len(view)

    def _overlapping(self, start: int, stop: int) -> tuple[int, int]:
        """The range of ``_starts`` whose writes overlap ``[start, stop)``; empty, the place for a new one."""
        first = bisect_left(self._starts, start)
        if first and self._starts[first - 1] + len(self._pending[self._starts[first - 1]]) > start:
            first -= 1
        return first, bisect_left(self._starts, stop, lo=first)

    def commit(self) -> None:
        """Write everything kept: new parts of the file, its size and superblock, index nodes, the rest.

        Nothing points to the new parts yet. The superblock says how far the file reaches, so it comes before what
        points to them. A node comes before its children: what a split takes out of an old child is found in the new
        one by then. Headers and rows of old chunks come last.
        """
        if self._given_up:
            return
        num_old = bisect_left(self._starts, self._committed_size)
        for start in self._starts[num_old:]:
            self._write_through(start)
        if self._size != self._committed_size:
            os.ftruncate(self._fd, self._size)
        for start in sorted(self._starts[:num_old], key=self._order):
            self._write_through(start)
        self._committed_size = self._size
        self._starts.clear()
        self._pending.clear()

    def _order(self, start: int) -> int:
        """Sort key of a write into a part of the file that was there before."""
        data = self._pending[start]
        if start == 0:
            return -256
        is_node = data.startswith(_NODE_SIGNATURE) and len(data) > _NODE_LEVEL
        return -data[_NODE_LEVEL] if is_node else 1

    def _write_through(self, start: int) -> None:
        """Write one of the writes kept to the file."""
        data = memoryview(self._pending[start])
        while data:
            written = os.pwrite(self._fd, data, start)
            data, start = data[written:], start + written

    def give_up(self) -> None:
        """From now on nothing is written any more."""
        self._given_up = True

    def sync(self) -> None:
        """Wait until what was committed is on the disk itself."""
        fsync(self._fd)

    def close(self) -> None:
        """Commit what is left and close; closing twice does nothing."""
        if self._fd >= 0:
            try:
                self.commit()
            finally:
                os.close(self._fd)
                self._fd = -1
