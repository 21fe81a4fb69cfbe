"""Training batches of trials that train together: each has an order of its own, all share the data in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import Dataset
from hpcsgd.data.device import Normaliser, PaddedImages, mirror, to_device
from hpcsgd.data.shards import epoch_augmentation, epoch_permutation, learner_batch, steps_per_epoch

_TRIAL_STREAM = 3
"""First word of the trials' seeds, in the count of ``hpcsgd.data.shards``."""


def trial_seed(seed: int, batch_size: int, trial: int) -> int:
    """The seed of one trial: of its initial parameters, its orders and its augmentation."""
    return int(np.random.SeedSequence([_TRIAL_STREAM, seed, batch_size, trial]).generate_state(1)[0])


class TrainingSplit:
    """The training split on a device, once a rank. Without augmentation it is kept normalised: nothing is left to do.

    Attributes:
        num_samples: samples of the split.
        augmented: whether images are cropped or mirrored.
        device: where it is.
    """

    def __init__(
        self, dataset: Dataset, config: DataConfig, device: torch.device, dtype: torch.dtype, channels_last: bool
    ) -> None:
        """Move the training split of ``dataset`` to ``device``; batches are of ``dtype``."""
        self.config = config
        self.device = device
        self.num_samples = len(dataset.train.labels)
        self.augmented = config.flip or config.crop_padding > 0
        self._channels_last = channels_last
        self._normalise = Normaliser(dataset, device, dtype, channels_last)
        images, self._labels = to_device(dataset.train, device, channels_last)
        if config.crop_padding > 0:
            self._padded = PaddedImages(images, config.crop_padding, channels_last)
        else:
            self._images = images if self.augmented else self._normalise(images)

    def take(self, samples: Tensor, flips: Tensor | None, offsets: Tensor | None) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W], normalised, and labels int64 [n] of ``samples`` [n].

        Args:
            samples: numbers in the split.
            flips: which to mirror, [n]; None where the recipe mirrors none.
            offsets: corners of the crops, [2, n]; likewise.
        """
        labels = self._labels.index_select(0, samples)
        if not self.augmented:
            return self._images.index_select(0, samples), labels
        if offsets is not None:
            images = self._padded.windows(samples, offsets[0], offsets[1])
        else:
            images = self._images.index_select(0, samples)
        if flips is not None:
            images = mirror(images, flips, self._channels_last)
        return self._normalise(images), labels


class GroupBatches:
    """The batches of a group of trials, each in its own order, drawn from (its seed, epoch).

    Attributes:
        steps_per_epoch: steps of an epoch.
    """

    def __init__(
        self, split: TrainingSplit, seeds: Sequence[int], batch_size: int, rank: int = 0, size: int = 1
    ) -> None:
        """
        Args:
            split: the data.
            seeds: of the trials.
            batch_size: samples of a step of one trial.
            rank: of the ranks that train these trials together, this one; it takes its part of each batch.
            size: how many they are; they divide ``batch_size``.

        Raises:
            UsageError: the split does not fill a batch and ``data.tail`` is drop.
        """
        assert batch_size % size == 0, (batch_size, size)
        self._split = split
        self._seeds = list(seeds)
        tail, local = split.config.tail, batch_size // size
        self.steps_per_epoch = steps_per_epoch(split.num_samples, batch_size, tail)
        places = np.arange(split.num_samples)
        parts = [learner_batch(places, s, rank, size, local, tail) for s in range(self.steps_per_epoch)]
        self._batch_size = batch_size
        # The places in a permutation that make up an epoch are the same for each trial and epoch.
        self._places = np.concatenate(parts)
        self._bounds = [0, *np.cumsum([len(part) for part in parts]).tolist()]
        self._epoch = -1

    def num_samples(self, step: int) -> int:
        """Samples of the whole batch of ``step``, over all ranks of the team."""
        last = (step + 1) % self.steps_per_epoch == 0
        rest = self._split.num_samples - (self.steps_per_epoch - 1) * self._batch_size
        return min(self._batch_size, rest) if last and self._split.config.tail == "keep" else self._batch_size

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the trials in ``rows`` only, in this order."""
        self._seeds = [self._seeds[row] for row in rows]
        if self._epoch >= 0:
            self._start_epoch(self._epoch, [self._drawn[row] for row in rows])

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The batches of ``step``: images [R, n, C, H, W], normalised, and labels int64 [R, n], on the device."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch, [self._draw(seed, epoch) for seed in self._seeds])
        part = slice(self._bounds[step_in_epoch], self._bounds[step_in_epoch + 1])
        shape = (len(self._seeds), part.stop - part.start)
        flips = self._flips[:, part].reshape(-1) if self._split.config.flip else None
        offsets = self._offsets[:, :, part].reshape(2, -1) if self._split.config.crop_padding > 0 else None
        images, labels = self._split.take(self._order[:, part].reshape(-1), flips, offsets)
        return images.view(*shape, *images.shape[1:]), labels.view(shape)

    def _draw(self, seed: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Order [n], flips [n] and offsets [2, n] of a trial in an epoch; the latter two are empty if not augmented."""
        num_samples, config = self._split.num_samples, self._split.config
        order = epoch_permutation(seed, epoch, num_samples)[self._places]
        flips, offsets = np.empty(0, np.bool_), np.empty((0, 2), np.int64)
        if self._split.augmented:
            flips, offsets = epoch_augmentation(seed, epoch, num_samples, config.crop_padding)
            flips, offsets = flips[order], offsets[order]
        return torch.from_numpy(order), torch.from_numpy(flips), torch.from_numpy(np.ascontiguousarray(offsets.T))

    def _start_epoch(self, epoch: int, drawn: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Move what was drawn for the trials to the device at once."""
        self._epoch, self._drawn = epoch, drawn
        orders, flips, offsets = zip(*drawn, strict=True)
        self._order = torch.stack(orders).to(self._split.device)
        self._flips = torch.stack(flips).to(self._split.device)
        self._offsets = torch.stack(offsets, dim=1).to(self._split.device)
