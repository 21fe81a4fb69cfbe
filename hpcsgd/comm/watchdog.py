"""A watchdog for collectives: a rank that is stopped or hangs is otherwise never noticed.

Every blocking collective is announced by :meth:`Watchdog.watch`. A thread looks at the clock: where this rank waits
longer than the deadline, it raises an alarm, a file in a directory that all ranks see. Every rank that then waits in a
collective says so by a file of its own; the others do not, be they stopped or busy elsewhere. The lowest rank that
waits names those that did not come, prints every thread's stack and ends the job.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_SECONDS = 0.5
"""Time between two looks at the clock, and for the alarm, at most."""

GRACE_LOOKS = 4
"""Looks that the ranks get to answer an alarm."""


class Watchdog:
    """Ends the job when this rank waits too long in a collective; does nothing before :meth:`start`."""

    def __init__(self, rank: int, size: int, abort: Callable[[int], None]) -> None:
        """
        Args:
            rank: this rank.
            size: ranks.
            abort: ends the job with an exit code.
        """
        self.rank = rank
        self.size = size
        self.deadline_seconds = float("inf")
        self._abort = abort
        # One entry a thread; each is set and removed in one operation, so that the watching thread sees whole ones.
        self._present: dict[int, tuple[str, float]] = {}
        self._answered = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, folder: Path, deadline_seconds: float) -> None:
        """Begin to look.

        Args:
            folder: a directory that all ranks see, of this start alone; made when needed.
            deadline_seconds: the longest that a collective may take.
        """
        self.folder = folder
        self.deadline_seconds = deadline_seconds
        self._answer = folder / f"waits-{self.rank}"
        self._stop.clear()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def watch(self, name: str) -> Iterator[None]:
        """The body is the collective ``name``."""
        thread = threading.get_ident()
        outer = self._present.get(thread)
        self._present[thread] = outer or (name, time.monotonic())
        try:
            yield
        finally:
            if outer is None:
                del self._present[thread]

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _oldest(self) -> tuple[str, float] | None:
        """The collective that this rank has been in for longest."""
        return min(list(self._present.values()), key=lambda entry: entry[1], default=None)

    def _look(self) -> None:
        """The thread."""
        interval = min(LOOK_SECONDS, self.deadline_seconds / 4)
        while not self._stop.wait(interval):
            present = self._oldest()
            if present is None:
                self._withdraw()
                continue
            overdue = time.monotonic() - present[1] >= self.deadline_seconds
            if not overdue and not self.folder.exists():
                continue
            self.folder.mkdir(parents=True, exist_ok=True)
            self._answer.touch()
            self._answered = True
            waiting = self._answers(interval)
            if self._oldest() is not present:
                self._withdraw()
            elif overdue and self.rank == waiting[0]:
                self._end_job(*present, waiting)
                return

    def _withdraw(self) -> None:
        """This rank waits no longer."""
        if self._answered:
            self._answer.unlink(missing_ok=True)
            self._answered = False

    def _answers(self, interval: float) -> list[int]:
        """The ranks that say they wait, after they had the time to."""
        waiting: list[int] = []
        for _ in range(GRACE_LOOKS):
            time.sleep(interval)
            waiting = sorted(int(path.name.partition("-")[2]) for path in self.folder.glob("waits-*"))
            if len(waiting) == self.size - 1:
                break
        return waiting

    def _end_job(self, name: str, start: float, waiting: list[int]) -> None:
        """Name the ranks that did not come, show where this one is, and abort."""
        missing = sorted(set(range(self.size)) - set(waiting))
        print(
            f"hpcsgd: rank {self.rank} has waited {time.monotonic() - start:.1f} s in {name} "
            f"(deadline {self.deadline_seconds:g} s); ranks that did not come: {missing}; the job ends",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(file=2)
        self._abort(1)
