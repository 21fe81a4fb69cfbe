"""``compile``: every pass that a run will take is compiled on all ranks before its clock begins.

What is compiled are the networks' forward and backward passes, as :class:`~hpcsgd.learners.engines.loop.LoopEngine` and
those made of it call them. Nothing of it is left in the training: all state is put back, to the last bit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from hpcsgd.algorithms.base import borrowed
from hpcsgd.data.batches import Batch, Split
from hpcsgd.errors import UsageError, is_out_of_memory
from hpcsgd.learners.engines.base import start_training
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.run.parts import Parts
from hpcsgd.tasks.compiling import undo_compile

MOST_SHAPES = 256
"""Compilations of one function that torch keeps; its own limit of 8 may be less than the shapes of a run."""


def compile_passes(parts: Parts, step: int) -> Parts:
    """Compile all passes of a run that begins with ``step``, where it asks for that; its parts then. Collective.

    Raises:
        UsageError: the model cannot be compiled on some rank, and ``compile`` is true; with ``auto`` none compiles.
    """
    if parts.task.compile_backend is None:
        return parts
    begin, problem = time.perf_counter(), ""
    # One rank may find in its cache what another needs minutes for.
    with parts.comm.watchdog.patient():
        try:
            _take_all_passes(parts, step)
        except Exception as error:  # whatever torch's compiler makes of a user's code
            if is_out_of_memory(error):
                raise
            problem = " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:2]])
        told = parts.comm.allgather_object((problem, time.perf_counter() - begin))
    for rank, (why, _) in enumerate(told):
        if why:
            parts = _give_up(parts, why + (f" (rank {rank})" if rank else ""))
            break
    seconds = max(own for _, own in told)
    # The run's clock begins now.
    parts.timer.origin += parts.comm.broadcast_object(time.perf_counter() - begin)
    return replace(parts, compile_seconds=parts.compile_seconds + seconds if parts.compile_seconds >= 0 else seconds)


def _give_up(parts: Parts, why: str) -> Parts:
    """Go on without compilation, or not at all, as the recipe says."""
    if parts.config.compile != "auto":
        raise UsageError(f"compile is true, but torch cannot compile the model: {why}; choose compile: auto or false")
    for replica in parts.learners.replicas:
        undo_compile(replica.module)
    if parts.comm.rank == 0:
        print(f"hpcsgd: the model is not compiled: {why}", file=sys.stderr, flush=True)
    return replace(parts, task=parts.task.uncompiled())


def _take_all_passes(parts: Parts, step: int) -> None:
    """One pass of each shape and mode that the run has on this rank."""
    import torch._dynamo.config

    settings: Any = torch._dynamo.config
    # The second is its name before torch 2.6.
    limit = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"
    setattr(settings, limit, max(getattr(settings, limit), MOST_SHAPES))
    learners, task = parts.learners, parts.task
    with _unchanged(parts) as module:
        if parts.loader.has(step):
            _train(parts, parts.loader.batch(step))
        module.eval()
        for split in parts.splits.values() if parts.config.evaluate.every_epochs else ():
            for start, stop in _stretches(parts, split):
                inputs, _ = next(split.batches(start, stop, stop - start))
                with torch.no_grad():
                    task.forward(module, inputs)
    learners.train()


def _train(parts: Parts, batch: Batch) -> None:
    """Forward and backward passes of all sizes that an epoch has."""
    engine = LoopEngine(parts.learners, parts.task)
    start_training(parts.learners)
    for learner, own in enumerate(batch.learners()):
        for size in sorted(parts.plan.pass_sizes(parts.config.accumulation_steps), reverse=True):
            for part in own.parts(size):
                engine.one(learner, part, 1.0, size)
                break


def _stretches(parts: Parts, split: Split) -> set[tuple[int, int]]:
    """First and last sample of a batch of each size that this rank evaluates ``split`` by."""
    start, stop = (len(split) * (parts.comm.rank + i) // parts.comm.size for i in (0, 1))
    size = parts.config.evaluate.batch_size
    sizes = {min(size, stop - start), (stop - start) % size} - {0}
    return {(start, start + count) for count in sizes or {1}} if start < stop else {(0, 1)}


@contextmanager
def _unchanged(parts: Parts) -> Iterator[nn.Module]:
    """Inside, the learners may take passes; afterwards they, and what networks draw from, are as before."""
    learners = parts.learners
    devices = [learners.device] if learners.device.type == "cuda" else []
    streams = learners.random_states()
    with torch.random.fork_rng(devices), borrowed(learners, lambda: None) as module:
        yield module
    learners.load_random_states(streams)
    learners.zero_gradients()
