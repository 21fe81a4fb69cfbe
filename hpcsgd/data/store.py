"""A split that is held on a device: pictures as they are stored, and trees of tensors of any kind."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import ArraySplit, native
from hpcsgd.data.dataset import Dataset
from hpcsgd.data.device import Normaliser, PaddedImages, mirror, to_device
from hpcsgd.data.trees import Tree, map_tree
from hpcsgd.data.trees import stretch as cut
from hpcsgd.errors import UsageError


class Store(Protocol):
    """The samples of a split on a device."""

    device: torch.device

    def __len__(self) -> int: ...

    def take(self, samples: Tensor, flips: Tensor | None = None, offsets: Tensor | None = None) -> tuple[Tree, Tree]:
        """Inputs and targets [n, ...] of ``samples`` [n], as new tensors.

        Args:
            samples: numbers in the split.
            flips: which pictures to mirror, [n]; None: none.
            offsets: corners of the crops, [2, n]; None: nothing is cropped.
        """

    def stretch(self, start: int, stop: int) -> tuple[Tree, Tree]:
        """Inputs and targets of samples ``start`` to ``stop`` - 1, not augmented."""


class Pictures:
    """Images [N, C, H, W] with labels [N], in stored order; or what has no moments, as texts, as it is."""

    def __init__(
        self,
        dataset: Dataset,
        split: ArraySplit,
        device: torch.device,
        dtype: torch.dtype,
        channels_last: bool,
        augment: DataConfig | None = None,
        *,
        prepared: bool = False,
    ) -> None:
        """Move ``split`` to ``device``.

        Args:
            dataset: gives the mean and standard deviation.
            split: one of its splits.
            device: where it is held.
            dtype: of the images that are taken.
            channels_last: memory order of the images that are taken.
            augment: how images are cropped; None: not at all.
            prepared: keep them normalised, where they are not augmented: then nothing is left to do.
        """
        self.device = device
        self._channels_last = channels_last
        self._normalise = Normaliser(dataset, device, dtype, channels_last)
        images, self._labels = to_device(split, device, channels_last)
        padding = augment.crop_padding if augment is not None else 0
        self._prepared = prepared and not padding and not (augment is not None and augment.flip)
        self._padded = PaddedImages(images, padding, channels_last) if padding else None
        if self._padded is None:
            self._images = self._normalise(images) if self._prepared else images

    def __len__(self) -> int:
        return len(self._labels)

    def take(
        self, samples: Tensor, flips: Tensor | None = None, offsets: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W], normalised, and labels int64 [n]."""
        labels = self._labels.index_select(0, samples)
        if self._padded is not None:
            assert offsets is not None, "images in a frame have to be cropped"
            images = self._padded.windows(samples, offsets[0], offsets[1])
        else:
            images = self._images.index_select(0, samples)
        if flips is not None:
            images = mirror(images, flips, self._channels_last)
        return images if self._prepared else self._normalise(images), labels

    def stretch(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W], normalised, and labels int64 [n]."""
        assert self._padded is None, "only the training split is cropped"
        images = self._images[start:stop]
        return images if self._prepared else self._normalise(images), self._labels[start:stop]


class Trees:
    """A split of any inputs and targets; floating-point ones have the run's type."""

    def __init__(self, split: ArraySplit, device: torch.device, dtype: torch.dtype, channels_last: bool) -> None:
        """Move ``split`` to ``device``.

        Args:
            split: trees of arrays or tensors, [N, ...].
            device: where it is held.
            dtype: of what is floating-point.
            channels_last: memory order of what has four axes, in batches.

        Raises:
            UsageError: an array is of a type that torch has not.
        """
        self.device = device
        self._channels_last = channels_last
        self._num_samples = len(split)
        self._inputs, self._targets = (
            map_tree(lambda leaf: brought(as_tensor(leaf), device, dtype), tree)
            for tree in (split.inputs, split.targets)
        )

    def __len__(self) -> int:
        return self._num_samples

    def take(self, samples: Tensor, flips: Tensor | None = None, offsets: Tensor | None = None) -> tuple[Tree, Tree]:
        """Those of ``samples``."""
        assert flips is None and offsets is None, "only pictures of the package's own sets are augmented"
        inputs, targets = (
            map_tree(lambda leaf: leaf.index_select(0, samples), tree) for tree in (self._inputs, self._targets)
        )
        return in_memory_order(inputs, self._channels_last), targets

    def stretch(self, start: int, stop: int) -> tuple[Tree, Tree]:
        """Copies: a user's network may write into its inputs."""
        inputs, targets = (map_tree(torch.clone, cut(tree, start, stop)) for tree in (self._inputs, self._targets))
        return in_memory_order(inputs, self._channels_last), targets


def as_tensor(leaf: object) -> Tensor:
    """An array or a tensor as a tensor, which shares its memory where that can be written.

    Raises:
        UsageError: torch has no such type.
    """
    if isinstance(leaf, Tensor):
        return leaf.detach()
    assert isinstance(leaf, np.ndarray | np.generic), leaf
    try:
        return torch.from_numpy(np.require(native(np.asarray(leaf)), requirements=["C", "W"]))
    except TypeError as error:
        raise UsageError(f"an array of the data is of type {leaf.dtype}, which torch has not: convert it") from error


def brought(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A tensor on ``device``, of type ``dtype`` where it is floating-point."""
    return tensor.to(device, dtype if tensor.is_floating_point() else None, non_blocking=True)


def in_memory_order(tree: Tree, channels_last: bool) -> Tree:
    """What has four axes in channels-last order, where that is asked for."""
    if not channels_last:
        return tree
    return map_tree(lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t, tree)
