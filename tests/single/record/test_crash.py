"""Whatever moment a run is killed at, its log opens and holds every row that an append had returned for."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.record import columns, disk, layout
from hpcsgd.record.reader import Run, load_run
from hpcsgd.record.schema import ITERATION_COLUMNS, RANK_COLUMNS, TABLES
from hpcsgd.record.writer import RunLogWriter
from tests.single.record import log_samples

ROOT = Path(__file__).parents[3]
NUM_COLUMNS = 1 + len(ITERATION_COLUMNS) + len(RANK_COLUMNS)
PAGE = layout.PAGE_BYTES


class Tape:
    """Records everything that is done to the log's file once it is made, and what was acknowledged when.

    Attributes:
        base: the file before.
        events: ``("write", offset, data)``, ``("truncate", size)`` and ``("acknowledged", {table: rows})``.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base = b""
        self.events: list[tuple[Any, ...]] = []
        self._pwrite, self._ftruncate = os.pwrite, os.ftruncate
        monkeypatch.setattr(os, "pwrite", self.pwrite)
        monkeypatch.setattr(os, "ftruncate", self.ftruncate)

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        self._keep_base(fd)
        self.events.append(("write", offset, bytes(data)))
        return self._pwrite(fd, data, offset)

    def ftruncate(self, fd: int, size: int) -> None:
        self._keep_base(fd)
        self.events.append(("truncate", size))
        self._ftruncate(fd, size)

    def _keep_base(self, fd: int) -> None:
        if not any(kind != "acknowledged" for kind, *_ in self.events):
            self.base = os.pread(fd, os.fstat(fd).st_size, 0)

    def acknowledge(self, **rows: int) -> None:
        self.events.append(("acknowledged", rows))

    def replay(self, path: Path) -> Iterator[dict[str, int]]:
        """Make the file again, event by event; a write that spans pages, page by page too.

        Yields what was acknowledged so far, at every state that a killed process can leave.
        """
        acknowledged: dict[str, int] = {}
        path.write_bytes(self.base)
        fd = os.open(path, os.O_RDWR)
        try:
            for kind, *arguments in self.events:
                if kind == "acknowledged":
                    acknowledged |= arguments[0]
                elif kind == "truncate":
                    self._ftruncate(fd, arguments[0])
                    yield acknowledged
                else:
                    offset, data = arguments
                    cuts = [*range(PAGE - offset % PAGE, len(data), PAGE), len(data)]
                    for start, stop in zip([0, *cuts], cuts, strict=False):
                        self._pwrite(fd, data[start:stop], offset + start)
                        yield acknowledged
        finally:
            os.close(fd)


def check_acknowledged(run: Run, acknowledged: dict[str, int], world_size: int) -> None:
    """All rows in the log are right, and those acknowledged are among them."""
    log_samples.check_run(run, world_size)
    assert len(run.iterations) >= acknowledged.get("iterations", 0) * world_size
    for table in TABLES:
        assert len(getattr(run, table)) >= acknowledged.get(table, 0), table


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    monkeypatch.setattr(columns, "ATTEMPTS", 1)
    return Tape(monkeypatch)


