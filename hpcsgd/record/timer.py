"""The clock of the training loop: where each iteration's time goes, by laps.

A lap closes the stretch since the last one and gives it to a span, so that the spans of an iteration leave no gap but
what belongs to none. The end of an iteration is the beginning of the next, and nothing is stamped where nothing was
done. On a GPU the stamps are CUDA events, put in its queue and read much later: nothing waits.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcsgd.record.ranges import Range
from hpcsgd.record.schema import SPANS

SPAN_NAMES = tuple(column.name for column in SPANS)
OTHER = ""
"""The lap of what belongs to no span."""


class HostClock:
    """Stamps of the host's monotonic clock."""

    stamp = staticmethod(time.perf_counter)
    """Now, in seconds."""

    def seconds(self, stamps: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """Seconds between the stamps of each iteration, ``[rows, stamps]``, and the next: ``[rows, stamps - 1]``."""
        return np.diff(np.array(stamps, np.float64))


class CudaClock:
    """Stamps in the GPU's queue."""

    def stamp(self) -> torch.cuda.Event:
        """The moment when the GPU will have done all that is queued so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, stamps: Sequence[Sequence[torch.cuda.Event]]) -> NDArray[np.float64]:
        """As that of :class:`HostClock`; waits for the last of the stamps."""
        stamps[-1][-1].synchronize()
        return np.array([[a.elapsed_time(b) / 1e3 for a, b in pairwise(row)] for row in stamps], np.float64)


class Iteration:
    """The stamps of one iteration.

    Attributes:
        step: its number.
        start_seconds: its start on the run's clock.
        laps: the stamp of its beginning, then the name of each span and the stamp of its end; the last is its own end.
        sync_enter_seconds, sync_exit_seconds: of its synchronisation, on the run's clock; NaN: there was none.
        hidden_seconds: that an averaging which ended in it went on beside the training.
    """

    __slots__ = (
        *("step", "start_seconds", "laps"),
        *("sync_enter_seconds", "sync_exit_seconds", "hidden_seconds"),
    )

    def __init__(self, step: int, begin: Any, start_seconds: float) -> None:
        """It begins."""
        self.step = step
        self.start_seconds = start_seconds
        self.laps = [begin]
        self.sync_enter_seconds = self.sync_exit_seconds = math.nan
        self.hidden_seconds = 0.0


def durations(iterations: Sequence[Iteration], clock: HostClock | CudaClock) -> dict[str, NDArray[np.float64]]:
    """``wall_seconds`` and all spans of some iterations, [rows] each; of those that did not occur, 0."""
    columns = {name: np.zeros(len(iterations)) for name in (*SPAN_NAMES, "wall_seconds")}
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, iteration in enumerate(iterations):
        alike.setdefault(tuple(iteration.laps[1::2]), []).append(index)
    for names, rows in alike.items():
        seconds = clock.seconds([iterations[row].laps[::2] for row in rows])
        for column, name in enumerate(names):
            if name != OTHER:
                columns[f"{name}_seconds"][rows] += seconds[:, column]
        columns["wall_seconds"][rows] = clock.seconds([iterations[row].laps[:: 2 * len(names)] for row in rows])[:, 0]
    return columns


class Span(Range):
    """Ends with a lap, unless its body fails; a profiler that runs sees its body by its name."""

    __slots__ = ("timer",)

    def __init__(self, timer: StepTimer, name: str) -> None:
        self.name = name
        self.timer = timer
        self._opened = None

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._opened is not None:
            super().__exit__(kind, *error)
        if kind is None:
            self.timer.lap(self.name)


class Synchronising:
    """Stamps its beginning and its end, and lets a watchdog look on."""

    __slots__ = ("stamps", "timer", "watch")

    def __init__(self, timer: StepTimer, watch: AbstractContextManager[None] | None, *, stamps: bool) -> None:
        self.timer = timer
        self.watch = watch
        self.stamps = stamps

    def __enter__(self) -> None:
        if self.stamps:
            self.timer.enter_sync()
        if self.watch is not None:
            self.watch.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self.watch is not None:
            self.watch.__exit__(*error)
        if self.stamps and error[0] is None:
            self.timer.exit_sync()


class StepTimer:
    """Collects the iterations' stamps.

    Attributes:
        current_step: the step of the present iteration; None: none has begun.
        finished: iterations that have ended, and were not taken yet.
    """

    def __init__(self, device: torch.device, origin: float) -> None:
        """
        Args:
            device: where the training runs.
            origin: reading of this host's ``time.perf_counter()`` at the zero of the run's clock.
        """
        self.clock: HostClock | CudaClock = CudaClock() if device.type == "cuda" else HostClock()
        self.origin = origin
        self.finished: deque[Iteration] = deque()
        self.current_step: int | None = None
        self._current: Iteration | None = None

    def begin(self, step: int, rest: str = OTHER) -> None:
        """End the iteration before, as :meth:`stop` does, and begin that of ``step``."""
        now = self.clock.stamp()
        if self._current is not None:
            self._end(rest, now)
        self._current = Iteration(step, now, time.perf_counter() - self.origin)
        self.current_step = step

    def lap(self, name: str) -> None:
        """The time since the last lap belongs to the span ``name``."""
        assert self._current is not None
        self._current.laps += (name, self.clock.stamp())

    def span(self, name: str) -> Span:
        """The time since the last lap, and that inside, belong to the span ``name``."""
        return Span(self, name)

    def synchronising(
        self, watch: AbstractContextManager[None] | None = None, *, queued: bool = False
    ) -> Synchronising:
        """Inside, this rank is in a blocking synchronisation.

        Args:
            watch: a watchdog's look at it; None: what is inside has one of its own.
            queued: on a GPU its own queue waits, of which the host's clock says nothing: nothing is stamped there.
        """
        return Synchronising(self, watch, stamps=not (queued and isinstance(self.clock, CudaClock)))

    def enter_sync(self) -> None:
        """This rank enters a blocking synchronisation now."""
        assert self._current is not None
        self._current.sync_enter_seconds = time.perf_counter() - self.origin

    def exit_sync(self) -> None:
        """It has left it."""
        assert self._current is not None
        self._current.sync_exit_seconds = time.perf_counter() - self.origin

    def hid(self, seconds: float) -> None:
        """Communication of so many seconds went on beside this iteration and those before; NaN: nobody knows."""
        assert self._current is not None
        self._current.hidden_seconds += seconds

    def take_back(self) -> None:
        """The present iteration has not begun after all: the one before goes on, if it is not taken yet."""
        self._current = self.finished.pop() if self.finished else None
        self.current_step = None
        if self._current is not None:
            self.current_step = self._current.step
            del self._current.laps[-2:]

    def clear(self) -> None:
        """Forget the iterations that have not been taken yet."""
        self._current = self.current_step = None
        self.finished.clear()

    def stop(self, rest: str = OTHER) -> None:
        """End the present iteration, if there is one; its time since the last lap belongs to the span ``rest``."""
        if self._current is not None:
            self._end(rest, self.clock.stamp())

    def _end(self, rest: str, now: Any) -> None:
        """The present iteration ends at the stamp ``now``."""
        current = self._current
        assert current is not None
        current.laps += (rest, now)
        self.finished.append(current)
        self._current = self.current_step = None
