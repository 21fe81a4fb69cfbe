"""One learner after another, or each in a thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from hpcsgd.learners.engines.base import Normaliser, normaliser_of
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.loss import summed_loss


class LoopEngine:
    """One learner after another; see :class:`~hpcsgd.learners.engines.base.Engine`."""

    name = "loop"

    def __init__(self, stack: ReplicaStack, label_smoothing: float = 0.0) -> None:
        """Take the passes of ``stack``."""
        self.stack = stack
        self.label_smoothing = label_smoothing

    def forward_backward(self, images: Tensor, labels: Tensor, normaliser: Normaliser) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        self.stack.train()
        return torch.stack([self.one(j, images[j], labels[j], normaliser) for j in range(len(self.stack))])

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        modes = [replica.module.training for replica in self.stack.replicas]
        self.stack.train(False)
        shared = images.dim() == 4
        results = [r.module(images if shared else images[j]) for j, r in enumerate(self.stack.replicas)]
        for replica, mode in zip(self.stack.replicas, modes, strict=True):
            replica.module.train(mode)
        return torch.stack(results)

    def one(self, learner: int, images: Tensor, labels: Tensor, normaliser: Normaliser) -> Tensor:
        """The passes of one learner; the sum of its losses."""
        loss = summed_loss(self.stack.replicas[learner].module(images), labels, self.label_smoothing)
        (loss / normaliser_of(normaliser, learner)).backward()
        return loss.detach()


class ThreadsEngine(LoopEngine):
    """A thread a learner, for a CPU with cores to spare."""

    name = "threads"

    def __init__(self, stack: ReplicaStack, label_smoothing: float = 0.0) -> None:
        """Start the threads."""
        super().__init__(stack, label_smoothing)
        self._pool = ThreadPoolExecutor(len(stack), thread_name_prefix="learner")

    def forward_backward(self, images: Tensor, labels: Tensor, normaliser: Normaliser) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        self.stack.train()
        learners = range(len(self.stack))
        started = [self._pool.submit(self.one, j, images[j], labels[j], normaliser) for j in learners]
        return torch.stack([future.result() for future in started])
