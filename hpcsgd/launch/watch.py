"""``hpcsgd watch``: runs as they go on, from their logs alone. Nobody asks their processes, or Slurm."""

from __future__ import annotations

import contextlib
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hpcsgd.config import paths
from hpcsgd.errors import UsageError
from hpcsgd.files import Finder
from hpcsgd.launch.options import make_parser, parse
from hpcsgd.launch.status import columns, shortest
from hpcsgd.record.look import in_words, rate_text
from hpcsgd.record.reader import FILE_NAME
from hpcsgd.record.tail import Follower, Tail
from hpcsgd.run import streams

FIND_SECONDS = 10.0
"""Between two looks at which runs there are."""

NO_LOG = "no log yet"
SILENT_SECONDS = 60.0
SILENT_FLUSHES = 5
"""A run is silent whose log was not written for so many of its usual pauses, and for so long at least."""

COLUMNS = ("steps", "epoch", "samples/s", "loss", "metric", "exposed", "slowest rank", "left", "last row")
HEAD = ("run", "state", *COLUMNS)

FIRST_TO_GO = ("epoch", "slowest rank", "exposed", "metric", "loss", "samples/s", "last row", "left", "steps")
"""Columns that are left out where the terminal is too narrow, in this order."""


class Row(NamedTuple):
    """What is told of a run, a text for each of ``COLUMNS``; ``ended``: nothing more will come."""

    run: str
    state: str
    ended: bool = False
    cells: tuple[str, ...] = ("-",) * len(COLUMNS)


class Watcher:
    """Looks at the logs of some files and directories."""

    def __init__(self, given: Sequence[Path]) -> None:
        """
        Args:
            given: run logs, run directories, or directories with such below.

        Raises:
            UsageError: one of them is not there.
        """
        for path in given:
            if not path.exists():
                raise UsageError(f"{path}: there is no such file or directory")
        self._given = given
        self._empty: list[Path] = []
        self._followers: dict[Path, Follower] = {}
        self._next_find = -math.inf

    def rows(self) -> list[Row]:
        """What is to be told now, a row a run."""
        if time.monotonic() >= self._next_find:
            self._find()
            self._next_find = time.monotonic() + FIND_SECONDS
        found = [Row(str(shortest(path)), NO_LOG) for path in self._empty]
        for file, follower in self._followers.items():
            shown = str(shortest(file.parent if file.name == FILE_NAME else file))
            try:
                tail = follower.look()
                found.append(Row(shown, NO_LOG) if tail is None else _row(shown, tail, time.time()))
            except UsageError as error:
                found.append(Row(shown, f"unreadable: {str(error).removeprefix(f'{file}: ')}"))
        return found

    def _find(self) -> None:
        """Look for logs that are new; those that were there stay, as one that is put aside may come again."""
        self._empty = []
        for given in self._given:
            for file in Finder().files(given, {FILE_NAME}) if given.is_dir() else [given]:
                self._followers.setdefault(file, Follower(file))
            if given not in self._followers and not any(given in file.parents for file in self._followers):
                self._empty.append(given)


def _row(shown: str, tail: Tail, now: float) -> Row:
    """The row of a run whose log ends with ``tail``."""
    age = max(0.0, now - tail.written)
    usual = 0.0 if math.isnan(tail.flush_seconds) else tail.flush_seconds
    state = tail.status
    if state == "running" and age > max(SILENT_SECONDS, SILENT_FLUSHES * usual):
        state = f"no row for {in_words(age)}"
    going = tail.status == "running"
    excess = f"{tail.slowest_rank} (+{100 * tail.slowest_excess:.0f} %)"
    cells = (
        f"{tail.num_steps}" + (f"/{tail.total_steps}" if tail.total_steps else ""),
        f"{tail.epochs:.2f}" if tail.epochs is not None else "-",
        _known(tail.samples_per_second, rate_text),
        _known(tail.loss, lambda value: f"{value:.4f}"),
        tail.metric or "-",
        _known(tail.exposed_fraction, lambda value: f"{100 * value:.1f} %"),
        excess if tail.slowest_rank is not None and not math.isnan(tail.slowest_excess) else "-",
        in_words(tail.seconds_left) if going and tail.seconds_left is not None else "-",
        f"{in_words(age)} ago" if tail.num_steps else "none yet",
    )
    return Row(shown, state, not going, cells)


