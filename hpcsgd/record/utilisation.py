"""How busy a rank's device is, and what it draws, sampled beside the training by a thread that sleeps in between."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from hpcsgd.record.energy import gpu_readings, node_energy


class Sample(NamedTuple):
    """Columns of the log that are sampled; NaN where nothing tells them. See ``schema.RANK_COLUMNS``."""

    utilisation: float = math.nan
    energy_joules: float = math.nan
    node_energy_joules: float = math.nan
    clock_hertz: float = math.nan
    memory_bytes: float = math.nan


Gauges = dict[str, Callable[[], float]]


class Sampler:
    """Takes a sample every so many seconds.

    Attributes:
        latest: the last sample; all NaN before the first.
    """

    def __init__(self, seconds: float, device: torch.device, threads: int, *, node: bool = False) -> None:
        """Start.

        Args:
            seconds: between two samples; 0: none is ever taken.
            device: where the rank trains.
            threads: torch threads of the rank.
            node: the energy of the node is this rank's to tell.
        """
        self.latest = Sample()
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="utilisation", daemon=True)
        self._find: Callable[[], Gauges] = lambda: find_gauges(device, threads, node=node)
        if seconds > 0:
            self._thread.start()

    def close(self) -> None:
        """End the thread; closing twice does nothing."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        gauges = self._find()
        while gauges and not self._ended.wait(self._seconds):
            taken = {}
            for name, measure in list(gauges.items()):
                try:
                    taken[name] = measure()
                except Exception as error:  # NVML has errors of its own, and no figure is worth a run
                    said = str(error) or type(error).__name__
                    print(f"hpcsgd: {name} is not sampled: {said}", file=sys.stderr, flush=True)
                    del gauges[name]
            self.latest = Sample(**taken)


def find_gauges(device: torch.device, threads: int, *, node: bool) -> Gauges:
    """What can be measured here, by the names of the log's columns; arguments as for :class:`Sampler`."""
    gauges: Gauges = {"utilisation": gpu_share(device) if device.type == "cuda" else cpu_share(threads)}
    if device.type == "cuda":
        gauges |= {"memory_bytes": lambda: float(torch.cuda.max_memory_allocated(device)) or math.nan}
        gauges |= gpu_readings(bus_address(device))
    counted = node_energy() if node else None
    return gauges if counted is None else gauges | {"node_energy_joules": counted[1]}


def bus_address(device: torch.device) -> str:
    """The place of a GPU on the PCI bus as NVML writes it; empty where torch does not tell it."""
    card: Any = torch.cuda.get_device_properties(device)
    if not hasattr(card, "pci_bus_id"):
        return ""
    return f"{card.pci_domain_id:08x}:{card.pci_bus_id:02x}:{card.pci_device_id:02x}.0"


def cpu_share(threads: int) -> Callable[[], float]:
    """Gives the share of ``threads`` cores that the process used since it was last asked."""
    last = time.perf_counter(), time.process_time()

    def measure() -> float:
        nonlocal last
        now = time.perf_counter(), time.process_time()
        elapsed, used = now[0] - last[0], now[1] - last[1]
        last = now
        return used / elapsed / threads

    return measure


def gpu_share(device: torch.device) -> Callable[[], float]:
    """Gives the share of time that kernels ran on ``device`` of late, by NVML (nvidia-ml-py)."""
    return lambda: torch.cuda.utilization(device) / 100
