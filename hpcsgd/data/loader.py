"""Loaders that hold a whole split on a device: batches are gathered, augmented and normalised there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hpcsgd.config import DataConfig
from hpcsgd.data.batches import Batch
from hpcsgd.data.dataset import ArraySplit, Dataset
from hpcsgd.data.device import Normaliser, PaddedImages, mirror, to_device
from hpcsgd.data.shards import epoch_augmentation, epoch_permutation, learner_batch, steps_per_epoch


class DeviceLoader:
    """Training batches of the learners of a rank.

    A batch is a function of the step alone: steps may be asked for in any order and again. Augmentation is a
    function of (seed, epoch, sample), so it does not depend on the number of ranks.

    Attributes:
        steps_per_epoch: steps of an epoch.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: DataConfig,
        *,
        seed: int,
        learner: int,
        num_learners: int,
        local_batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
        channels_last: bool,
        own_learners: int = 1,
    ) -> None:
        """Move the training split of ``dataset`` to ``device``.

        Args:
            dataset: its training split.
            config: augmentation and the rule for the tail of an epoch.
            seed: of the permutations and the augmentation.
            learner: the first learner here, counted over all ranks.
            num_learners: learners of all ranks.
            local_batch_size: samples of a full batch.
            device: where the split is held and batches are made.
            dtype: of the images in a batch.
            channels_last: memory order of the images in a batch.
            own_learners: learners here: ``learner`` and those that follow it.

        Raises:
            UsageError: the split does not fill one global batch and ``config.tail`` is drop.
        """
        self._num_samples = len(dataset.train.labels)
        self._config = config
        self._seed = seed
        self._local_batch_size = local_batch_size
        self._device = device
        self._channels_last = channels_last
        self._images, self._labels = to_device(dataset.train, device, channels_last)
        if config.crop_padding > 0:
            self._padded = PaddedImages(self._images, config.crop_padding, channels_last)
            del self._images
        self._normalise = Normaliser(dataset, device, dtype, channels_last)
        self.share(learner, num_learners, own_learners)

    def share(self, learner: int, num_learners: int, own_learners: int) -> None:
        """Take the parts of ``own_learners`` from ``learner`` on, of so many, from now on.

        Raises:
            UsageError: the split does not fill one global batch and ``config.tail`` is drop.
        """
        global_batch_size = num_learners * self._local_batch_size
        self.steps_per_epoch = steps_per_epoch(self._num_samples, global_batch_size, self._config.tail)
        self._learner = learner
        self._num_learners = num_learners
        self._own_learners = own_learners
        self._epoch = -1

    def batch(self, step: int) -> Batch:
        """The batch of global step ``step``.

        Returns:
            Images [n, C, H, W], normalised by the training split's mean and standard deviation, and labels int64
            [n], both on the device: ``local_batch_size`` of each learner, or fewer (perhaps 0) in a kept tail.
        """
        bounds = self._bounds_of(step)
        part = slice(bounds[0], bounds[-1])
        samples = self._order[part]
        if self._config.crop_padding > 0:
            images = self._padded.windows(samples, *self._offsets[:, part])
        else:
            images = self._images.index_select(0, samples)
        if self._config.flip:
            images = mirror(images, self._flips[part], self._channels_last)
        sizes = [stop - start for start, stop in itertools.pairwise(bounds)]
        return Batch(self._normalise(images), self._labels.index_select(0, samples), sizes)

    def close(self) -> None:
        """There is nothing to end."""

    def _bounds_of(self, step: int) -> list[int]:
        """Where the batch of each learner at ``step`` begins in the order of the epoch, and where the last ends."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        first = step_in_epoch * self._own_learners
        return self._bounds[first : first + self._own_learners + 1]

    def _start_epoch(self, epoch: int) -> None:
        """Draw the epoch's order and augmentation, and move the learners' part of them to the device at once."""
        permutation = epoch_permutation(self._seed, epoch, self._num_samples)
        slices = [
            learner_batch(permutation, step, learner, self._num_learners, self._local_batch_size, self._config.tail)
            for step in range(self.steps_per_epoch)
            for learner in range(self._learner, self._learner + self._own_learners)
        ]
        order = np.concatenate(slices)
        self._bounds = [0, *np.cumsum([len(samples) for samples in slices]).tolist()]
        self._order = torch.from_numpy(order).to(self._device)
        if self._config.flip or self._config.crop_padding > 0:
            flips, offsets = epoch_augmentation(self._seed, epoch, self._num_samples, self._config.crop_padding)
            self._flips = torch.from_numpy(flips[order]).to(self._device)
            self._offsets = torch.from_numpy(np.ascontiguousarray(offsets[order].T)).to(self._device)
        self._epoch = epoch


class DeviceSplit:
    """A split on a device, in its stored order, for evaluation."""

    def __init__(
        self, dataset: Dataset, split: ArraySplit, *, device: torch.device, dtype: torch.dtype, channels_last: bool
    ) -> None:
        """Move ``split`` to ``device``; ``dataset`` gives the mean and standard deviation."""
        self._images, self._labels = to_device(split, device, channels_last)
        self._normalise = Normaliser(dataset, device, dtype, channels_last)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples ``start`` to ``stop`` - 1 in batches: images [n, C, H, W] normalised, labels int64 [n]."""
        assert 0 <= start <= stop <= len(self)
        for first in range(start, stop, batch_size):
            last = min(first + batch_size, stop)
            yield self._normalise(self._images[first:last]), self._labels[first:last]
