"""What it takes to bring parameters to the host and back for an average, and to compare them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.hashing import check_equal
from hpcsgd.comm.reduce import FlatReducer, finish_on_stream, mark
from hpcsgd.learners.engines.choose import wait_for
from tests.gpu.check import Check
from tests.gpu.loops import MIB

NUM_BYTES = 102_000_000
"""The parameters of ResNet-50 in float32."""

CHUNKS = (MIB // 2, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 32 * MIB)
REPEATS = 10


def time_it(check: Check) -> None:
    """How long do 102 MB take to the host and back, by size of the chunks, and how long a checksum?"""
    num_bytes, chunks = (1 << 16, (1 << 14,)) if check.tiny else (NUM_BYTES, CHUNKS)
    flat = torch.ones(num_bytes // 4).to(check.device)
    check.row("size", bytes=num_bytes)
    for size in chunks:
        reducer = FlatReducer(SingleCommunicator(), size, staged=check.on_gpu)
        seconds = _fastest(check, lambda reducer=reducer: _there_and_back(reducer, flat))
        check.row(f"through the host, chunks of {size >> 10} KiB", **_rate(seconds, 2 * num_bytes))
    right = bool((flat == 1).all())
    check.row("what came back", "ok" if right else "wrong")
    host = torch.empty(flat.numel(), pin_memory=check.on_gpu)
    for name, copy in {"one copy to the host": (host, flat), "one copy back": (flat, host)}.items():
        seconds = _fastest(check, lambda pair=copy: pair[0].copy_(pair[1], non_blocking=True))
        check.row(name, **_rate(seconds, num_bytes))
    seconds = _fastest(check, lambda: check_equal(SingleCommunicator(), flat, "the parameters"))
    check.row("a checksum", **_rate(seconds, num_bytes))


def _there_and_back(reducer: FlatReducer, flat: torch.Tensor) -> None:
    """A sum over one rank, by the way of several."""
    finish_on_stream(flat, reducer.reduce_(flat, 1.0, mark(flat)))


def _fastest(check: Check, call: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls, with what they queue."""
    found = []
    for _ in range(2 if check.tiny else REPEATS):
        wait_for(check.device)
        begin = time.perf_counter()
        call()
        wait_for(check.device)
        found.append(time.perf_counter() - begin)
    return min(found)


def _rate(seconds: float, num_bytes: int) -> dict[str, float]:
    """For the table."""
    return {"milliseconds": 1e3 * seconds, "gb_per_second": num_bytes / seconds / 1e9}