@pytest.fixture
def tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one row."""
    monkeypatch.setattr(layout, "chunk_shape", log_samples.tiny_chunks)


def test_every_prefix_of_the_writes_keeps_acknowledged_rows(tmp_path: Path, tape: Tape) -> None:
    with log_samples.make_writer(tmp_path / "run.h5") as writer:
        writer.append_segment(log_samples.table_rows("segments", 0, 1)[0])
        tape.acknowledge(segments=1)
        for first, num_rows in ((0, 3), (3, 2)):
            writer.append_iterations(*log_samples.iterations(first, num_rows, 2))
            tape.acknowledge(iterations=first + num_rows)
        writer.append_epochs(log_samples.table_rows("epochs", 0, 2))
        tape.acknowledge(epochs=2)
        writer.append_evaluations(log_samples.table_rows("evaluations", 0, 1))
        tape.acknowledge(evaluations=1)
        writer.set_status("completed")
    for acknowledged in tape.replay(tmp_path / "replay.h5"):
        check_acknowledged(load_run(tmp_path / "replay.h5"), acknowledged, 2)
    final = load_run(tmp_path / "replay.h5")
    assert final.status == "completed"
    assert len(final.iterations) == 10


def write_with_split(writer: RunLogWriter, tape: Tape, before: int) -> None:
    """Write ``before`` iterations at once, then one more, which alone is on the tape."""
    writer.append_iterations(*log_samples.iterations(0, before, 1))
    tape.events.clear()
    tape.acknowledge(iterations=before)
    writer.append_iterations(*log_samples.iterations(before, 1, 1))
    tape.acknowledge(iterations=before + 1)


# An index node has room for 64 chunks: the root splits at the 65th, its rightmost leaf at the 122nd.
@pytest.mark.parametrize("before", [64, 121])
def test_splitting_index_nodes_loses_nothing(tmp_path: Path, tape: Tape, tiny_chunks: None, before: int) -> None:
    writer = log_samples.make_writer(tmp_path / "run.h5", 1)
    write_with_split(writer, tape, before)
    nodes = [e for e in tape.events if e[0] == "write" and e[2].startswith(b"TREE")]
    # Of each column: the node that overflows, its new sibling and their parent.
    assert len(nodes) == 3 * NUM_COLUMNS
    for acknowledged in tape.replay(tmp_path / "replay.h5"):
        check_acknowledged(load_run(tmp_path / "replay.h5"), acknowledged, 1)
    writer.close()


def test_index_nodes_lie_in_one_page_each(tmp_path: Path, tape: Tape, tiny_chunks: None) -> None:
    with log_samples.make_writer(tmp_path / "run.h5") as writer:
        writer.append_iterations(*log_samples.iterations(0, 70, 2))
    nodes = [e for e in tape.events if e[0] == "write" and e[2].startswith(b"TREE")]
    assert len(nodes) > 2 * NUM_COLUMNS
    assert {offset % PAGE for _, offset, _ in nodes} == {0}
    assert max(len(data) for _, _, data in nodes) <= PAGE


def test_headers_change_in_nothing_but_the_number_of_rows(tmp_path: Path, tape: Tape) -> None:
    """One number of 8 bytes, which a cut at a page's end cannot halve; no time of modification either."""
    with log_samples.make_writer(tmp_path / "run.h5") as writer:
        time.sleep(1.1)
        writer.append_iterations(*log_samples.iterations(0, 3, 2))
        writer.append_epochs(log_samples.table_rows("epochs", 0, 2))
    with h5py.File(tmp_path / "run.h5") as log:
        columns = [c for name in ("iterations", "epochs") for c in log[name].values() if c.chunks]
        chunks = [column.id.get_chunk_info(i) for column in columns for i in range(column.id.get_num_chunks())]
    # What is written beside the rows: the superblock, index nodes and headers, each perhaps in two parts.
    changed: dict[int, set[int]] = {}
    for kind, offset, *data in tape.events:
        in_chunk = any(chunk.byte_offset <= offset < chunk.byte_offset + chunk.size for chunk in chunks)
        if kind == "write" and offset and not in_chunk and not data[0].startswith(b"TREE"):
            words = {p // 8 for p, new in enumerate(data[0], offset) if new != tape.base[p]}
            changed[offset] = words | changed.get(offset, set())
    assert len(changed) == len(columns)
    assert {len(words) for words in changed.values()} == {1}


def test_in_the_order_of_hdf5_a_split_loses_rows(
    tmp_path: Path, tape: Tape, tiny_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why OrderedFile is there, and that the replay above would notice."""

    def commit_as_given(self: disk.OrderedFile) -> None:
        for start in self._pending:
            self._write_through(start)
        os.ftruncate(self._fd, self._size)
        self._committed_size = self._size
        self._starts.clear()
        self._pending.clear()

    monkeypatch.setattr(disk.OrderedFile, "commit", commit_as_given)
    writer = log_samples.make_writer(tmp_path / "run.h5", 1)
    write_with_split(writer, tape, 64)
    with pytest.raises((UsageError, AssertionError)):
        for acknowledged in tape.replay(tmp_path / "replay.h5"):
            check_acknowledged(load_run(tmp_path / "replay.h5"), acknowledged, 1)
    writer.close()


def start_child(path: Path, num_steps: int, ending: str = "close") -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.single.record.log_child", str(path), str(num_steps), ending]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_process_leaves_what_it_acknowledged(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    path = tmp_path / "run.h5"
    with start_child(path, 10**6) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(generator.randrange(1, 200))]
        # Not right after a line: anywhere in the next appends.
        time.sleep(generator.random() * 0.01)
        child.kill()
        lines += [line for line in child.stdout.readlines() if line.endswith("\n")]
    acknowledged = {name: int(count) for name, count in map(str.split, lines)}
    run = load_run(path)
    assert run.status == "running"
    check_acknowledged(run, acknowledged, 2)


def test_reading_beside_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with start_child(path, 10**6) as child:
        assert child.stdout is not None
        try:
            child.stdout.readline()
            for _ in range(3):
                before = 0
                for _ in range(30):
                    name, count = child.stdout.readline().split()
                    before = int(count) if name == "iterations" else before
                check_acknowledged(load_run(path), {"iterations": before}, 2)
        finally:
            child.kill()


def test_a_process_that_ends_without_closing_leaves_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with start_child(path, 5, "exit") as child:
        _, errors = child.communicate()
    assert child.returncode == 0, errors
    assert errors == ""
    check_acknowledged(load_run(path), {"iterations": 5}, 2)
