"""Sums and averages of flat tensors by torch.distributed, as NCCL makes them: from GPU to GPU, in the GPU's queue.

On a CPU Gloo stands in, for tests; there :class:`~hpcsgd.comm.reduce.FlatReducer` is faster.
"""

from __future__ import annotations

import math
import sys

import torch
import torch.distributed as dist
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.comm.reduce import FlatReducer, finish_on_stream, mark
from hpcsgd.comm.torch_group import group_of, join_group, leave_group


class TorchReducer(FlatReducer):
    """Sums by a process group: the same bits on all ranks, in one piece. What is no tensor goes by ``comm`` still."""

    name = "torch"

    def __init__(self, comm: Communicator, world: Communicator, device: torch.device) -> None:
        """Join the process group of all ranks, and make that of ``comm``. Collective in ``world``.

        Args:
            comm: the ranks: all, or a part that each rank is in one of.
            world: all ranks.
            device: where the tensors are.

        Raises:
            UsageError, StartError: the process group does not start.
        """
        super().__init__(comm, sys.maxsize, staged=False)
        self.queued = device.type == "cuda"
        self._device = device
        self._is_open = True
        join_group(world, device)
        self._group = group_of(comm, world)

    def reduce_(
        self, flat: Tensor, scale: float, ready: torch.cuda.Event | None, guard: FiniteGuard | None = None
    ) -> torch.cuda.Event | None:
        """See :class:`~hpcsgd.comm.reduce.FlatReducer`; the host waits for nothing."""
        self.start(flat, ready, guard).wait()
        if scale != 1:
            flat.detach().mul_(scale)
        return mark(flat)

    def start(self, flat: Tensor, ready: torch.cuda.Event | None, guard: FiniteGuard | None = None) -> dist.Work:
        """Begin to replace ``flat`` by its sum; the result's ``wait`` lets the present stream wait for it."""
        finish_on_stream(flat, ready)
        values = flat.detach()
        if guard is not None:
            guard.before(values)
        work: dist.Work | None = dist.all_reduce(values, group=self._group, async_op=True)
        assert work is not None
        return work

    def allgather(self, message: Tensor) -> Tensor:
        """See :class:`~hpcsgd.comm.reduce.FlatReducer`."""
        gathered = message.new_empty(self.comm.size, len(message))
        dist.all_gather(list(gathered), message, group=self._group)
        return gathered

    def alltoall(self, messages: Tensor) -> Tensor:
        """See :class:`~hpcsgd.comm.reduce.FlatReducer`."""
        received = torch.empty_like(messages)
        dist.all_to_all_single(received, messages, group=self._group)
        return received

    def close(self) -> None:
        """Leave the process group; closing twice does nothing."""
        if self._is_open:
            self._is_open = False
            leave_group(self._device)


class QueuedSums:
    """Sums in the background, as :class:`~hpcsgd.comm.background.ReducerThread`, without a thread."""

    def __init__(self, reducer: TorchReducer) -> None:
        """``reducer`` sums over the ranks."""
        self._reducer = reducer
        self._works: list[dist.Work] = []

    def start(self, part: Tensor, guard: FiniteGuard | None = None) -> None:
        """See :class:`~hpcsgd.comm.background.ReducerThread`."""
        self._works.append(self._reducer.start(part, None, guard))

    def wait(self) -> float:
        """Let the present stream wait for all that was started; on a CPU, the host does. How long is not known."""
        for work in self._works:
            work.wait()
        self._works.clear()
        return math.nan

    def close(self) -> None:
        """There is no thread to end."""
