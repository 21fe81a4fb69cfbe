"""What else the package, and torch itself, ask ``torch.cuda`` for."""

from __future__ import annotations

import types
from typing import Any

import torch

from tests.pretend_gpu import streams
from tests.pretend_gpu.copies import full_device
from tests.pretend_gpu.graphs import CUDAGraph, Graph
from tests.pretend_gpu.machine import the_machine

NAME = "Pretend GPU"
BUSY_PERCENT = 50
PEAK_BYTES = 3 << 20
NCCL_VERSION = (2, 0, 0)


def replace_cuda() -> None:
    """Put the pretend GPU in the place of ``torch.cuda``'s."""
    machine = the_machine()
    for name, value in {
        "Stream": streams.Stream,
        "Event": streams.Event,
        "StreamContext": streams.StreamContext,
        "stream": streams.StreamContext,
        "current_stream": streams.current_stream,
        "default_stream": streams.default_stream,
        "set_stream": streams.set_stream,
        "synchronize": streams.synchronize,
        "CUDAGraph": CUDAGraph,
        "graph": Graph,
        "is_current_stream_capturing": lambda: machine.captured(machine.current()) is not None,
        "set_device": lambda device: machine.set_device(full_device(device).index),
        "current_device": lambda: machine.guard.device,
        "_exchange_device": _exchange_device,
        "_maybe_exchange_device": _exchange_device,
        "device_count": lambda: machine.guard.num_devices,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "init": lambda: None,
        "_lazy_init": lambda: None,
        "get_device_properties": _properties,
        "get_device_name": lambda device=None: NAME,
        "get_device_capability": lambda device=None: (9, 0),
        "utilization": lambda device=None: BUSY_PERCENT,
        "empty_cache": lambda: None,
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: PEAK_BYTES,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: None,
    }.items():
        setattr(torch.cuda, name, value)
    torch.cuda.nccl.version = lambda: NCCL_VERSION


def _exchange_device(index: int) -> int:
    """Make ``index`` the current device, and give the one before; nothing for a negative one."""
    machine = the_machine()
    before = machine.guard.device
    if index >= 0 and index != before:
        machine.set_device(index)
    return before


def _properties(device: Any = None) -> types.SimpleNamespace:
    """Those of a large GPU."""
    index = full_device(device).index
    return types.SimpleNamespace(
        name=NAME,
        uuid=f"pretend-{index}",
        total_memory=80 << 30,
        major=9,
        minor=0,
        multi_processor_count=132,
        pci_domain_id=0,
        pci_bus_id=index,
        pci_device_id=0,
    )
