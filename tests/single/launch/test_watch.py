"""``hpcsgd watch``: what it says of runs that go on, end, fall silent or are not there yet."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpcsgd.cli import main
from hpcsgd.errors import UsageError
from hpcsgd.launch import watch
from hpcsgd.launch.watch import HEAD, Row, Watcher, table
from tests.single.analysis.fake_runs import FakeRun, constant

LONG = tuple("1234567890/1234567890 12345.67 1,234,567 12.3456 1234567890123456 12.3_% 12345 4.2_days 12_s_ago".split())

NOW = time.time()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ``NOW``, however long ago that was."""
    monkeypatch.setattr(watch.time, "time", lambda: NOW)


def write(directory: Path, age: float = 0.0, **changes: Any) -> Path:
    """A run of 30 of 60 steps, the log of which was written so many seconds before ``NOW``."""
    spans = {"forward_seconds": constant(0.1, 30, 2) * [1, 1.25]}
    facts: dict[str, Any] = {"provenance": {"total_steps": 60}, "status": "running"}
    FakeRun(spans, ["gradient"] * 30, **(facts | changes)).write(directory)
    written = NOW - age
    os.utime(directory / "run.h5", (written, written))
    return directory


def cells(row: Row) -> dict[str, str]:
    return dict(zip(HEAD, (row.run, row.state, *row.cells), strict=True))


def test_runs_of_several_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a" / "going", 3.0)
    write(tmp_path / "a" / "silent", 300.0)
    write(tmp_path / "b", 300.0, status="completed", accuracies=(0.5,), steps_per_epoch=30)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.h5").write_bytes(b"nothing")
    found = [cells(row) for row in Watcher([Path("a"), Path("b"), Path("empty"), Path("bad")]).rows()]
    rows = {row["run"]: row for row in found}
    assert list(rows) == ["empty", "a/going", "a/silent", "b", "bad"]
    assert rows["a/going"]["state"] == "running" and rows["a/going"]["last row"] == "3 s ago"
    assert (rows["a/going"]["steps"], rows["a/going"]["left"]) == ("30/60", "3 s")
    assert rows["a/going"]["slowest rank"] == "1 (+11 %)"
    assert rows["a/silent"]["state"] == "no row for 5 min"
    assert (rows["b"]["state"], rows["b"]["metric"], rows["b"]["left"]) == ("completed", "test accuracy 50.00 %", "-")
    assert rows["empty"]["state"] == "no log yet"
    assert rows["bad"]["state"].startswith("unreadable: cannot be read as a run log")


def test_runs_that_come_later_are_found_and_those_that_go_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FIND_SECONDS", 0.0)
    watcher = Watcher([tmp_path])
    assert [row.state for row in watcher.rows()] == ["no log yet"]
    write(tmp_path / "one")
    assert [row.state for row in watcher.rows()] == ["running"]
    (tmp_path / "one" / "run.h5").rename(tmp_path / "one" / "aside.h5")
    assert [row.state for row in watcher.rows()] == ["no log yet"]


@pytest.mark.parametrize("width", [200, 100, 80, 40, 20])
def test_lines_fit_the_terminal(width: int) -> None:
    lines = table([Row("runs/first", "running", cells=LONG), Row("runs/b", "completed", True)], width, 24)
    assert max(map(len, lines)) <= width and len(lines) == 4
    if width == 80:
        assert lines[1].split() == ["run", "state", "steps", "samples/s", "left", "last", "row"]
    alone = table([Row("runs/first", "running", cells=LONG)], width, 24)
    assert max(map(len, alone)) <= width and len(alone) == 1 + len(HEAD)


def test_of_many_runs_those_that_go_on_come_first() -> None:
    rows = [Row(f"run{number}", "completed", True) for number in range(30)] + [Row("last", "running")]
    lines = table(rows, 80, 10)
    assert len(lines) == 9 and lines[2].startswith("last") and lines[-1] == "... and 25 more"


def test_once_prints_a_table_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "run")
    assert main(["watch", "--once", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["run", "state", "steps"] and lines[1].split()[1:3] == ["running", "30/60"]
    assert len(lines) == 2


@pytest.mark.parametrize("words", [["nowhere"], [".", "--every", "0"], [".", "--every", "nan"], []])
def test_mistakes_are_said(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        watch.watch(words)


def test_ctrl_c_ends_it_and_gives_the_terminal_back(tmp_path: Path) -> None:
    # Another process has a clock of its own.
    os.utime(write(tmp_path / "run") / "run.h5")
    master, slave = os.openpty()
    command = [sys.executable, "-m", "hpcsgd.cli", "watch", str(tmp_path), "--every", "0.1"]
    # A shell's jobs in the background ignore Ctrl-C, and hand that on.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=subprocess.PIPE, preexec_fn=heeding)
    os.close(slave)
    shown = b""
    while b"running" not in shown:
        shown += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):
        while part := os.read(master, 65536):
            shown += part
    _, said = process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 0 and said == b""
    assert shown.index(b"\x1b[?1049h\x1b[?25l") < shown.index(b"\x1b[?25h\x1b[?1049l") < shown.rindex(b"running")
