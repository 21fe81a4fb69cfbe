"""The watchdog: who is named, and that nobody is named in vain."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcsgd.comm.watchdog import Watchdog

PATIENCE_SECONDS = 60


def test_ranks_that_do_not_come_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = threading.Event()
    dogs = [Watchdog(rank, 4, lambda code: ended.set()) for rank in range(4)]

    def waits(dog: Watchdog) -> None:
        with dog.watch("sum"):
            ended.wait(PATIENCE_SECONDS)

    threads = [threading.Thread(target=waits, args=(dogs[rank],)) for rank in (1, 3)]
    with on_guard(dogs, tmp_path / "watch", 0.2):
        for thread in threads:
            thread.start()
        assert ended.wait(PATIENCE_SECONDS)
        for thread in threads:
            thread.join()
    said = capsys.readouterr().err
    assert "hpcsgd: rank 1 has waited" in said and "in sum" in said and "did not come: [0, 2]" in said


def test_short_collectives_raise_no_alarm(tmp_path: Path) -> None:
    codes: list[int] = []
    dog = Watchdog(0, 2, codes.append)
    with on_guard([dog], tmp_path / "watch", 30):
        for _ in range(50):
            with dog.watch("sum"), dog.watch("inner"):
                time.sleep(0.001)
        assert codes == [] and not (tmp_path / "watch").exists()


def alone(folder: Path | None, said: str, capsys: pytest.CaptureFixture[str], first: str | None = None) -> None:
    """Rank 1 of 2 waits, and nobody else looks: it ends the job and says ``said``."""
    ended = threading.Event()
    dog = Watchdog(1, 2, lambda code: ended.set())
    if first is not None and folder is not None:
        folder.mkdir()
        (folder / "waits-0").write_text(first)
    dog.folder = folder
    with dog.on_guard(0.2), dog.watch("sum"):
        assert ended.wait(PATIENCE_SECONDS)
    assert said in capsys.readouterr().err


def test_without_a_directory_nobody_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    alone(None, "rank 1 has waited", capsys)


def test_where_the_directory_cannot_be_written_nobody_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    alone(tmp_path / "file" / "watch", "who did not come cannot be told", capsys)


def test_a_lowest_rank_that_does_not_act_is_not_waited_for_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone(tmp_path / "watch", "all ranks wait: 0 in barrier, 1 in sum", capsys, first="barrier")


@contextlib.contextmanager
def on_guard(dogs: list[Watchdog], folder: Path, deadline_seconds: float) -> Iterator[None]:
    """All of them, with one directory."""
    with contextlib.ExitStack() as stack:
        for dog in dogs:
            dog.folder = folder
            stack.enter_context(dog.on_guard(deadline_seconds))
        yield


def test_a_rank_that_goes_on_takes_its_answer_back(tmp_path: Path) -> None:
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "waits-1").touch()  # another rank has raised the alarm
    dog = Watchdog(0, 3, lambda code: None)
    deadline = time.monotonic() + PATIENCE_SECONDS
    with on_guard([dog], folder, 2):
        with dog.watch("sum"):
            while not (folder / "waits-0").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert (folder / "waits-0").exists()
        while (folder / "waits-0").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert folder.exists() and not (folder / "waits-0").exists()
    assert not folder.exists()
