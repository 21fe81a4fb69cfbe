"""What happens to a run on the device from outside."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from hpcsgd.data.batches import Batch
from hpcsgd.data.stream import StreamLoader
from hpcsgd.learners.engines import choose
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.run import passes
from tests.pretend_gpu.machine import the_machine

PATIENCE_SECONDS = 10.0
"""For what comes at once, if it comes."""


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[Any]:
    """Inside, ``owner.name`` is another; gives the one that it was."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield before
    finally:
        setattr(owner, name, before)


@contextmanager
def no_memory_in_capture() -> Iterator[None]:
    """Memory runs out in the capture of the second learner's passes."""
    plain = LoopEngine.one

    def one(self: LoopEngine, learner: int, *arguments: Any, **options: Any) -> Tensor:
        if the_machine().capture is not None and learner == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        return plain(self, learner, *arguments, **options)

    with replaced(LoopEngine, "one", one):
        yield


@contextmanager
def graph_is_fastest() -> Iterator[None]:
    """Whatever the times are: a replay takes none less here."""
    with replaced(choose, "fastest", lambda tables: "graph" if all("graph" in table for table in tables) else "loop"):
        yield


@contextmanager
def reader_within_capture() -> Iterator[None]:
    """The thread that reads ahead pins and sends the second batch while a graph is captured."""
    bring, one = StreamLoader._bring, LoopEngine.one
    begun, pinned = threading.Event(), threading.Event()

    def bring_late(self: StreamLoader, step: int) -> Any:
        ahead = step > 0
        if ahead and self._device.type == "cuda":
            begun.wait(PATIENCE_SECONDS)
        sent = bring(self, step)
        if ahead:
            pinned.set()
        return sent

    def slow_one(self: LoopEngine, *arguments: Any, **options: Any) -> Tensor:
        if the_machine().capture is not None:
            begun.set()
            pinned.wait(PATIENCE_SECONDS)
        return one(self, *arguments, **options)

    with replaced(StreamLoader, "_bring", bring_late), replaced(LoopEngine, "one", slow_one):
        yield


@contextmanager
def mpi_takes_gpu_buffers() -> Iterator[None]:
    """The MPI library says that it does, in the words of one that can."""
    with mock.patch.dict(os.environ, MPICH_GPU_SUPPORT_ENABLED="1"):
        yield


@contextmanager
def nan_at_step_3() -> Iterator[None]:
    """The inputs of step 3 have a NaN."""
    import hpcsgd.train as loop

    plain = passes.forward_backward

    def poisoned(parts: Any, step: int, batch: Batch) -> Tensor:
        if step == 3:
            batch.inputs.view(-1)[:1] = float("nan")
        return plain(parts, step, batch)

    with replaced(loop, "forward_backward", poisoned):
        yield


@contextmanager
def utilisation_fails() -> Iterator[None]:
    """NVML has an error of its own, which is of no kind of Python's."""

    class NVMLError(Exception):
        pass

    def utilization(_device: Any = None) -> int:
        raise NVMLError("Not Supported")

    with replaced(torch.cuda, "utilization", utilization):
        yield
