"""A small test of the allreduce that training uses: are the sums right, and how long do they take."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from hpcsgd.comm.backends import make_reducer
from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.reduce import FlatReducer, finish_on_stream, mark
from hpcsgd.config import CommConfig

SIZES = (8, 1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 28)
"""Bytes of the buffers."""

WARM_UP = 3
PERIOD = 251
"""The values of a buffer repeat after so many: small whole numbers, so that their sums are exact."""


@dataclass(frozen=True)
class Sample:
    """One size: bytes, median seconds over repetitions of the slowest rank's time, and whether every sum was right."""

    num_bytes: int
    seconds: float
    right: bool

    @property
    def bytes_per_second(self) -> float:
        """Bytes of the buffer by the time that it took."""
        return self.num_bytes / self.seconds if self.seconds else float("nan")


def time_allreduce(comm: Communicator, device: torch.device, max_bytes: int) -> list[Sample]:
    """Sum buffers of rising sizes over all ranks, as local SGD does: from the device, in chunks. Collective."""
    reducer = make_reducer(CommConfig(), comm, device)
    samples = [_measure(comm, reducer, device, size) for size in SIZES if size <= max_bytes]
    reducer.close()
    return samples


def _measure(comm: Communicator, reducer: FlatReducer, device: torch.device, num_bytes: int) -> Sample:
    """One size."""
    pattern = torch.arange(num_bytes // 4, device=device) % PERIOD
    mine = (pattern + comm.rank).to(torch.float32)
    expected = (pattern * comm.size + comm.size * (comm.size - 1) // 2).to(torch.float32)
    repetitions = 100 if num_bytes <= 1 << 16 else 20 if num_bytes <= 1 << 20 else 5
    seconds = np.zeros(repetitions)
    right = True
    for repetition in range(-WARM_UP, repetitions):
        flat = mine.clone()
        _finish(device)
        comm.barrier()
        start = time.perf_counter()
        finish_on_stream(flat, reducer.reduce_(flat, 1.0, mark(flat)))
        _finish(device)
        if repetition >= 0:
            seconds[repetition] = time.perf_counter() - start
        right &= torch.equal(flat, expected)
    comm.max_(seconds)
    return Sample(num_bytes, float(np.median(seconds)), all(comm.allgather_object(right)))


def _finish(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
