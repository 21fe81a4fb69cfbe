"""What a run on the pretend GPU is asked for: its races, foreign devices, waits, launches, events."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_HERE = str(Path(__file__).parent)


class PretendError(RuntimeError):
    """What CUDA would refuse."""


@dataclass
class Findings:
    """Counts of a run, by what and where.

    Attributes:
        races: accesses to one memory that nothing orders.
        foreign: uses of a device that is not the rank's.
        waits: of the host for a stream.
        launches: kernels, copies and graphs put into a queue, each a few microseconds of the host's.
        events: recorded.
    """

    races: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    launches: int = 0
    events: int = 0

    def marks(self) -> tuple[int, int, int]:
        """Launches, events and waits so far."""
        return self.launches, self.events, self.waits.total()

    def clear(self) -> None:
        """Begin anew."""
        for counter in (self.races, self.foreign, self.waits):
            counter.clear()
        self.launches = self.events = 0


def where() -> str:
    """The line of the package that the present call comes from; outside of the package, of whoever called."""
    frame, first = sys._getframe(1), ""
    while frame is not None:
        file = _file(frame.f_code.co_filename)
        if file.is_ours:
            return f"{file.name}:{frame.f_lineno}"
        if not first and file.is_callers:
            first = f"{file.name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return first


class _File(NamedTuple):
    """A source: its short name, whether it is the package's, or of one who calls it or torch."""

    name: str
    is_ours: bool
    is_callers: bool


@functools.cache
def _file(path: str) -> _File:
    """The source at ``path``."""
    is_ours = "/hpcsgd/" in path and "/tests/" not in path
    return _File("/".join(Path(path).parts[-2:]), is_ours, not (path.startswith((_HERE, "<")) or "/torch/" in path))
