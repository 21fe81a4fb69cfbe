"""How busy a rank's device is, sampled beside the training by a thread that sleeps in between."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import torch


class Sampler:
    """Takes a sample every so many seconds.

    Attributes:
        latest: share of time that the device was busy at the last sample: of a GPU by NVML, of CPUs the process's CPU
            time since the sample before over elapsed time and threads; NaN before the first.
    """

    def __init__(self, seconds: float, device: torch.device, threads: int) -> None:
        """Start.

        Args:
            seconds: between two samples; 0: none is ever taken.
            device: where the rank trains.
            threads: torch threads of the rank.
        """
        self.latest = float("nan")
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="utilisation", daemon=True)
        self._measure: Callable[[], float] = gpu_share(device) if device.type == "cuda" else cpu_share(threads)
        if seconds > 0:
            self._thread.start()

    def close(self) -> None:
        """End the thread; closing twice does nothing."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self.latest = self._measure()
            except Exception as error:  # NVML and AMD's library have errors of their own, and no figure is worth a run
                said = str(error) or type(error).__name__
                print(f"hpcsgd: utilisation is not sampled: {said}", file=sys.stderr, flush=True)
                self.latest = float("nan")
                return


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