def _known(value: float, text: Callable[[float], str]) -> str:
    """A number in words; one that is not known is a dash."""
    return "-" if math.isnan(value) else text(value)


def table(rows: Sequence[Row], width: int | None = None, height: int | None = None) -> list[str]:
    """The rows as lines.

    Args:
        rows: one a run.
        width: columns of the terminal: what does not fit is left out, and at last cut; None: all is told.
        height: lines of the terminal: of what does not fit, runs that go on come first.
    """
    head = f"{len(rows)} run{'s' * (len(rows) != 1)}, {time.strftime('%Y-%m-%d %H:%M:%S')}"
    if width is not None and len(rows) == 1:
        texts = (rows[0].run, rows[0].state, *rows[0].cells)
        names = max(map(len, HEAD)) + 2
        facts = (f"{name:<{names}}{text}" for name, text in zip(HEAD, texts, strict=True) if text != "-")
        return [_cut(line, width) for line in (head, *facts)][:height]
    shown, rest = list(rows), []
    if height is not None and len(rows) > height - 3:
        shown = sorted(rows, key=lambda row: row.ended)[: max(1, height - 4)]
        rest = [f"... and {len(rows) - len(shown)} more"]
    cells = [HEAD, *((row.run, row.state, *row.cells) for row in shown)]
    lines = columns(cells)
    for name in FIRST_TO_GO:
        if width is None or max(map(len, lines)) <= width:
            break
        place = cells[0].index(name)
        cells = [(*line[:place], *line[place + 1 :]) for line in cells]
        lines = columns(cells)
    found = [head, *lines, *rest]
    return found if width is None else [_cut(line, width) for line in found[:height]]


def _cut(line: str, width: int) -> str:
    """A line of at most so many columns."""
    return line if len(line) <= width else f"{line[: max(0, width - 3)]}..."


@contextmanager
def screen() -> Iterator[Callable[[list[str]], None]]:
    """A screen of its own; gives what draws lines on it. Afterwards the terminal is as it was, with the last lines."""
    last: list[str] = []

    def draw(lines: list[str]) -> None:
        last[:] = lines
        # From the top, each line to its end, and nothing below: it does not flicker.
        text = "".join(f"{line}\x1b[K\r\n" for line in lines[:-1]) + f"{lines[-1]}\x1b[K"
        print(f"\x1b[H{text}\x1b[J", end="", flush=True)

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    print("\x1b[?1049h\x1b[?25l", end="", flush=True)
    try:
        yield draw
    finally:
        print("\x1b[?25h\x1b[?1049l" + "\n".join(last), flush=True)
        signal.signal(signal.SIGTERM, before)


@contextmanager
def plain() -> Iterator[Callable[[list[str]], None]]:
    """Gives what prints lines where more has changed in them than the time of day and ages."""
    last: list[list[str]] = []

    def draw(lines: list[str]) -> None:
        told = [line.rpartition("  ")[0] for line in lines[1:]]
        if not last or last[0] != told:
            print("\n".join(lines), end="\n\n", flush=True)
        last[:] = [told]

    yield draw


def watch(words: list[str]) -> int:
    """``hpcsgd watch RUN...``; gives the exit code, 0 also where it is ended by Ctrl-C."""
    parser = make_parser("watch", "Look at runs as they go on, by their logs alone; Ctrl-C ends it.")
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=paths.argument, help="run directories or logs, or directories of them"
    )
    parser.add_argument("--every", type=float, metavar="N", default=2.0, help="seconds between two looks; default 2")
    parser.add_argument("--once", action="store_true", help="print how they are now, as a table, and end")
    arguments, _ = parse(parser, words)
    if not 0.1 <= arguments.every <= 86400:
        raise UsageError(f"watch: --every is {arguments.every:g}; it must be a number of seconds from 0.1 to 86400")
    watcher = Watcher([Path(run) for run in arguments.runs])
    if arguments.once:
        print("\n".join(table(watcher.rows())[1:]))
        return 0
    living = sys.stdout.isatty()
    with contextlib.suppress(KeyboardInterrupt), screen() if living else plain() as draw:
        # A reader that has left wants no more.
        while not streams.is_lost():
            size = shutil.get_terminal_size() if living else None
            rows = watcher.rows()
            draw(table(rows) if size is None else table(rows, size.columns, size.lines))
            time.sleep(arguments.every)
    return 0
