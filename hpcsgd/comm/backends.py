"""Which reducer and which gradient allreduce a run uses."""

from __future__ import annotations

import importlib.util
import os

import torch

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.gradients import Buckets, GradientAllreduce, NoAllreduce
from hpcsgd.comm.mpi import MpiCommunicator
from hpcsgd.comm.mpi_gradients import MpiGradients
from hpcsgd.comm.reduce import FlatReducer, probe_cuda_aware
from hpcsgd.comm.topology import Topology
from hpcsgd.config import CommConfig
from hpcsgd.errors import UsageError


def make_reducer(config: CommConfig, comm: Communicator, device: torch.device) -> FlatReducer:
    """The reducer of flat tensors on ``device`` over ``comm``. Collective.

    Raises:
        UsageError: ``comm.cuda_aware`` is asked for, but MPI does not sum GPU buffers.
    """
    on_gpu = device.type == "cuda"
    aware = config.cuda_aware and on_gpu and comm.size > 1
    if aware and not probe_cuda_aware(comm, device):
        raise UsageError(f"comm.cuda_aware is true, but {comm.library} did not sum a GPU buffer: set it to false")
    return FlatReducer(comm, config.chunk_bytes, staged=on_gpu and not aware, cuda_aware=aware)


def make_gradient_allreduce(
    config: CommConfig, comm: Communicator, place: Topology, device: torch.device, buckets: Buckets
) -> GradientAllreduce:
    """The gradient allreduce that the configuration names. Collective.

    Raises:
        UsageError: it is not installed, or does not start.
    """
    name = resolve_allreduce(config, comm)
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
        return MpiGradients(buckets, make_reducer(config, own, device), overlap=overlap)
    overlap = config.overlap is not False
    if name == "torch":
        from hpcsgd.comm.torch_gradients import TorchGradients

        return TorchGradients(buckets, comm, one_node=place.num_nodes == 1, overlap=overlap)
    from hpcsgd.comm.horovod_gradients import HorovodGradients, prepare_horovod

    assert isinstance(comm, MpiCommunicator)
    agree(comm, prepare_horovod)
    return HorovodGradients(buckets, comm.comm, overlap=overlap)


def resolve_allreduce(config: CommConfig, comm: Communicator) -> str:
    """``horovod``, ``mpi``, ``torch``, or ``none`` for one process that nothing was asked of. Collective.

    Raises:
        UsageError: Horovod is asked for and not installed on every rank.
    """
    has_horovod = all(comm.allgather_object(importlib.util.find_spec("horovod") is not None))
    if not isinstance(comm, MpiCommunicator):
        # Without MPI there is one rank, or a communicator that a test or a caller brought.
        return "none" if comm.size == 1 else "mpi"
    if config.allreduce == "auto":
        return "none" if comm.size == 1 else "horovod" if has_horovod else "mpi"
    if config.allreduce == "horovod" and not has_horovod:
        raise UsageError(
            "comm.allreduce is horovod, which is not installed: build it (see the README), or choose mpi or torch"
        )
    return config.allreduce


def thread_pays(place: Topology, device: torch.device) -> bool:
    """Whether a communication thread has something to run on: a GPU does the compute, or each rank has two cores.

    Nodes of different sizes give different answers.
    """
    return device.type == "cuda" or len(os.sched_getaffinity(0)) >= 2 * place.local_size
