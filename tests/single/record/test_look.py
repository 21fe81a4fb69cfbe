"""The look of what goes on: words, what fits in a line, a living line and rare ones."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import pytest

from hpcsgd.record import look
from hpcsgd.record.look import Display, figures, fitting, in_words, is_terminal, terminal_width

TEXTS = ["12,346 samples/s", "loss 1.2500", "exposed 12.5 %", "12 min left", "checkpoint in 45 s", "epoch 0.50"]


class Clock:
    """A clock that stands until it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(look.time, "monotonic", lambda: self.now)


@pytest.mark.parametrize(
    ("seconds", "words"), [(44.6, "45 s"), (720, "12 min"), (12600, "3.5 h"), (300000, "3.5 days"), (0, "0 s")]
)
def test_times_read_well(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_figures_are_in_one_order_and_what_is_not_known_is_left_out() -> None:
    assert figures(12345.6, 1.25, 0.125, 720, 45, 0.5) == TEXTS
    assert figures(12.34, math.nan, emulated=True) == ["emulated 12.3 samples/s"]
    assert figures(loss=math.inf) == ["loss inf"]


def test_a_line_is_cut_between_figures() -> None:
    whole = ", ".join(TEXTS)
    assert fitting(TEXTS, len(whole)) == TEXTS
    assert fitting(TEXTS, len(whole) - 1) == TEXTS[:-1]
    assert fitting(TEXTS, 5) == []


def drawn(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The last state of a living line in a terminal of so many columns."""
    monkeypatch.setattr(look, "terminal_width", lambda _stream: width)
    display = Display("bar", "step", 200)
    display.show(25, TEXTS)
    display.close()
    return capsys.readouterr().err.split("\r")[-1].rstrip()


@pytest.mark.parametrize(
    ("width", "ends", "bars"),
    [
        (20, "step 25/200:", 0),
        (60, "exposed 12.5 %", 0),
        (80, "12 min left", 0),
        (100, "12 min left", 2),
        (120, "epoch 0.50", 2),
    ],
)
def test_a_living_line_fits_the_terminal(
    width: int, ends: str, bars: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = drawn(width, monkeypatch, capsys)
    assert len(line) < width and line.startswith("step 25/200") and line.endswith(ends)
    assert line.count("|") == bars


def test_a_living_line_goes_on_below_what_must_not_be_missed(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display("bar", "step", None)
    display.show(3, ["loss 1.0000"])
    display.say(3, "evaluated")
    display.show(4, ["loss 0.5000"])
    display.close()
    shown = capsys.readouterr().err
    assert [line.split("\r")[-1].rstrip() for line in shown.rstrip("\n").split("\n")] == [
        "step 3: evaluated",
        "step 4: loss 0.5000",
    ]


def test_lines_become_rarer_and_none_comes_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    display = Display("lines", "step", 100000)
    times = []
    for second in range(24 * 3600):
        clock.now = 1000.0 + second
        if display.due:
            display.show(second, ["loss 1.0000"])
            times.append(second)
    assert times[:3] == [10, 20, 30]
    pauses = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert pauses == sorted(pauses) and pauses[-1] == 300 and len(times) < 400
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 10/100000: loss 1.0000" and len(lines) == len(set(lines)) == len(times)


def test_nothing_is_shown_where_nothing_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display("none", "step", 2)
    assert not display.due
    display.show(1, TEXTS)
    display.say(2, "evaluated")
    display.close()
    assert capsys.readouterr().err == ""


def test_a_file_is_no_terminal(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        assert not is_terminal(stream)
        assert terminal_width(stream) == look.WIDTH


def test_the_terminal_of_the_launcher_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    master, slave = os.openpty()
    os.set_inheritable(slave, True)
    try:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 57, 0, 0))
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
        monkeypatch.setattr(look.os, "readlink", lambda _path: os.ttyname(slave))
        with (tmp_path / "pipe").open("w") as stream:
            assert is_terminal(stream) and terminal_width(stream) == 57
    finally:
        os.close(master)
        os.close(slave)
    assert sys.stderr is not None
