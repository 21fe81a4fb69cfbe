"""Loaders that hold a whole split on a device: batches are gathered and augmented there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hpcsgd.config import DataConfig
from hpcsgd.data.batches import Batch, OfSteps
from hpcsgd.data.order import Order
from hpcsgd.data.shards import epoch_augmentation
from hpcsgd.data.store import Store
from hpcsgd.data.trees import Tree


class DeviceLoader(OfSteps):
    """Training batches of the learners of a rank.

    A batch is a function of the step alone: steps may be asked for in any order and again. Augmentation is a
    function of (seed, epoch, sample), so it does not depend on the number of ranks.

    Attributes:
        steps_per_epoch: steps of an epoch.
    """

    def __init__(self, store: Store, order: Order, config: DataConfig, seed: int) -> None:
        """
        Args:
            store: the training split on the device.
            order: which of its samples the learners here take.
            config: augmentation.
            seed: of the augmentation.
        """
        self._store = store
        self._config = config
        self._seed = seed
        self._take(order)

    def share(self, learner: int, num_learners: int, own_learners: int) -> None:
        """Take the parts of ``own_learners`` from ``learner`` on, of so many, from now on.

        Raises:
            UsageError: the split does not fill one global batch and ``data.tail`` is drop.
        """
        self._take(self._order.shared(learner, num_learners, own_learners))

    def batch(self, step: int) -> Batch:
        """The batch of global step ``step``.

        Returns:
            Inputs and targets on the device: ``local_batch_size`` of each learner, or fewer (perhaps 0) in a kept
            tail. Images [n, C, H, W] are normalised by the training split's mean and standard deviation.
        """
        begin, sizes = self._part_of(step)
        part = slice(begin, begin + sum(sizes))
        flips = self._flips[part] if self._config.flip else None
        offsets = self._offsets[:, part] if self._config.crop_padding > 0 else None
        inputs, targets = self._store.take(self._samples[part], flips, offsets)
        return Batch(inputs, targets, sizes)

    def close(self) -> None:
        """There is nothing to end."""

    def _take(self, order: Order) -> None:
        """Go by ``order`` from now on."""
        self._order = order
        self.steps_per_epoch = order.steps_per_epoch
        self._epoch = -1

    def _part_of(self, step: int) -> tuple[int, list[int]]:
        """Where the batch of ``step`` begins in the order of the epoch, and how many samples each learner has."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        first = step_in_epoch * self._order.own_learners
        return self._begins[first], self._sizes[first : first + self._order.own_learners]

    def _start_epoch(self, epoch: int) -> None:
        """Draw the epoch's order and augmentation, and move the learners' part of them to the device at once."""
        parts = self._order.of_epoch(epoch)
        samples = np.concatenate(parts)
        self._sizes = [len(part) for part in parts]
        self._begins = list(itertools.accumulate(self._sizes, initial=0))
        self._samples: Tensor = torch.from_numpy(samples).to(self._store.device)
        config, device = self._config, self._store.device
        if config.flip or config.crop_padding > 0:
            flips, offsets = epoch_augmentation(self._seed, epoch, self._order.num_samples, config.crop_padding)
            self._flips = torch.from_numpy(flips[samples]).to(device)
            self._offsets = torch.from_numpy(np.ascontiguousarray(offsets[samples].T)).to(device)
        self._epoch = epoch


class DeviceSplit:
    """A split on a device, in its stored order, for evaluation."""

    def __init__(self, store: Store) -> None:
        """``store``: the split on the device."""
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[tuple[Tree, Tree]]:
        """Samples ``start`` to ``stop`` - 1 in batches: inputs [n, ...], images normalised, and targets [n, ...]."""
        assert 0 <= start <= stop <= len(self)
        for first in range(start, stop, batch_size):
            yield self._store.stretch(first, min(first + batch_size, stop))
