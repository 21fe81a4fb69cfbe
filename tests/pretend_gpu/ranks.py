"""Ranks for the pretend GPU: twins in one process, and the collectives of NCCL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from hpcsgd.comm import backends
from hpcsgd.comm.communicator import Array, Communicator, SingleCommunicator
from hpcsgd.comm.mpi import MpiCommunicator
from tests.pretend_gpu.machine import the_machine
from tests.pretend_gpu.memory import numbers_of
from tests.pretend_gpu.streams import Event, Stream, StreamContext, current_stream
from tests.pretend_gpu.tensor import DeviceTensor
from tests.pretend_gpu.trouble import replaced

T = TypeVar("T")


class Twin(SingleCommunicator):
    """One of two ranks that do the same: the sum over them is twice the own part.

    But by ones an MPI is tried: the other rank has twos then.

    An array on the device is touched by MPI at once, whatever its queue holds.
    """

    size = 2

    def __init__(self, rank: int = 0) -> None:
        super().__init__()
        self.rank = self.watchdog.rank = rank
        self.watchdog.size = self.size
        self.aborted = False

    def sum_(self, array: Any) -> None:
        """Twice the array."""
        if not isinstance(array, Tensor):
            array *= 2
            return
        the_machine().host_touches(array, "MPI's sum", write=True)
        real = numbers_of(array)
        real.mul_(3 if bool((real == 1).all()) else 2)

    def gather(self, array: Array, root: int = 0) -> Array | None:
        """Both have the same."""
        return np.stack([array, array])

    def allgather(self, array: Array) -> Array:
        """Both have the same."""
        return np.stack([array, array])

    def alltoall(self, array: Array) -> Array:
        """Both send the same."""
        return np.stack([array[self.rank]] * 2)

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
    """In the place of torch.distributed: sums on a stream of its own, behind what is in the current one."""

    def __init__(self, comm: Any = None) -> None:
        """``comm``: MPI's, by which the numbers go; None: those of :class:`Twin`."""
        self._comm = comm
        self._stream: Stream | None = None

    def all_reduce(self, tensor: Tensor, group: Any = None, async_op: bool = False) -> Work:
        """Replace ``tensor`` by its sum; on a GPU, in its queue."""
        if not isinstance(tensor, DeviceTensor):
            self._sum(tensor, group)
            return Work(None)
        self._stream = self._stream or Stream(tensor.device)
        self._stream.wait_stream(current_stream(tensor.device))
        with StreamContext(self._stream), torch.no_grad():
            tensor.mul_(1)
            self._sum(tensor.real_tensor, group)
        work = Work(self._stream.record_event())
        if not async_op:
            work.wait()
        return work

    def new_group(self, ranks: list[int]) -> Any:
        """Some of the ranks. Collective in all."""
        return self._comm.Create(self._comm.group.Incl(ranks))

    def _sum(self, real: Tensor, group: Any) -> None:
        """Sum the numbers themselves."""
        if self._comm is None:
            real.mul_(2)
            return
        from mpi4py import MPI

        (group or self._comm).Allreduce(MPI.IN_PLACE, PLAIN_NUMPY(real.detach()))


PLAIN_NUMPY = torch.Tensor.numpy
"""Before it is watched: what NCCL touches is in its stream."""


@contextmanager
def nccl(world: Any = None) -> Iterator[None]:
    """Inside, torch.distributed is :class:`Nccl`; ``world``: MPI's communicator, None: twins."""
    library = Nccl(world)
    values: dict[str, Any] = {
        "all_reduce": library.all_reduce,
        "new_group": library.new_group,
        "init_process_group": lambda *_, **__: None,
        "destroy_process_group": lambda *_: None,
        "is_nccl_available": lambda: True,
        "is_initialized": lambda: False,
    }
    with ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(replaced(dist, name, value))
        if world is None:
            stack.enter_context(replaced(backends, "resolve_allreduce", lambda *_: "torch"))
        yield
