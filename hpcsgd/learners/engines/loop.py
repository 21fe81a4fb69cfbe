"""One learner after another, or each in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from hpcsgd.data.batches import Batch
from hpcsgd.data.trees import Tree, stack_trees
from hpcsgd.learners.engines.base import Lap, check_draws, no_lap, start_training
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.record.ranges import Range
from hpcsgd.tasks.task import Task


class LoopEngine:
    """One learner after another; see :class:`~hpcsgd.learners.engines.base.Engine`. It takes any task."""

    name = "loop"
    calls_hooks = True

    def __init__(self, stack: ReplicaStack, task: Task) -> None:
        """Take the passes of ``stack``, which learns ``task``."""
        self.stack = stack
        self.task = task

    def passes(
        self, batch: Batch, normalisers: Sequence[float], size: int, lap: Lap = no_lap, *, fresh: bool = False
    ) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        start_training(self.stack, fresh)
        one = self.one if self.stack.draws is None else self._one_apart
        if len(self.stack) == 1:
            return one(0, batch, normalisers[0], size, lap).unsqueeze(0)
        every = zip(batch.learners(), normalisers, strict=True)
        return torch.stack([one(j, own, normaliser, size, lap) for j, (own, normaliser) in enumerate(every)])

    def one(self, learner: int, batch: Batch, normaliser: float | Tensor, size: int, lap: Lap = no_lap) -> Tensor:
        """The passes of one learner; the sum of its losses, or that and its weight."""
        replica = self.stack.replicas[learner]
        total: Tensor | None = None
        for part in batch.parts(size):
            with Range("forward"):
                with replica.counting():
                    outputs = self.task.forward(replica.module, part.inputs)
                found = self.task.total(outputs, part.targets, len(part), learner)
                loss = found[0] if self.task.is_weighted else found
            lap("forward")
            with Range("backward"):
                (loss / normaliser).backward()
            lap("backward")
            total = found.detach() if total is None else total + found.detach()
        return self.no_losses() if total is None else total

    def _one_apart(
        self, learner: int, batch: Batch, normaliser: float | Tensor, size: int, lap: Lap = no_lap
    ) -> Tensor:
        """The same, by what this learner draws."""
        assert self.stack.draws is not None
        with self.stack.draws.of(learner):
            return self.one(learner, batch, normaliser, size, lap)

    def no_losses(self, *axes: int) -> Tensor:
        """What passes give, before any is taken: zeros, with ``axes`` in front."""
        shape = (*axes, 2) if self.task.is_weighted else axes
        return torch.zeros(shape, dtype=self.stack.dtype, device=self.stack.device)

    @torch.no_grad()
    def outputs(self, inputs: Tree) -> Tree:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        modes = [replica.module.training for replica in self.stack.replicas]
        self.stack.train(False)
        results = [self.task.forward(replica.module, inputs) for replica in self.stack.replicas]
        for replica, mode in zip(self.stack.replicas, modes, strict=True):
            replica.module.train(mode)
        return stack_trees(results)


class ThreadsEngine(LoopEngine):
    """A thread a learner, for a CPU with cores to spare."""

    name = "threads"

    def __init__(self, stack: ReplicaStack, task: Task) -> None:
        """Start the threads.

        Raises:
            NotPossibleError: the model draws from torch's global generator.
        """
        super().__init__(stack, task)
        check_draws(stack, self.name)
        self._pool = ThreadPoolExecutor(len(stack), thread_name_prefix="learner")

    def passes(
        self, batch: Batch, normalisers: Sequence[float], size: int, lap: Lap = no_lap, *, fresh: bool = False
    ) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        start_training(self.stack, fresh)
        every = zip(batch.learners(), normalisers, strict=True)
        started = [self._pool.submit(self.one, j, own, over, size) for j, (own, over) in enumerate(every)]
        losses = torch.stack([future.result() for future in started])
        lap("backward")
        return losses
