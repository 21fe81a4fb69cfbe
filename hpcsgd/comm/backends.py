"""Which reducer and which gradient allreduce a run uses."""

from __future__ import annotations

import importlib.util
import os
import sys

import torch
from torch import Tensor

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.cuda_aware import check_cuda_aware
from hpcsgd.comm.device import card_name, first_shared
from hpcsgd.comm.gradients import Buckets, GradientAllreduce, NoAllreduce
from hpcsgd.comm.mpi import MpiCommunicator
from hpcsgd.comm.mpi_gradients import MpiGradients
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.comm.shared_memory import SharedMemory
from hpcsgd.comm.shared_reducer import SharedReducer, share_memory
from hpcsgd.comm.topology import Topology, node_name
from hpcsgd.config import CommConfig
from hpcsgd.errors import UsageError, name_ranks

Averaged = tuple[Tensor, SharedMemory | str]
"""A flat tensor in memory that ranks can share; or one that is not, and why there is no such memory."""


def make_reducer(
    config: CommConfig,
    comm: Communicator,
    device: torch.device,
    world: Communicator | None = None,
    averaged: Averaged | None = None,
) -> FlatReducer:
    """The reducer of flat tensors on ``device`` over ``comm``, as ``comm.averaging`` says. Collective.

    Args:
        config: the recipe's section.
        comm: the ranks.
        device: where the tensors are.
        world: all ranks, of which ``comm`` is a part that each is in one of; unset, ``comm`` is all.
        averaged: what is to be averaged, where it lies in memory made to be shared; its values are kept.

    Raises:
        UsageError: what is asked for does not work here.
    """
    world = world if world is not None else comm
    way = resolve_averaging(config, world, device)
    if way == "mpi" or max(world.allgather_object(comm.size)) == 1:
        return make_mpi_reducer(config, comm, device)
    with world.watchdog.watch("start of the averaging"):
        if way in ("shared", "measured"):
            return _share(config, comm, device, world, averaged)
        from hpcsgd.comm.torch_reducer import TorchReducer

        return TorchReducer(comm, world, device)


def _share(
    config: CommConfig, comm: Communicator, device: torch.device, world: Communicator, averaged: Averaged | None
) -> FlatReducer:
    """The reducer in shared memory where ranks have some, and are on one node; asked for, or faster than MPI's."""
    if averaged is None:
        return make_mpi_reducer(config, comm, device)
    sample, memory = averaged
    found = share_memory(comm, world, memory, config.chunk_bytes)
    if isinstance(found, str):
        if config.averaging == "shared":
            raise UsageError(f"comm.averaging is shared, but {found}: choose mpi")
        if world.rank == 0:
            print(f"hpcsgd: averagings go by MPI, not in shared memory: {found}", file=sys.stderr, flush=True)
    if not isinstance(found, SharedReducer):
        return make_mpi_reducer(config, comm, device)
    if config.averaging == "auto":
        found.choose(sample, world)
    return found


def make_mpi_reducer(config: CommConfig, comm: Communicator, device: torch.device) -> FlatReducer:
    """The reducer by MPI. Collective.

    Raises:
        UsageError: ``comm.cuda_aware`` is asked for, but MPI does not sum GPU buffers.
    """
    on_gpu = device.type == "cuda"
    aware = config.cuda_aware and on_gpu and comm.size > 1
    if aware:
        check_cuda_aware(comm, device, config.chunk_bytes)
    return FlatReducer(comm, config.chunk_bytes, staged=on_gpu and not aware, cuda_aware=aware)


def make_gradient_allreduce(
    config: CommConfig, comm: Communicator, place: Topology, device: torch.device, buckets: Buckets
) -> GradientAllreduce:
    """The gradient allreduce that the configuration names. Collective.

    Raises:
        UsageError: it is not installed, or does not start.
    """
    name = resolve_allreduce(config, comm, device)
    if name == "none":
        return NoAllreduce(buckets)
    with comm.watchdog.watch(f"start of {name}"):
        return _start(name, config, comm, place, device, buckets)


