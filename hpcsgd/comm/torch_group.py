"""torch's process group, bootstrapped from MPI: NCCL on GPUs, Gloo on CPUs. It ends when its last user leaves it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.gradients import told_as_start
from hpcsgd.comm.topology import node_name
from hpcsgd.errors import UsageError

_num_users = 0
"""Of torch's default group, which is one a process."""


def is_foreign() -> bool:
    """Whether the program has started torch's default process group itself, for other ends."""
    return dist.is_initialized() and not _num_users


def join_group(comm: Communicator, device: torch.device) -> None:
    """Use torch's default process group of all ranks of ``comm``; the first user starts it. Collective.

    Raises:
        UsageError, StartError: as :func:`start_process_group`.
    """
    global _num_users
    if not _num_users:
        start_process_group(comm, device)
    _num_users += 1


def leave_group(device: torch.device) -> None:
    """Use it no more; the last user ends it, when the GPU has done what is queued. Collective."""
    global _num_users
    _num_users -= 1
    if not _num_users:
        if device.type == "cuda":
            # Releases of torch before 2.5 break off what is under way.
            torch.cuda.synchronize(device)
        dist.destroy_process_group()


def group_of(comm: Communicator, world: Communicator) -> dist.ProcessGroup | None:
    """The process group of ``comm``, a part of ``world`` that each of its ranks is in one of; None: it is all of it.

    Collective in ``world``, whose group is joined.
    """
    parts: Sequence[tuple[int, ...]] = world.allgather_object(tuple(comm.allgather_object(world.rank)))
    own = None
    if len(parts[world.rank]) < world.size:
        for ranks in dict.fromkeys(parts):
            group = dist.new_group(list(ranks))
            own = group if world.rank in ranks else own
    return own


def start_process_group(comm: Communicator, device: torch.device) -> None:
    """Start torch's default process group, and try it: rank 0 opens a store on a free port and tells the others by MPI.

    Collective.

    Raises:
        UsageError: a rank has no such network interface as its environment names; on all of them.
        StartError: it does not start, on this rank.
    """
    on_gpu = device.type == "cuda"
    backend = "nccl" if on_gpu else "gloo"
    # Then the loopback interface will do.
    one_node = len(set(comm.allgather_object(node_name()))) == 1
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
        # Where it knows the device, NCCL connects at once.
        known = device if on_gpu else None
        dist.init_process_group(backend, store=store, rank=comm.rank, world_size=comm.size, device_id=known)
        # What does not work shows here, and not in the first backward pass: ``item`` waits for a GPU.
        dist.all_reduce(total := torch.ones(1, device=device))
        assert total.item() == comm.size, f"{backend} gave {total.item()} as the number of {comm.size} ranks"


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
