"""Training batches and splits that are read from a pack as they are needed, the next batch by a thread."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcsgd.comm.device import use_device
from hpcsgd.config import DataConfig
from hpcsgd.data.ahead import Sender, Sent
from hpcsgd.data.batches import Batch, OfSteps
from hpcsgd.data.crops import crop_draws, cut, random_boxes, resample, to_pixels
from hpcsgd.data.dataset import ArraySplit, Dataset
from hpcsgd.data.decoding import make_image_reader
from hpcsgd.data.device import Normaliser
from hpcsgd.data.order import Order
from hpcsgd.data.workers import num_workers


@dataclass(frozen=True)
class Raw:
    """The samples of a step as they are read.

    Attributes:
        tensors: the stored images, uint8 [n, H, W, C]; of each the part that is taken, as :func:`cut` wants it, [n, 4];
            labels, int64 [n].
        sizes: samples of each learner.
    """

    tensors: tuple[Tensor, Tensor, Tensor]
    sizes: list[int]


class StreamLoader(OfSteps):
    """Training batches of the learners of a rank, read from the disk: ``DeviceLoader`` is used alike.

    A batch is a function of the step alone; what is asked for in order is read ahead, and sent to the device. It comes
    in three stages: :meth:`read`, :meth:`send`, :meth:`make`.

    Attributes:
        images: the reader of the stored images.
        steps_per_epoch: steps of an epoch.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: DataConfig,
        order: Order,
        *,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        channels_last: bool,
    ) -> None:
        """
        Args:
            dataset: its training split.
            config: augmentation.
            order: which samples the learners here take.
            seed: of the augmentation.
            device: where batches are made.
            dtype: of the images in a batch.
            channels_last: memory order of the images in a batch.
        """
        self._labels = dataset.train.targets
        self.images = make_image_reader(dataset.train.inputs, device, num_workers(config))
        self._sender = Sender(device)
        self._stored = dataset.train.inputs.shape[2]
        self._config = config
        self._device = device
        self._dtype = dtype
        self._shape = dataset.shape
        self._memory = torch.channels_last if channels_last else torch.contiguous_format
        self._normalise = Normaliser(dataset, device, dtype, channels_last=False)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader", initializer=use_device, initargs=(device,))
        self._ahead: dict[int, Future[tuple[Sent, list[int]]]] = {}
        # Of two epochs: a batch that is read ahead may be of the next.
        self._draws = lru_cache(2)(lambda epoch: crop_draws(seed, epoch, len(dataset.train)))
        self._order = order
        self.steps_per_epoch = order.steps_per_epoch

    def share(self, learner: int, num_learners: int, own_learners: int) -> None:
        """Take the parts of ``own_learners`` from ``learner`` on, of so many, from now on.

        Raises:
            UsageError: the split does not fill one global batch and ``data.tail`` is drop.
        """
        self._order = self._order.shared(learner, num_learners, own_learners)
        self.steps_per_epoch = self._order.steps_per_epoch
        self._ahead.clear()

    def batch(self, step: int) -> Batch:
        """The batch of global step ``step``: images [n, C, H, W] and labels int64 [n], learner after learner."""
        under_way = self._ahead.pop(step, None)
        if under_way is None:
            under_way = self._thread.submit(self._bring, step)
        # One thread reads, batch after batch: the memory of this one is not read into while it is used here.
        self._ahead = {step + 1: self._thread.submit(self._bring, step + 1)}
        return self.make(*under_way.result())

    def samples(self, step: int) -> NDArray[np.int64]:
        """The samples of a step, learner after learner."""
        return np.concatenate(self._order.samples(step))

    def read(self, step: int) -> Raw:
        """Read the samples of a step into memory. To be called by one thread at a time."""
        samples = self.samples(step)
        rest = self._crops(step // self.steps_per_epoch, samples), torch.from_numpy(self._labels[samples])
        boxes, labels = (_movable(tensor, self._device) for tensor in rest)
        sizes = [len(part) for part in self._order.samples(step)]
        return Raw((self.images.read(samples), boxes, labels), sizes)

    def send(self, raw: Raw) -> Sent:
        """Begin to copy them to the device."""
        return self._sender.send(*raw.tensors)

    def make(self, sent: Sent, sizes: list[int]) -> Batch:
        """The batch of what was sent: cut, mirrored and normalised on the device."""
        pixels, boxes, labels = sent.take()
        # In the order of their channels from here on: converting pixel by pixel takes a CPU several times as long.
        images = pixels.movedim(-1, 1).to(self._dtype, memory_format=torch.contiguous_format)
        crop = resample if self._config.antialias else cut
        images = crop(images, boxes, self._shape[1])
        return Batch(self._normalise(images).contiguous(memory_format=self._memory), labels, sizes)

    def close(self) -> None:
        """End the threads."""
        self._ahead.clear()
        self._thread.shutdown(cancel_futures=True)
        self.images.close()

    def _bring(self, step: int) -> tuple[Sent, list[int]]:
        """Read the samples of a step and send them."""
        raw = self.read(step)
        return self.send(raw), raw.sizes

    def _crops(self, epoch: int, samples: NDArray[np.int64]) -> Tensor:
        """The part of each image that is taken, as :func:`cut` wants it."""
        draws = self._draws(epoch)[samples]
        if self._config.random_resized_crop:
            boxes = random_boxes(draws)
            if self._config.antialias:
                boxes = to_pixels(boxes, self._stored)
        else:
            share = self._shape[1] / self._stored
            boxes = np.tile([share, share, 0.0, 0.0], (len(samples), 1))
        mirrored = (draws[:, 4] < 0.5) & self._config.flip
        boxes[:, 0] *= np.where(mirrored, -1.0, 1.0)
        return torch.from_numpy(boxes).to(self._dtype)


class StreamSplit:
    """A split on the disk, in its stored order, for evaluation: the middle of each image."""

    def __init__(
        self,
        dataset: Dataset,
        split: ArraySplit,
        *,
        device: torch.device,
        dtype: torch.dtype,
        channels_last: bool,
        workers: int = 1,
    ) -> None:
        """``split``: of ``dataset``; ``workers``: threads that decode; the others as for :class:`StreamLoader`."""
        self._split = split
        self._device = device
        self._workers = workers
        self._memory = torch.channels_last if channels_last else torch.contiguous_format
        self._normalise = Normaliser(dataset, device, dtype, channels_last=False)
        margin = split.inputs.shape[2] - dataset.shape[1]
        self._middle = slice(margin // 2, margin // 2 + dataset.shape[1])

    def __len__(self) -> int:
        return len(self._split)

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples ``start`` to ``stop`` - 1 in batches: images [n, C, H, W] normalised, labels int64 [n].

        They are read and sent one batch ahead.
        """
        assert 0 <= start <= stop <= len(self)
        images, sender = make_image_reader(self._split.inputs, self._device, self._workers), Sender(self._device)

        def bring(first: int) -> Sent:
            samples = np.arange(first, min(first + batch_size, stop))
            labels = torch.from_numpy(self._split.targets[samples])
            return sender.send(images.read(samples), _movable(labels, self._device))

        thread = ThreadPoolExecutor(1, thread_name_prefix="reader", initializer=use_device, initargs=(self._device,))
        try:
            ahead = None
            for first in range(start, stop, batch_size):
                sent = (ahead or thread.submit(bring, first)).result()
                following = first + batch_size
                ahead = thread.submit(bring, following) if following < stop else None
                yield self._make(sent)
        finally:
            thread.shutdown(cancel_futures=True)
            images.close()

    def _make(self, sent: Sent) -> tuple[Tensor, Tensor]:
        """A batch of what was sent."""
        pixels, labels = sent.take()
        # In the order of their channels from here on, as for training.
        images = pixels[:, self._middle, self._middle].movedim(-1, 1).contiguous()
        return self._normalise(images).contiguous(memory_format=self._memory), labels


def _movable(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor from which a GPU copies beside its work."""
    return tensor.pin_memory() if device.type == "cuda" else tensor
