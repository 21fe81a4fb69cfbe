"""The communicator of ranks that torch.distributed has joined, as those of torchrun: for a loop that is only timed.

What trains together does so by MPI. A script of DistributedDataParallel has its own way, and may know of no MPI.
"""

from __future__ import annotations

import os
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist

from hpcsgd.comm.communicator import Array, Communicator, Pending, clock_offset
from hpcsgd.comm.launchers import find_launch, refusal
from hpcsgd.comm.watchdog import Watchdog

T = TypeVar("T")


def find_torch_ranks() -> Communicator | None:
    """The ranks of torch's default process group; None where MPI's launcher, or none, started this process. Collective.

    Raises:
        LaunchError: the launcher started several processes, and the program has not joined them yet.
    """
    launch = find_launch()
    if launch is None or launch.launcher.speaks_mpi:
        return None
    if not dist.is_initialized():
        raise refusal(launch, "torch.distributed.init_process_group was not called before hpcsgd.session")
    return TorchCommunicator(dist.new_group(backend="gloo"))


class TorchCommunicator:
    """A process group of Gloo, whatever the program's own is, behind the package's interface."""

    can_shrink = False
    allreduce_algorithm = "gloo"

    def __init__(self, group: dist.ProcessGroup, parent: TorchCommunicator | None = None) -> None:
        """Wrap ``group``, which this rank is in; ``parent`` is the communicator that it is a part of."""
        self.group = group
        self.rank, self.size = group.rank(), group.size()
        self.library = f"torch.distributed {torch.__version__} (gloo)"
        self.watchdog: Watchdog = parent.watchdog if parent is not None else Watchdog(self.rank, self.size, self.abort)

    def sum_(self, array: Array) -> None:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        with self.watchdog.watch("sum"):
            dist.all_reduce(torch.from_numpy(array), group=self.group)

    def max_(self, array: Array) -> None:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        self.start_max(array).wait()

    def start_max(self, array: Array) -> Pending:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        work = dist.all_reduce(torch.from_numpy(array), dist.ReduceOp.MAX, self.group, async_op=True)
        return TorchPending(self, work)

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        with self.watchdog.watch("broadcast"):
            dist.broadcast(torch.from_numpy(array), group=self.group, group_src=root)

    def gather(self, array: Array, root: int = 0) -> Array | None:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        gathered = np.empty((self.size, *array.shape), array.dtype) if self.rank == root else None
        parts = None if gathered is None else [torch.from_numpy(gathered[rank, ...]) for rank in range(self.size)]
        with self.watchdog.watch("gather"):
            dist.gather(torch.from_numpy(array), parts, group=self.group, group_dst=root)
        return gathered

    def allgather(self, array: Array) -> Array:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        gathered = np.empty((self.size, *array.shape), array.dtype)
        parts = [torch.from_numpy(gathered[rank, ...]) for rank in range(self.size)]
        with self.watchdog.watch("allgather"):
            dist.all_gather(parts, torch.from_numpy(array), self.group)
        return gathered

    def alltoall(self, array: Array) -> Array:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        received = np.empty_like(array)
        with self.watchdog.watch("alltoall"):
            dist.all_to_all_single(torch.from_numpy(received), torch.from_numpy(array), group=self.group)
        return received

    def allgather_object(self, value: T) -> list[T]:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        values: list[T] = [value] * self.size
        with self.watchdog.watch("allgather"):
            dist.all_gather_object(values, value, self.group)
        return values

    def broadcast_object(self, value: T, root: int = 0) -> T:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        values = [value]
        with self.watchdog.watch("broadcast"):
            dist.broadcast_object_list(values, group=self.group, group_src=root)
        return values[0]

    def barrier(self) -> None:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        with self.watchdog.watch("barrier"):
            dist.barrier(self.group)

    def split(self, color: int) -> Communicator:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        colors, own = self.allgather_object(color), None
        members = [dist.get_global_rank(self.group, rank) for rank in range(self.size)]
        for each in dict.fromkeys(colors):
            # All ranks make all groups, in one order.
            ranks = [member for member, theirs in zip(members, colors, strict=True) if theirs == each]
            group = dist.new_group(ranks, backend="gloo")
            own = group if each == color else own
        assert own is not None
        return TorchCommunicator(own, self)

    def duplicate(self) -> Communicator:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        return self.split(0)

    def confirm(self) -> None:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        self.barrier()

    def shrink(self) -> Communicator:
        """A group of Gloo's does not outlive one of its ranks."""
        raise AssertionError("shrink without can_shrink")

    def clock_offset(self, rounds: int = 20) -> tuple[float, float]:
        """See :class:`~hpcsgd.comm.communicator.Communicator`."""
        with self.watchdog.watch("clock offset"):
            return clock_offset(self.rank, self.size, self._send, self._receive, rounds)

    def _send(self, array: Array, peer: int) -> None:
        dist.send(torch.from_numpy(array), group=self.group, group_dst=peer)

    def _receive(self, array: Array, peer: int) -> None:
        dist.recv(torch.from_numpy(array), group=self.group, group_src=peer)

    def abort(self, code: int) -> None:
        """End this process: torchrun then ends the others, and Gloo tells those that it does not."""
        os._exit(code)


class TorchPending:
    """A collective under way."""

    def __init__(self, comm: TorchCommunicator, work: dist.Work | None) -> None:
        """``work`` is torch's, of ``comm``."""
        assert work is not None
        self._comm, self._work = comm, work

    def is_done(self) -> bool:
        """See :class:`~hpcsgd.comm.communicator.Pending`."""
        return bool(self._work.is_completed())

    def wait(self) -> None:
        """See :class:`~hpcsgd.comm.communicator.Pending`."""
        with self._comm.watchdog.watch("maximum"):
            self._work.wait()
