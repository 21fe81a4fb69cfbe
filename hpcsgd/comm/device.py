"""Which device a rank trains on, and how many threads it may use."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.topology import Topology
from hpcsgd.errors import UsageError


def bind_device(kind: str, comm: Communicator, place: Topology, *, share_gpu: bool) -> tuple[torch.device, str]:
    """Choose this rank's device before the first CUDA call. Collective.

    The GPU is ``local_rank`` modulo the visible GPUs: right where a rank sees all GPUs of the node and where the
    launcher shows it one.

    Args:
        kind: ``auto``, ``cpu`` or ``cuda``.
        comm: all ranks.
        place: this rank's place.
        share_gpu: allow several ranks on one GPU.

    Returns:
        the device and its name for the log.

    Raises:
        UsageError: on all ranks: ``cuda`` where some rank sees no GPU, ``auto`` where some do and some do not, or two
            ranks on one GPU unasked.
    """
    count = torch.cuda.device_count() if kind != "cpu" else 0
    blind = [rank for rank, number in enumerate(comm.allgather_object(count)) if not number]
    if kind == "cuda" and blind or kind == "auto" and 0 < len(blind) < comm.size:
        raise UsageError(
            f"device is {kind}, but rank {blind[0]} sees no GPU: check CUDA_VISIBLE_DEVICES, or choose device: cpu"
        )
    if count:
        # Read where CUDA starts, below: in 8 queues, its own number, streams of more learners wait for each other.
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
        index = place.local_rank % count
        torch.cuda.set_device(index)
        device, name = torch.device("cuda", index), gpu_name(index)
    else:
        device, name = torch.device("cpu"), "cpu"
    check_not_shared(comm.allgather_object((place.node, name)), share_gpu=share_gpu)
    return device, name


def check_not_shared(devices: list[tuple[str, str]], *, share_gpu: bool) -> None:
    """Refuse two ranks on one GPU.

    Args:
        devices: node and device name of every rank, in rank order.
        share_gpu: True allows it.

    Raises:
        UsageError: names the GPU and its ranks.
    """
    shared = None if share_gpu else first_shared(devices)
    if shared is not None:
        node, name = devices[shared[0]]
        raise UsageError(
            f"ranks {shared} would share one GPU ({name} on {node}): start one rank a GPU, give each rank its own "
            "CUDA_VISIBLE_DEVICES where it names slices of a GPU (a process sees the first one only), or set "
            "share_gpu: true"
        )


def first_shared(devices: Sequence[tuple[str, str]]) -> list[int] | None:
    """The ranks of the first GPU that several have; None: none has.

    Args:
        devices: node and device name of every rank, in rank order.
    """
    for device, ranks in Counter(devices).items():
        if device[1] != "cpu" and ranks > 1:
            return [rank for rank, other in enumerate(devices) if other == device]
    return None


def gpu_name(index: int) -> str:
    """The name of a GPU that this process sees, which no other one on its node has: with its UUID where torch tells it
    (ROCm before 6 and some virtual GPUs have none), else with its place on the bus, else with its number."""
    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name} {getattr(properties, 'uuid', None) or _bus_address(properties) or index}"


def card_name(device: torch.device) -> str:
    """The card that a device is, or is a slice of; ``cpu`` for no GPU."""
    if device.type == "cpu":
        return "cpu"
    return _bus_address(torch.cuda.get_device_properties(device)) or gpu_name(device.index)


def _bus_address(properties: Any) -> str:
    """A GPU's place on the PCI bus, as ``0000:3b:00``; empty where torch does not tell it."""
    if not hasattr(properties, "pci_bus_id"):
        return ""
    return f"{properties.pci_domain_id:04x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}"


def use_device(device: torch.device) -> None:
    """Let this thread use ``device``: a new one has GPU 0, and would take memory there by its first CUDA call."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def begin_peak_memory(device: torch.device) -> float:
    """Begin to look for the peak of the memory anew: bytes that torch has given out now; NaN for no GPU."""
    if device.type != "cuda":
        return math.nan
    torch.cuda.reset_peak_memory_stats(device)
    return float(torch.cuda.memory_allocated(device))


def peak_memory(device: torch.device) -> float:
    """The most bytes that torch has given out at once since then; NaN for no GPU."""
    return float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else math.nan


def set_threads(wanted: int | None, comm: Communicator, place: Topology) -> int:
    """Set torch's threads of this rank and return their number. Collective.

    Unset, ``OMP_NUM_THREADS`` counts where given; else :func:`share_of_cores`.
    """
    cores = share_of_cores(comm, place)
    if wanted is None and not os.environ.get("OMP_NUM_THREADS"):
        wanted = cores
    if wanted is not None:
        torch.set_num_threads(wanted)
    return torch.get_num_threads()


def share_of_cores(comm: Communicator, place: Topology) -> int:
    """Cores that the rank is bound to, shared with the ranks of the node that are bound to the same. Collective."""
    cores = set(os.sched_getaffinity(0))
    everyone = comm.allgather_object((place.node, tuple(sorted(cores))))
    sharing = sum(1 for node, other in everyone if node == place.node and cores & set(other))
    return max(1, len(cores) // sharing)


def core_list() -> str:
    """The cores that this process may run on, as ranges: ``0-3,8``."""
    ranges: list[list[int]] = []
    for core in sorted(os.sched_getaffinity(0)):
        if ranges and core == ranges[-1][1] + 1:
            ranges[-1][1] = core
        else:
            ranges.append([core, core])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
