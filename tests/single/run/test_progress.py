"""The progress of a run: what it says after how many steps, and that it is quiet in between."""

from __future__ import annotations

import pytest

from hpcsgd.record import look
from hpcsgd.record.kept import LastIteration
from hpcsgd.run.progress import Progress

LAST = LastIteration(step=23, loss=1.25, samples_per_second=12345.6, exposed_fraction=0.125)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says."""
    now = [0.0]
    monkeypatch.setattr(look.time, "monotonic", lambda: now[0])
    return now


def test_lines_show_the_figures(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("lines", 200, 50, first_step=5, checkpoint_every=(0, 30, 500))
    assert not progress.show(5, None)
    assert progress.show(25, LAST)
    assert not progress.show(26, LAST)
    clock[0] = 40.0
    assert progress.show(45, LAST)
    progress.say("evaluated", 50)
    progress.close(200, LAST)
    assert capsys.readouterr().err.splitlines() == [
        "step 25/200: 12,346 samples/s, loss 1.2500, exposed 12.5 %, epoch 0.50",
        # 40 steps took 40 s.
        "step 45/200: 12,346 samples/s, loss 1.2500, exposed 12.5 %, 3 min left, checkpoint in 15 s, epoch 0.90",
        "step 50/200: evaluated",
    ]


def test_a_checkpoint_after_the_end_is_none(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("lines", 200, 50, checkpoint_every=(150,))
    clock[0] = 80.0
    assert progress.show(160, None)
    assert capsys.readouterr().err == "step 160/200: 20 s left, epoch 3.20\n"


def test_a_bar_goes_to_the_end(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("bar", 10, 5)
    assert progress.show(9, LAST)
    progress.close(10, LAST)
    shown = capsys.readouterr().err
    assert "step 10/10" in shown and "loss 1.2500" in shown


def test_of_a_loop_without_an_end_the_steps_are_counted(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("lines", None, None)
    clock[0] = 10.0
    assert progress.show(7, LAST)
    assert capsys.readouterr().err == "step 7: 12,346 samples/s, loss 1.2500, exposed 12.5 %\n"


def test_nothing_is_shown_where_nothing_is_asked_for(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("none", 10, 5)
    clock[0] = 1e6
    assert not progress.show(1, LAST)
    progress.close(10, LAST)
    assert capsys.readouterr().err == ""
