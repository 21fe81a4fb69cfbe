"""A watchdog for collectives: a rank that is stopped or hangs is otherwise never noticed.

Every blocking collective is announced by :meth:`Watchdog.watch`. A thread looks at the clock: where this rank waits
longer than the deadline, it raises an alarm, a file in a directory that all ranks see. Every rank that then waits in a
collective says so, and in which, by a file of its own; the others do not, be they stopped or busy elsewhere. The lowest
rank that waits names those that did not come, prints every thread's stack and ends the job. If that rank is stopped
just then, any other that has waited twice as long does it; and where there is no such directory, or its disk is full,
nobody can be named.
"""

from __future__ import annotations

import contextlib
import faulthandler
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

LOOK_SECONDS = 0.5
"""Time between two looks at the clock, and for the alarm, at most."""

GRACE_LOOKS = 4
"""Looks that the ranks get to answer an alarm."""


class _Watch:
    """Notes that its thread is in a collective; inside of another one, that one stays noted.

    A class: a generator would take three times as long to go in and out, at every step.
    """

    __slots__ = ("_name", "_outermost", "_present", "_thread")

    def __init__(self, present: dict[int, tuple[str, float]], name: str) -> None:
        """``present`` is the watchdog's."""
        self._present = present
        self._name = name

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._outermost = self._thread not in self._present
        if self._outermost:
            self._present[self._thread] = (self._name, time.monotonic())

    def __exit__(self, *_error: object) -> None:
        if self._outermost:
            del self._present[self._thread]


class Watchdog:
    """Ends the job when this rank waits too long in a collective, inside of :meth:`on_guard`.

    Attributes:
        rank, size: this rank, and how many there are.
        folder: a directory that all ranks see, of this start alone; made when needed. None: nobody can be named.
    """

    def __init__(self, rank: int, size: int, abort: Callable[[int], None]) -> None:
        """
        Args:
            rank: this rank.
            size: ranks.
            abort: ends the job with an exit code.
        """
        self.rank = rank
        self.size = size
        self.folder: Path | None = None
        self.deadline_seconds = float("inf")
        self._abort = abort
        # One entry a thread; each is set and removed in one operation, so that the watching thread sees whole ones.
        self._present: dict[int, tuple[str, float]] = {}
        self._answered = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def regroup(self, rank: int, size: int, abort: Callable[[int], None]) -> None:
        """Take up another rank among others, as when some have died."""
        self.folder = None
        self.rank, self.size, self._abort = rank, size, abort

    @contextmanager
    def on_guard(self, deadline_seconds: float) -> Iterator[None]:
        """Inside, no collective may take longer than ``deadline_seconds``. Where it is on guard already, it stays so,
        with the new deadline."""
        self.deadline_seconds = deadline_seconds
        if self.size == 1 or self._thread is not None:
            yield
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            self._thread = None
            if self.folder is not None and self.rank == 0:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Inside, a collective may take as long as it does: ranks come to it when they are ready."""
        before, self.deadline_seconds = self.deadline_seconds, float("inf")
        try:
            yield
        finally:
            self.deadline_seconds = before

    def watch(self, name: str) -> AbstractContextManager[None]:
        """The body is the collective ``name``."""
        return _Watch(self._present, name)

    def _oldest(self) -> tuple[str, float] | None:
        """The collective that this rank has been in for longest."""
        return min(list(self._present.values()), key=lambda entry: entry[1], default=None)

    def _look(self) -> None:
        """The thread."""
        while not self._stop.wait(interval := min(LOOK_SECONDS, self.deadline_seconds / 4)):
            present = self._oldest()
            if present is None:
                self._withdraw()
                continue
            name, start = present
            waited = time.monotonic() - start
            overdue = waited >= self.deadline_seconds
            waiting = self._ask(name, interval, alarm=overdue)
            if self._oldest() is not present:
                self._withdraw()
            elif overdue and (waited >= 2 * self.deadline_seconds or self.rank == min(waiting, default=self.rank)):
                self._end_job(name, start, waiting)
                return

    def _ask(self, name: str, interval: float, *, alarm: bool) -> dict[int, str]:
        """After an alarm, of this rank or another: say that this rank waits in ``name``, and hear who waits in what.

        Empty where nobody can tell.
        """
        folder = self.folder
        if folder is None or not (alarm or folder.exists()):
            return {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._answered = True
            (folder / f"waits-{self.rank}").write_text(name)
            return self._answers(folder, interval)
        except OSError:
            return {}

    def _withdraw(self) -> None:
        """This rank waits no longer."""
        if self._answered and self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / f"waits-{self.rank}").unlink(missing_ok=True)
            self._answered = False

    def _answers(self, folder: Path, interval: float) -> dict[int, str]:
        """The ranks that say they wait, and in what, after they had the time to."""
        waiting: dict[int, str] = {}
        for _ in range(GRACE_LOOKS):
            time.sleep(interval)
            waiting = {int(path.name.partition("-")[2]): path.read_text() for path in folder.glob("waits-*")}
            if len(waiting) == self.size - 1:
                break
        return waiting

    def _end_job(self, name: str, start: float, waiting: dict[int, str]) -> None:
        """Name the ranks that did not come, show where this one is, and abort."""
        missing = sorted(set(range(self.size)) - set(waiting))
        if missing and waiting:
            who = f"ranks that did not come: {missing}"
        else:
            places = ", ".join(f"{rank} in {place}" for rank, place in sorted(waiting.items()))
            who = f"all ranks wait: {places}" if waiting else "who did not come cannot be told"
        print(
            f"hpcsgd: rank {self.rank} has waited {time.monotonic() - start:.1f} s in {name} "
            f"(deadline {self.deadline_seconds:g} s); {who}; the job ends",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(file=2)
        self._abort(1)