def _start(
    name: str, config: CommConfig, comm: Communicator, place: Topology, device: torch.device, buckets: Buckets
) -> GradientAllreduce:
    """Start ``horovod``, ``mpi`` or ``torch``."""
    if name == "mpi":
        overlap = (
            config.overlap if config.overlap is not None else all(comm.allgather_object(thread_pays(place, device)))
        )
        own = comm.duplicate() if overlap else comm
        return MpiGradients(buckets, make_mpi_reducer(config, own, device), overlap=overlap)
    overlap = config.overlap is not False
    if name == "torch":
        from hpcsgd.comm.torch_gradients import TorchGradients

        return TorchGradients(buckets, comm, overlap=overlap)
    from hpcsgd.comm.horovod_gradients import HorovodGradients, prepare_horovod

    assert isinstance(comm, MpiCommunicator)
    agree(comm, lambda: prepare_horovod(on_gpu=device.type == "cuda"))
    return HorovodGradients(buckets, comm.comm, overlap=overlap)


def resolve_allreduce(config: CommConfig, comm: Communicator, device: torch.device) -> str:
    """``horovod``, ``mpi``, ``torch``, or ``none`` for one process that nothing was asked of. Collective.

    Raises:
        UsageError: Horovod is asked for and not installed on every rank, or NCCL and ranks share a GPU.
    """
    if not isinstance(comm, MpiCommunicator):
        # Without MPI there is one rank, or a communicator that a test or a caller brought.
        return "none" if comm.size == 1 else "mpi"
    asked, on_gpu = config.allreduce, device.type == "cuda"
    if asked == "auto" and comm.size == 1:
        return "none"
    if asked == "auto" and on_gpu:
        return "mpi" if why_not_nccl(comm, device) else "torch"
    has_horovod = all(comm.allgather_object(importlib.util.find_spec("horovod") is not None))
    if asked == "auto":
        return "horovod" if has_horovod else "mpi"
    if asked == "horovod" and not has_horovod:
        raise UsageError(
            "comm.allreduce is horovod, which is not installed: build it (see slurm/README.md), or choose mpi or torch"
        )
    if asked == "torch" and on_gpu and (why := why_not_nccl(comm, device)):
        raise UsageError(f"comm.allreduce is torch, which sums by NCCL, but {why}: choose mpi")
    if asked == "horovod" and on_gpu and (shared := _sharing(comm, device)):
        raise UsageError(f"comm.allreduce is horovod, which sums by NCCL, but {shared}: choose mpi")
    return asked


def resolve_averaging(config: CommConfig, comm: Communicator, device: torch.device) -> str:
    """``nccl``, ``mpi``, ``shared``, or ``measured``: the faster one of the last two. Collective.

    Raises:
        UsageError: NCCL or shared memory is asked for, and does not work here.
    """
    if config.averaging == "nccl":
        if why := why_not_nccl(comm, device):
            raise UsageError(f"comm.averaging is nccl, but {why}: choose mpi")
        return "nccl"
    if config.averaging == "shared" and device.type == "cuda":
        raise UsageError("comm.averaging is shared, but the replicas are on GPUs: choose nccl, mpi or auto")
    if config.averaging == "mpi" or comm.size == 1 or not isinstance(comm, MpiCommunicator):
        return "mpi"
    if config.averaging == "shared":
        return "shared"
    # NCCL's groups do not outlive a rank, and in shared memory it leaves half an average.
    if comm.can_shrink:
        return "mpi"
    if device.type != "cuda":
        return "measured"
    # Who hands GPU buffers to MPI wants MPI.
    if config.cuda_aware:
        return "mpi"
    return "mpi" if why_not_nccl(comm, device) else "nccl"


def why_not_nccl(comm: Communicator, device: torch.device) -> str:
    """Why NCCL cannot sum over the ranks of ``comm``; empty where it can. Collective, if there is a GPU."""
    if device.type != "cuda":
        return "there is no GPU"
    import torch.distributed as dist

    from hpcsgd.comm.torch_group import is_foreign

    has = dist.is_available() and dist.is_nccl_available()
    own = "torch was built without it" if not has else "the program has started torch.distributed" * is_foreign()
    return next(filter(None, comm.allgather_object(own)), "") or _sharing(comm, device)


def _sharing(comm: Communicator, device: torch.device) -> str:
    """Which ranks share a card, of which NCCL takes one each only; empty where none do. Collective."""
    shared = first_shared(comm.allgather_object((node_name(), card_name(device))))
    return f"{name_ranks(shared)} share one GPU" if shared else ""


def thread_pays(place: Topology, device: torch.device) -> bool:
    """Whether a communication thread has something to run on: a GPU does the compute, or each rank has two cores.

    Nodes of different sizes give different answers.
    """
    return device.type == "cuda" or len(os.sched_getaffinity(0)) >= 2 * place.local_size
