"""Gradient allreduce by torch.distributed: NCCL on GPUs, Gloo on CPUs, as in DistributedDataParallel."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.gradients import Buckets, GradientAllreduce
from hpcsgd.comm.torch_group import join_group, leave_group


class TorchGradients(GradientAllreduce):
    """Buckets summed by asynchronous collectives of torch's process group."""

    name = "torch"

    def __init__(self, buckets: Buckets, comm: Communicator, *, overlap: bool) -> None:
        """
        Args:
            buckets: the gradient.
            comm: all ranks.
            overlap: launch buckets during the backward pass.
        """
        super().__init__(buckets, overlap=overlap)
        join_group(comm, buckets.flat.device)
        self._works: list[dist.Work] = []

    def launch(self, index: int, bucket: Tensor) -> None:
        """Queue the bucket."""
        work = dist.all_reduce(bucket, async_op=True)
        assert work is not None
        self._works.append(work)

    def wait(self) -> None:
        """Wait for every bucket."""
        for work in self._works:
            work.wait()
        self._works.clear()

    def shut_down(self) -> None:
        """Leave the process group."""
        leave_group(self.buckets.flat.device)
