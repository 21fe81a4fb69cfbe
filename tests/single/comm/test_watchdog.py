"""The watchdog: who is named, and that nobody is named in vain."""

from __future__ import annotations

import threading
import time
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
    for dog in dogs:
        dog.start(tmp_path / "watch", deadline_seconds=0.2)
    for thread in threads:
        thread.start()
    assert ended.wait(PATIENCE_SECONDS)
    for thread in threads:
        thread.join()
    for dog in dogs:
        dog.close()
    said = capsys.readouterr().err
    assert "hpcsgd: rank 1 has waited" in said and "in sum" in said and "did not come: [0, 2]" in said


def test_short_collectives_raise_no_alarm(tmp_path: Path) -> None:
    codes: list[int] = []
    dog = Watchdog(0, 2, codes.append)
    dog.start(tmp_path / "watch", deadline_seconds=30)
    for _ in range(50):
        with dog.watch("sum"), dog.watch("inner"):
            time.sleep(0.001)
    dog.close()
    assert codes == [] and not (tmp_path / "watch").exists()


def test_a_rank_that_goes_on_takes_its_answer_back(tmp_path: Path) -> None:
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "waits-1").touch()  # another rank has raised the alarm
    dog = Watchdog(0, 3, lambda code: None)
    dog.start(folder, deadline_seconds=2)
    deadline = time.monotonic() + PATIENCE_SECONDS
    with dog.watch("sum"):
        while not (folder / "waits-0").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (folder / "waits-0").exists()
    while (folder / "waits-0").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not (folder / "waits-0").exists()
    dog.close()
