"""Gradient allreduce by mpi4py, overlapped by a thread with its own communicator."""

from __future__ import annotations

import queue
import threading

import torch
from torch import Tensor

from hpcsgd.comm.gradients import Buckets, GradientAllreduce
from hpcsgd.comm.reduce import FlatReducer, finish_on_stream, mark

Event = torch.cuda.Event | None


class MpiGradients(GradientAllreduce):
    """Buckets summed by blocking allreduces: in a thread while the backward pass runs, or at its end.

    Open MPI makes no progress on non-blocking collectives in the background, so only a thread hides anything; it needs
    a core of its own.
    """

    name = "mpi"

    def __init__(self, buckets: Buckets, reducer: FlatReducer, *, overlap: bool) -> None:
        """
        Args:
            buckets: the gradient.
            reducer: sums over the ranks; with ``overlap`` its communicator is used by no other thread.
            overlap: launch buckets during the backward pass.
        """
        self._reducer = reducer
        super().__init__(buckets, size=reducer.comm.size, overlap=overlap)
        self._tasks: queue.SimpleQueue[tuple[Tensor, Event] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._pending = 0
        self._thread: threading.Thread | None = None
        if overlap:
            self._thread = threading.Thread(target=self._serve, name="gradient-allreduce", daemon=True)
            self._thread.start()

    def launch(self, index: int, bucket: Tensor) -> None:
        """Hand the bucket to the thread, or sum it now."""
        if self._thread is None:
            finish_on_stream(bucket, self._reduce(bucket, mark(bucket)))
        else:
            self._tasks.put((bucket, mark(bucket)))
            self._pending += 1

    def wait(self) -> None:
        """Wait for the thread; an exception there is raised here."""
        while self._pending:
            done = self._done.get()
            self._pending -= 1
            if isinstance(done, BaseException):
                raise done
            finish_on_stream(self.buckets.flat, done)

    def heads(self) -> list[Tensor]:
        """The first elements of all chunks."""
        return [chunk[0] for part in self.buckets.parts for chunk in self._reducer.cut(part)]

    def look(self, part: Tensor) -> None:
        """The reducer looks, chunk by chunk."""

    def scale(self) -> None:
        """The reducer has done it, chunk by chunk."""

    def _reduce(self, bucket: Tensor, ready: Event) -> Event:
        """Average the bucket over the ranks."""
        return self._reducer.reduce_(bucket, 1.0 / self.size, ready, self.guard)

    def shut_down(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()

    def _serve(self) -> None:
        """The thread: sum buckets in the order of their launch."""
        while (task := self._tasks.get()) is not None:
            bucket, ready = task
            try:
                self._done.put(self._reduce(bucket, ready))
            except BaseException as error:  # handed to the thread that waits for the bucket
                self._done.put(error)
