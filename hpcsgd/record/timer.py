"""The clock of the training loop: where each iteration's time goes, by laps.

A lap closes the stretch since the last one and gives it to a span, so that the spans of an iteration leave no gap but
the bookkeeping. On a GPU the stamps are CUDA events, put in its queue and read much later: nothing waits.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from hpcsgd.record.schema import SPANS

SPAN_NAMES = tuple(column.name for column in SPANS)
OTHER = ""
"""The lap of what belongs to no span."""


class HostClock:
    """Stamps of the host's monotonic clock."""

    def stamp(self) -> float:
        """Now, in seconds."""
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """Seconds between two stamps."""
        return end - start


class CudaClock:
    """Stamps in the GPU's queue."""

    def stamp(self) -> torch.cuda.Event:
        """The moment when the GPU will have done all that is queued so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Seconds between two stamps; waits for the later one."""
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


@dataclass(slots=True)
class Iteration:
    """The stamps of one iteration."""

    step: int
    begin: Any
    start_seconds: float
    laps: list[tuple[str, Any]] = field(default_factory=list)
    sync_enter_seconds: float = float("nan")
    sync_exit_seconds: float = float("nan")
    end: Any = None

    def durations(self, clock: HostClock | CudaClock) -> dict[str, float]:
        """``wall_seconds`` and all spans, those that did not occur as 0."""
        spans = dict.fromkeys(SPAN_NAMES, 0.0)
        last = self.begin
        for name, stamp in self.laps:
            if name != OTHER:
                spans[f"{name}_seconds"] += clock.seconds(last, stamp)
            last = stamp
        spans["wall_seconds"] = clock.seconds(self.begin, self.end)
        return spans


class Span:
    """Ends with a lap, unless its body fails."""

    __slots__ = ("name", "timer")

    def __init__(self, timer: StepTimer, name: str) -> None:
        self.timer = timer
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
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
    """Collects the iterations' stamps."""

    def __init__(self, device: torch.device, origin: float) -> None:
        """
        Args:
            device: where the training runs.
            origin: reading of this host's ``time.perf_counter()`` at the zero of the run's clock.
        """
        self.clock: HostClock | CudaClock = CudaClock() if device.type == "cuda" else HostClock()
        self.origin = origin
        self.finished: deque[Iteration] = deque()
        self._current: Iteration | None = None

    def begin(self, step: int) -> None:
        """End the iteration before and begin that of ``step``."""
        self.stop()
        self._current = Iteration(step, self.clock.stamp(), time.perf_counter() - self.origin)

    def lap(self, name: str) -> None:
        """The time since the last lap belongs to the span ``name``."""
        assert self._current is not None
        self._current.laps.append((name, self.clock.stamp()))

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

    def skip(self) -> None:
        """The time since the last lap belongs to no span."""
        self.lap(OTHER)

    def take_back(self) -> None:
        """The present iteration has not begun after all: the one before goes on, if it is not taken yet."""
        self._current = self.finished.pop() if self.finished else None

    @property
    def current_step(self) -> int | None:
        """The step of the present iteration; None: none has begun."""
        return self._current.step if self._current is not None else None

    def clear(self) -> None:
        """Forget the iterations that have not been taken yet."""
        self._current = None
        self.finished.clear()

    def stop(self) -> None:
        """End the present iteration, if there is one."""
        if self._current is not None:
            self._current.end = self.clock.stamp()
            self.finished.append(self._current)
            self._current = None
