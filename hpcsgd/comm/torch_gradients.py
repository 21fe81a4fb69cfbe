"""Gradient allreduce by torch.distributed: NCCL on GPUs, Gloo on CPUs, as in DistributedDataParallel."""

from __future__ import annotations

import os
import socket

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import TCPStore

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.gradients import Buckets, GradientAllreduce, told_as_start
from hpcsgd.errors import UsageError


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
        start_process_group(comm, buckets.flat.device, one_node=one_node)
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


def start_process_group(comm: Communicator, device: torch.device, *, one_node: bool) -> None:
    """Start torch's default process group, and try it: rank 0 opens a store on a free port and tells the others by MPI.

    Collective.

    Raises:
        UsageError: a rank has no such network interface as its environment names; on all of them.
        StartError: it does not start, on this rank.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    if one_node and backend == "gloo":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # Where one rank alone has no such interface, the others would wait for it.
    agree(comm, lambda: check_interfaces(f"{backend.upper()}_SOCKET_IFNAME"))
    host = comm.broadcast_object("127.0.0.1" if one_node else socket.gethostname())

    def open_store(port: int) -> TCPStore:
        with told_as_start("torch.distributed's store", "MASTER_*, TORCH_*, and the name of this host"):
            return TCPStore(host, port, comm.size, is_master=comm.rank == 0, wait_for_workers=False)

    store = open_store(0) if comm.rank == 0 else None
    port = comm.broadcast_object(0 if store is None else store.port)
    if store is None:
        store = open_store(port)
    with told_as_start(f"torch.distributed ({backend})", f"{backend.upper()}_*"):
        dist.init_process_group(backend, store=store, rank=comm.rank, world_size=comm.size)
        # NCCL connects at its first collective only.
        dist.all_reduce(torch.zeros(1, device=device))


def check_interfaces(variable: str) -> None:
    """See that this host has a network interface that ``variable`` names, where it is set.

    Gloo takes names; NCCL takes beginnings of names, names after ``=``, and after ``^`` those that are not meant.

    Raises:
        UsageError: it has none.
    """
    asked = os.environ.get(variable, "")
    if not asked or asked.startswith("^"):
        return
    exact = asked.startswith("=") or not variable.startswith("NCCL")
    names = [name.partition(":")[0].strip() for name in asked.removeprefix("=").split(",")]
    present = [name for _, name in socket.if_nameindex()]
    wanted = all if not variable.startswith("NCCL") else any
    if not wanted(any(name == there if exact else there.startswith(name) for there in present) for name in names):
        raise UsageError(
            f"{variable} is {asked}, but {socket.gethostname()} has no such network interface: choose of "
            f"{', '.join(present)}, or leave it unset"
        )
