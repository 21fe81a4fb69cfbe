"""Gradient allreduce by torch.distributed: NCCL on GPUs, Gloo on CPUs, as in DistributedDataParallel."""

from __future__ import annotations

import os
import socket

import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import TCPStore

from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.gradients import Buckets, GradientAllreduce


class TorchGradients(GradientAllreduce):
    """Buckets summed by asynchronous collectives of a process group, bootstrapped from MPI."""

    name = "torch"

    def __init__(self, buckets: Buckets, comm: Communicator, *, one_node: bool, overlap: bool) -> None:
        """
        Args:
            buckets: the gradient.
            comm: all ranks.
            one_node: all ranks share a node, so that the loopback interface will do.
            overlap: launch buckets during the backward pass.
        """
        super().__init__(buckets, overlap=overlap)
        start_process_group(comm, "nccl" if buckets.flat.device.type == "cuda" else "gloo", one_node=one_node)
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
        """End the process group."""
        dist.destroy_process_group()


def start_process_group(comm: Communicator, backend: str, *, one_node: bool) -> None:
    """Start torch's default process group: rank 0 opens a store on a free port and tells the others by MPI."""
    if one_node and backend == "gloo":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    host = comm.broadcast_object("127.0.0.1" if one_node else socket.gethostname())
    store = None
    if comm.rank == 0:
        store = TCPStore(host, 0, comm.size, is_master=True, wait_for_workers=False)
    port = comm.broadcast_object(0 if store is None else store.port)
    if store is None:
        store = TCPStore(host, port, comm.size, is_master=False)
    dist.init_process_group(backend, store=store, rank=comm.rank, world_size=comm.size)
