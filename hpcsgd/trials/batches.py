"""Training batches of trials that train together: each has an order of its own, all share the data in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hpcsgd.config import DataConfig
from hpcsgd.data.batches import Batch
from hpcsgd.data.order import Order
from hpcsgd.data.shards import epoch_augmentation, epoch_permutation
from hpcsgd.data.store import Store

_TRIAL_STREAM = 3
"""First word of the trials' seeds, in the count of ``hpcsgd.data.shards``."""


def trial_seed(seed: int, batch_size: int, trial: int) -> int:
    """The seed of one trial: of its initial parameters, its orders and its augmentation."""
    return int(np.random.SeedSequence([_TRIAL_STREAM, seed, batch_size, trial]).generate_state(1)[0])


class GroupBatches:
    """The batches of a group of trials, each in its own order, drawn from (its seed, epoch).

    Attributes:
        steps_per_epoch: steps of an epoch.
    """

    def __init__(
        self, store: Store, config: DataConfig, seeds: Sequence[int], batch_size: int, rank: int = 0, size: int = 1
    ) -> None:
        """
        Args:
            store: the training split on the device.
            config: the recipe's section.
            seeds: of the trials.
            batch_size: samples of a step of one trial.
            rank: of the ranks that train these trials together, this one; it takes its part of each batch.
            size: how many they are; they divide ``batch_size``.

        Raises:
            UsageError: the split does not fill a batch and ``data.tail`` is drop.
        """
        assert batch_size % size == 0, (batch_size, size)
        self._store = store
        self._config = config
        self._seeds = list(seeds)
        places = np.arange(len(store))
        order = Order(lambda _: places, len(store), batch_size // size, config.tail, rank, size)
        self.steps_per_epoch = order.steps_per_epoch
        parts = order.of_epoch(0)
        self._batch_size = batch_size
        # The places in a permutation that make up an epoch are the same for each trial and epoch.
        self._places = np.concatenate(parts)
        self._bounds = [0, *np.cumsum([len(part) for part in parts]).tolist()]
        self._epoch = -1

    def num_samples(self, step: int) -> int:
        """Samples of the whole batch of ``step``, over all ranks of the team."""
        last = (step + 1) % self.steps_per_epoch == 0
        rest = len(self._store) - (self.steps_per_epoch - 1) * self._batch_size
        return min(self._batch_size, rest) if last and self._config.tail == "keep" else self._batch_size

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the trials in ``rows`` only, in this order."""
        self._seeds = [self._seeds[row] for row in rows]
        if self._epoch >= 0:
            self._start_epoch(self._epoch, [self._drawn[row] for row in rows])

    def batch(self, step: int) -> Batch:
        """The batches of ``step``, on the device; all trials have as many samples."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch, [self._draw(seed, epoch) for seed in self._seeds])
        part = slice(self._bounds[step_in_epoch], self._bounds[step_in_epoch + 1])
        flips = self._flips[:, part].reshape(-1) if self._config.flip else None
        offsets = self._offsets[:, :, part].reshape(2, -1) if self._config.crop_padding > 0 else None
        inputs, targets = self._store.take(self._order[:, part].reshape(-1), flips, offsets)
        return Batch(inputs, targets, [part.stop - part.start] * len(self._seeds))

    def _draw(self, seed: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Order [n], flips [n] and offsets [2, n] of a trial in an epoch; the latter two are empty if not augmented."""
        num_samples, config = len(self._store), self._config
        order = epoch_permutation(seed, epoch, num_samples)[self._places]
        flips, offsets = np.empty(0, np.bool_), np.empty((0, 2), np.int64)
        if config.flip or config.crop_padding > 0:
            flips, offsets = epoch_augmentation(seed, epoch, num_samples, config.crop_padding)
            flips, offsets = flips[order], offsets[order]
        return torch.from_numpy(order), torch.from_numpy(flips), torch.from_numpy(np.ascontiguousarray(offsets.T))

    def _start_epoch(self, epoch: int, drawn: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Move what was drawn for the trials to the device at once."""
        self._epoch, self._drawn = epoch, drawn
        orders, flips, offsets = zip(*drawn, strict=True)
        self._order = torch.stack(orders).to(self._store.device)
        self._flips = torch.stack(flips).to(self._store.device)
        self._offsets = torch.stack(offsets, dim=1).to(self._store.device)
