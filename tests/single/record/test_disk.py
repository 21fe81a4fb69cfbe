"""OrderedFile against a plain buffer, and the order of its writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcsgd.record.disk import OrderedFile

writes = st.tuples(st.just("write"), st.integers(0, 60), st.binary(min_size=1, max_size=20))
reads = st.tuples(st.just("read"), st.integers(0, 60), st.integers(1, 30))
commits = st.tuples(st.just("commit"), st.just(0), st.just(0))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(writes, writes, reads, commits), max_size=25))
def test_it_reads_and_writes_as_a_plain_file_does(tmp_path: Path, steps: list[tuple[str, int, object]]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"start of the file")
    expected = bytearray(b"start of the file")
    file = OrderedFile(path)
    for kind, offset, argument in steps:
        file.seek(offset)
        if kind == "write":
            assert isinstance(argument, bytes)
            assert file.write(argument) == len(argument)
            expected.extend(bytes(max(0, offset - len(expected))))
            expected[offset : offset + len(argument)] = argument
            assert file.tell() == offset + len(argument)
        elif kind == "read":
            assert isinstance(argument, int)
            assert file.read(argument) == bytes(expected[offset : offset + argument]).ljust(argument, b"\0")
        else:
            file.commit()
            assert path.read_bytes() == expected
    assert file.seek(0, os.SEEK_END) == len(expected)
    file.close()
    assert path.read_bytes() == expected


def test_nothing_reaches_the_file_before_a_commit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    file = OrderedFile(path)
    file.write(b"new")
    file.truncate(10)
    file.flush()
    assert path.read_bytes() == b"old"
    file.commit()
    assert path.read_bytes() == b"new".ljust(10, b"\0")
    file.close()


def test_order_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    done: list[int | str] = []
    file = OrderedFile(path)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: done.append(offset) or len(data))
    monkeypatch.setattr(os, "ftruncate", lambda fd, size: done.append("size"))
    for offset, data in (
        (500, b"rows"),
        (200, b"TREE\x01\x00 leaf"),
        (300, b"TREE\x01\x01 root"),
        (100, b"header"),
        (0, b"superblock"),
        (1200, b"TREE\x01\x00 new leaf"),
    ):
        file.seek(offset)
        file.write(data)
    file.commit()
    assert done == [1200, "size", 0, 300, 200, 100, 500]
    file.commit()
    assert len(done) == 7, "the writes are done once"


def test_a_short_write_is_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:3], offset))
    file = OrderedFile(path)
    file.write(b"0123456789")
    file.commit()
    assert path.read_bytes() == b"0123456789"
    file.close()


def test_writes_that_failed_are_done_by_the_next_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    file = OrderedFile(path)
    file.write(b"text")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "pwrite", disk_full)
        file.commit()
    file.commit()
    assert path.read_bytes() == b"text"
    file.close()
    file.close()


def disk_full(fd: int, data: bytes, offset: int) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
