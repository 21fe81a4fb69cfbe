"""Sums over the ranks in a thread with its own communicator, while this one goes on.

Open MPI makes no progress on non-blocking collectives in the background, so only a thread hides anything; it needs a
core of its own.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Protocol

import torch
from torch import Tensor

from hpcsgd.comm.device import use_device
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.comm.reduce import FlatReducer, finish_on_stream, mark

Event = torch.cuda.Event | None
Task = tuple[Tensor, Event, FiniteGuard | None]


class Background(Protocol):
    """Sums of flat tensors over the ranks that go on while this one computes, in the order of their starts."""

    def start(self, part: Tensor, guard: FiniteGuard | None = None) -> None:
        """Begin to replace ``part`` by its sum; it is left alone until :meth:`wait`."""

    def wait(self) -> float:
        """Wait for all that was started; the seconds that the sums took, NaN where nobody has looked."""

    def close(self) -> None:
        """End it."""


class ReducerThread:
    """Sums flat tensors over the ranks, one after another."""

    def __init__(self, reducer: FlatReducer, name: str, device: torch.device) -> None:
        """
        Args:
            reducer: sums over the ranks; its communicator is used by no other thread.
            name: of the thread.
            device: where the tensors are.
        """
        self._reducer = reducer
        self._device = device
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Tensor, Event, float] | BaseException] = queue.SimpleQueue()
        self._pending = 0
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def start(self, part: Tensor, guard: FiniteGuard | None = None) -> None:
        """Begin to replace ``part`` by its sum; it is left alone until :meth:`wait`.

        Args:
            part: 1-d, contiguous.
            guard: looks at each chunk just before it is summed.
        """
        self._tasks.put((part, mark(part), guard))
        self._pending += 1

    def wait(self) -> float:
        """Wait for all that was started, an exception of which is raised here; the seconds that the sums took."""
        seconds = 0.0
        while self._pending:
            done = self._done.get()
            self._pending -= 1
            if isinstance(done, BaseException):
                raise done
            finish_on_stream(*done[:2])
            seconds += done[2]
        return seconds

    def close(self) -> None:
        """End the thread."""
        self._tasks.put(None)
        self._thread.join()

    def _serve(self) -> None:
        """The thread: sum in the order of the starts."""
        use_device(self._device)
        while (task := self._tasks.get()) is not None:
            part, ready, guard = task
            try:
                begin = time.perf_counter()
                event = self._reducer.reduce_(part, 1.0, ready, guard)
                self._done.put((part, event, time.perf_counter() - begin))
            except BaseException as error:  # handed to the thread that waits for the sum
                self._done.put(error)
