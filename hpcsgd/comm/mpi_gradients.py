"""Gradient allreduce by mpi4py, overlapped by a thread with its own communicator."""

from __future__ import annotations

from torch import Tensor

from hpcsgd.comm.background import ReducerThread
from hpcsgd.comm.gradients import Buckets, GradientAllreduce
from hpcsgd.comm.reduce import FlatReducer, finish_on_stream, mark


class MpiGradients(GradientAllreduce):
    """Buckets summed by blocking allreduces: in a thread while the backward pass runs, or at its end."""

    name = "mpi"

    def __init__(self, buckets: Buckets, reducer: FlatReducer, *, overlap: bool) -> None:
        """
        Args:
            buckets: the gradient.
            reducer: sums over the ranks; with ``overlap`` its communicator is used by no other thread.
            overlap: launch buckets during the backward pass.
        """
        self._reducer = reducer
        super().__init__(buckets, overlap=overlap)
        self._thread = ReducerThread(reducer, "gradient-allreduce", buckets.flat.device) if overlap else None

    def launch(self, index: int, bucket: Tensor) -> None:
        """Hand the bucket to the thread, or sum it now."""
        if self._thread is None:
            finish_on_stream(bucket, self._reducer.reduce_(bucket, 1.0, mark(bucket), self.guard))
        else:
            self._thread.start(bucket, self.guard)

    def wait(self) -> None:
        """Wait for the thread; an exception there is raised here."""
        if self._thread is not None:
            self._thread.wait()

    def heads(self) -> list[Tensor]:
        """The first elements of all chunks."""
        return [chunk[0] for part in self.buckets.parts for chunk in self._reducer.cut(part)]

    def look(self, part: Tensor, *, more: bool) -> None:
        """The reducer looks, chunk by chunk."""

    def shut_down(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.close()
