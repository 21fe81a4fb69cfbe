"""Ranks for the pretend GPU: twins in one process, and the collectives of NCCL."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hpcsgd.comm import backends, torch_gradients
from hpcsgd.comm.communicator import Array, Communicator, SingleCommunicator
from hpcsgd.comm.mpi import MpiCommunicator
from tests.pretend_gpu.machine import the_machine
from tests.pretend_gpu.memory import numbers_of
from tests.pretend_gpu.streams import Event, Stream, current_stream
from tests.pretend_gpu.tensor import DeviceTensor

T = TypeVar("T")
PROBED = 1024
"""Elements of the buffer by which ``comm.cuda_aware`` is tried: rank r has r + 1 in each."""


class Twin(SingleCommunicator):
    """One of two ranks that do the same: the sum over them is twice the own part.

    An array on the device is touched by MPI at once, whatever its queue holds.
    """

    size = 2

    def __init__(self, rank: int = 0) -> None:
        super().__init__()
        self.rank = self.watchdog.rank = rank
        self.watchdog.size = self.size
        self.aborted = False

    def sum_(self, array: Any) -> None:
        """Twice the array; what tries an MPI has ones on one rank and twos on the other."""
        if not isinstance(array, Tensor):
            array *= 2
            return
        the_machine().host_touches(array, "MPI's sum", write=True)
        real = numbers_of(array)
        real.mul_(3 if real.numel() == PROBED and bool((real == 1).all()) else 2)

    def gather(self, array: Array, root: int = 0) -> Array | None:
        """Both have the same."""
        return np.stack([array, array])

    def allgather_object(self, value: T) -> list[T]:
        """Both have the same."""
        return [value, value]

    def split(self, color: int) -> Communicator:
        """A block is a rank."""
        return SingleCommunicator()

    def abort(self, code: int) -> None:
        """The job ends: noted, as this process has more to do."""
        self.aborted = True
        raise SystemExit(code)


def let_mpi_see_the_device() -> None:
    """An MPI that sums tensors on the device: at once, whatever their queues hold."""
    plain = MpiCommunicator.sum_

    def sum_(self: MpiCommunicator, array: Any) -> None:
        if isinstance(array, DeviceTensor):
            the_machine().host_touches(array, "MPI's sum", write=True)
            array = array.real_tensor.numpy()
        plain(self, array)

    MpiCommunicator.sum_ = sum_  # type: ignore[method-assign]


class Work:
    """A collective of NCCL under way: a stream that waits for it goes on after it, and the host goes on at once."""

    def __init__(self, done: Event | None) -> None:
        self._done = done

    def wait(self) -> None:
        """Let the current stream wait."""
        if self._done is not None:
            current_stream().wait_event(self._done)


class Nccl:
    """Sums over twins on a stream of its own, behind what is in the current one."""

    def __init__(self) -> None:
        self._stream: Stream | None = None

    def all_reduce(self, tensor: Tensor, async_op: bool = False) -> Work:
        """Replace ``tensor`` by its sum."""
        if tensor.device.type == "cpu":
            tensor.mul_(2)
            return Work(None)
        self._stream = self._stream or Stream()
        self._stream.wait_stream(current_stream())  # type: ignore[arg-type]
        with torch.cuda.stream(self._stream), torch.no_grad():  # type: ignore[arg-type]
            tensor.mul_(2)
        work = Work(self._stream.record_event())
        if not async_op:
            work.wait()
        return work


@contextmanager
def nccl_of_twins() -> Iterator[None]:
    """Inside, gradients are summed by :class:`Nccl`."""
    library = types.SimpleNamespace(
        all_reduce=Nccl().all_reduce, destroy_process_group=lambda: None, Work=Work, is_initialized=lambda: True
    )
    before = (torch_gradients.dist, torch_gradients.start_process_group, backends.resolve_allreduce)
    torch_gradients.dist = library  # type: ignore[assignment]
    torch_gradients.start_process_group = lambda *_, **__: None
    backends.resolve_allreduce = lambda *_, **__: "torch"
    try:
        yield
    finally:
        (torch_gradients.dist, torch_gradients.start_process_group, backends.resolve_allreduce) = before
