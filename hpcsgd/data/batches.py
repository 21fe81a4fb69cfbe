"""What training asks of its data, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor


class Loader(Protocol):
    """Training batches of the learners of a rank; a batch is a function of the step alone."""

    steps_per_epoch: int

    def share(self, learner: int, num_learners: int, own_learners: int) -> None:
        """Take the parts of ``own_learners`` from ``learner`` on, of so many, from now on."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs [n, ...] and labels [n, ...] of a step on the device, learner after learner."""

    def sizes(self, step: int) -> list[int]:
        """Samples of each learner at ``step``."""

    def close(self) -> None:
        """End what runs beside the training."""


class Split(Protocol):
    """A split in its stored order, for evaluation."""

    def __len__(self) -> int: ...

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples ``start`` to ``stop`` - 1 in batches, as :meth:`Loader.batch` gives them."""
