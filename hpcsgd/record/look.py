"""How what goes on is shown, wherever it does: one living line in a terminal, rare plain lines in a file.

Runs, studies, a session's own loop and ``hpcsgd watch`` say the same figures in the same words and the same order.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

LIVE_SECONDS = 0.5
"""Between two drawings of a living line."""

FIRST_LINE_SECONDS, LAST_LINE_SECONDS = 10.0, 300.0
LINES_AN_AGE = 20
"""A file gets a line when a 20th of the time so far has gone by, but at most one in 10 s, and one in 5 min at least."""

NUM_ESSENTIAL = 4
"""The first figures of a line, which come before its bar where there is no room for both."""

BAR_COLUMNS = 8, 30
WIDTH = 80
"""Of a terminal that does not tell its own."""


def is_terminal(stream: TextIO) -> bool:
    """Whether the user sees ``stream`` in a terminal, also through mpirun, which hands its ranks a pipe."""
    return stream.isatty() or _launchers_terminal() is not None


def terminal_width(stream: TextIO) -> int:
    """Columns of the terminal in which the user sees ``stream``."""
    launcher = _launchers_terminal()
    try:
        if stream.isatty() or launcher is None:
            return os.get_terminal_size(stream.fileno()).columns or WIDTH
        descriptor = os.open(launcher, os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.get_terminal_size(descriptor).columns or WIDTH
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return WIDTH


def _launchers_terminal() -> str | None:
    """The terminal that mpirun shows what its ranks write to stderr in; None: there is none."""
    if "OMPI_COMM_WORLD_SIZE" not in os.environ:
        return None
    try:
        launcher = os.readlink(f"/proc/{os.getppid()}/fd/2")
    except OSError:
        return None
    return launcher if launcher.startswith(("/dev/pts/", "/dev/tty")) else None


def in_words(seconds: float) -> str:
    """A time as one reads it: ``45 s``, ``12 min``, ``3.5 h``, ``4.2 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def rate_text(samples_per_second: float) -> str:
    """A rate, to three figures at least."""
    return f"{samples_per_second:,.0f}" if samples_per_second >= 100 else f"{samples_per_second:.3g}"


def figures(
    samples_per_second: float = math.nan,
    loss: float = math.nan,
    exposed_fraction: float = math.nan,
    seconds_left: float | None = None,
    checkpoint_seconds: float | None = None,
    epochs: float | None = None,
    *,
    emulated: bool = False,
) -> list[str]:
    """What is said of a run that goes on, most important first; what is NaN or None is left out.

    Args:
        samples_per_second: of all ranks.
        loss: of the latest iteration.
        exposed_fraction: share of the time in communication that compute did not hide.
        seconds_left: to the end of the run.
        checkpoint_seconds: to the next checkpoint.
        epochs: done.
        emulated: times are those of a machine that is not there.
    """
    texts = (
        (samples_per_second, f"{'emulated ' * emulated}{rate_text(samples_per_second)} samples/s"),
        (loss, f"loss {loss:.4f}"),
        (exposed_fraction, f"exposed {exposed_fraction:.1%}".replace("%", " %")),
        (seconds_left, f"{in_words(seconds_left or 0)} left"),
        (checkpoint_seconds, f"checkpoint in {in_words(checkpoint_seconds or 0)}"),
        (epochs, f"epoch {epochs or 0:.2f}"),
    )
    return [text for value, text in texts if value is not None and not math.isnan(value)]


def fitting(texts: Iterable[str], width: int, between: str = ", ") -> list[str]:
    """The first of the ``texts`` that stand in one line of so many columns: none is cut in two."""
    found: list[str] = []
    for text in texts:
        width -= len(text) + (len(between) if found else 0)
        if width < 0:
            break
        found.append(text)
    return found


class Display:
    """A living line, or rare lines, or nothing, on stderr.

    Attributes:
        kind: ``bar``, ``lines`` or ``none``.
        next: when it is time to show something, by ``time.monotonic()``: what is shown may take time to find out.
    """

    def __init__(self, kind: str, unit: str, total: int | None) -> None:
        """
        Args:
            kind: one of the kinds, or ``auto``: a bar in a terminal, else lines.
            unit: what is counted: ``step``.
            total: of these; None: nobody knows.
        """
        if kind == "auto":
            kind = "bar" if is_terminal(sys.stderr) else "lines"
        self.kind = kind
        self.unit = unit
        self.total = total
        self._begun = time.monotonic()
        self.next = {"bar": self._begun, "lines": self._begun + FIRST_LINE_SECONDS}.get(kind, math.inf)
        self._bar: Any = None

    @property
    def due(self) -> bool:
        """Whether it is time to show something."""
        return time.monotonic() >= self.next

    def show(self, done: int, texts: Sequence[str]) -> None:
        """Show how much is done, and figures, most important first; also where it is not time to."""
        now = time.monotonic()
        if self.kind == "bar":
            self.next = now + LIVE_SECONDS
            self._draw(done, texts)
        elif self.kind == "lines":
            pause = (now - self._begun) / LINES_AN_AGE
            self.next = now + min(max(pause, FIRST_LINE_SECONDS), LAST_LINE_SECONDS)
            self.say(done, ", ".join(texts))

    def say(self, done: int, text: str) -> None:
        """Show a line that must not be missed, above a living one."""
        line = self._count(done) + (f": {text}" if text else "")
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        elif self.kind != "none":
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line, which stays."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _count(self, done: int) -> str:
        return f"{self.unit} {done}" + (f"/{self.total}" if self.total is not None else "")

    def _draw(self, done: int, texts: Sequence[str]) -> None:
        """The living line: as many figures as there is room for, then a bar."""
        # The last column stays free: some terminals begin a new line after it.
        width = terminal_width(sys.stderr) - 1
        count = self._count(done)
        room = width - len(count) - 2
        shown = fitting(texts[:NUM_ESSENTIAL], room)
        bar = 0
        if self.total and room - len(", ".join(shown)) >= BAR_COLUMNS[0] + 3:
            shown = fitting(texts, room - BAR_COLUMNS[0] - 3) if shown == list(texts[:NUM_ESSENTIAL]) else shown
            bar = min(BAR_COLUMNS[1], room - len(", ".join(shown)) - 3)
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=self.total, file=sys.stderr, ncols=width, bar_format="{desc}")
        line = self._bar
        line.n, line.ncols = done, width
        line.bar_format = f"{count} |{{bar:{bar}}}| {{desc}}" if bar else f"{count}: {{desc}}"
        line.set_description_str(", ".join(shown))
