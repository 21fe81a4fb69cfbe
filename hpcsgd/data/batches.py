"""What training asks of its data, wherever it lies."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from hpcsgd.data.trees import Tree, leaves, map_tree, stretch


@dataclass(frozen=True)
class Batch:
    """The samples of a step of the learners of a rank, learner after learner.

    Attributes:
        inputs: tree of tensors [n, ...].
        targets: tree of tensors [n, ...].
        sizes: samples of each learner; they sum to n.
    """

    inputs: Tree
    targets: Tree
    sizes: list[int]

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        device: torch.device = next(leaves((self.targets, self.inputs))).device
        return device

    @property
    def is_even(self) -> bool:
        """Whether all learners have as many samples."""
        return len(set(self.sizes)) == 1

    def learners(self) -> Iterator[Batch]:
        """The batch of each learner."""
        stop = 0
        for size in self.sizes:
            start, stop = stop, stop + size
            yield self._cut(start, stop) if len(self.sizes) > 1 else self

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch of one learner in stretches of at most ``size`` samples."""
        (whole,) = self.sizes
        if whole == size:
            yield self
            return
        for start in range(0, whole, size):
            yield self._cut(start, min(start + size, whole))

    def rows(self) -> Batch:
        """The same with a learner axis in front, [m, n, ...], where all learners have n samples; a view."""
        assert self.is_even, self.sizes
        shape = (len(self.sizes), self.sizes[0])
        inputs, targets = (
            map_tree(lambda tensor: tensor.view(*shape, *tensor.shape[1:]), tree)
            for tree in (self.inputs, self.targets)
        )
        return Batch(inputs, targets, self.sizes)

    def _cut(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop`` - 1, of one learner."""
        return Batch(stretch(self.inputs, start, stop), stretch(self.targets, start, stop), [stop - start])


def checksum(tree: Tree) -> int:
    """CRC-32 over the tensors of a tree, in order: two ranks with the same batch have the same."""
    found = 0
    for leaf in leaves(tree):
        raw = torch.as_tensor(leaf).detach().cpu().contiguous().view(-1).view(torch.uint8)
        found = zlib.crc32(raw.numpy().tobytes(), found)
    return found


class Loader(Protocol):
    """Training batches of the learners of a rank."""

    steps_per_epoch: int
    may_end: bool
    """Whether there may be no batch of some step."""

    def share(self, learner: int, num_learners: int, own_learners: int) -> None:
        """Take the parts of ``own_learners`` from ``learner`` on, of so many, from now on."""

    def batch(self, step: int) -> Batch:
        """The batch of a step, on the device."""

    def has(self, step: int) -> bool:
        """Whether there is a batch of ``step`` here."""

    def state_dict(self, step: int) -> Any:
        """What a checkpoint before ``step`` must hold for the batches to go on from there, in plain values."""

    def load_state_dict(self, state: Any, step: int) -> None:
        """Go on with ``step`` from what :meth:`state_dict` gave."""

    def close(self) -> None:
        """End what runs beside the training."""


class OfSteps:
    """Part of a loader whose batches are a function of the step alone: there is no end, and nothing to keep."""

    may_end = False

    def has(self, step: int) -> bool:
        """There is one of each step."""
        return True

    def state_dict(self, step: int) -> None:
        """Nothing."""

    def load_state_dict(self, state: None, step: int) -> None:
        """Nothing to do."""


class Split(Protocol):
    """A split in its stored order, for evaluation."""

    def __len__(self) -> int: ...

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[tuple[Tree, Tree]]:
        """Inputs and targets of samples ``start`` to ``stop`` - 1, as :class:`Batch` has them, so many at a time."""
