"""Which samples the learners of a rank take at a step, whatever they are and wherever they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hpcsgd.data.shards import Tail, epoch_permutation, learner_batch, steps_per_epoch

Permutation = Callable[[int], NDArray[np.int64]]
"""From an epoch to the order of its samples, [N]: the same on every rank."""


def cached(permutation: Permutation) -> Permutation:
    """The same, which keeps those of two epochs: what is read ahead may be of the next one."""
    return lru_cache(2)(permutation)


def shuffled(seed: int, num_samples: int) -> Permutation:
    """Another permutation of all samples each epoch."""
    return cached(lambda epoch: epoch_permutation(seed, epoch, num_samples))


@dataclass(frozen=True)
class Order:
    """The samples of each step.

    Attributes:
        permutation: of an epoch.
        num_samples: samples of the split.
        local_batch_size: samples of a full batch of one learner.
        tail: what becomes of the samples that do not fill the last global batch (see ``DataConfig``).
        learner: the first learner here, counted over all ranks.
        num_learners: learners of all ranks.
        own_learners: learners here: ``learner`` and those that follow it.
        steps_per_epoch: steps of an epoch.

    Raises:
        UsageError: the split does not fill one global batch and ``tail`` is drop.
    """

    permutation: Permutation
    num_samples: int
    local_batch_size: int
    tail: Tail
    learner: int = 0
    num_learners: int = 1
    own_learners: int = 1
    steps_per_epoch: int = field(init=False)

    def __post_init__(self) -> None:
        steps = steps_per_epoch(self.num_samples, self.num_learners * self.local_batch_size, self.tail)
        object.__setattr__(self, "steps_per_epoch", steps)

    def shared(self, learner: int, num_learners: int, own_learners: int) -> Order:
        """The same for the part of ``own_learners`` from ``learner`` on, of so many."""
        return replace(self, learner=learner, num_learners=num_learners, own_learners=own_learners)

    def samples(self, step: int) -> list[NDArray[np.int64]]:
        """The samples of each learner here at a step, int64 [n]."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        return self._cut(self.permutation(epoch), step_in_epoch)

    def of_epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        """Those of all steps of an epoch, one after another."""
        permutation = self.permutation(epoch)
        return [part for step in range(self.steps_per_epoch) for part in self._cut(permutation, step)]

    def _cut(self, permutation: NDArray[np.int64], step_in_epoch: int) -> list[NDArray[np.int64]]:
        """The parts of a step."""
        return [
            learner_batch(permutation, step_in_epoch, learner, self.num_learners, self.local_batch_size, self.tail)
            for learner in range(self.learner, self.learner + self.own_learners)
        ]
