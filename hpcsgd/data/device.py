"""Images on a device: stored in one memory order, cropped, mirrored and normalised with few kernels.

All functions work on images in *stored order*: [n, C, H, W], or [n, H, W, C] where batches are channels-last.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hpcsgd.data.arrays import check_exact
from hpcsgd.data.dataset import ArraySplit, Dataset


def to_device(split: ArraySplit, device: torch.device, channels_last: bool) -> tuple[Tensor, Tensor]:
    """Images in stored order and labels int64 [N] on ``device``; on the CPU they share the arrays' memory."""
    images = torch.from_numpy(np.require(split.inputs, requirements=["C", "W"]))
    labels = torch.from_numpy(np.require(split.targets, requirements=["C", "W"]))
    return to_stored_order(images.to(device), channels_last), labels.to(device)


def to_stored_order(images: Tensor, channels_last: bool) -> Tensor:
    """Images [..., C, H, W] in stored order, contiguous."""
    return images.movedim(-3, -1).contiguous() if channels_last else images


class Normaliser:
    """(x - mean) / std by channel, with the training split's moments; without moments, samples as they are."""

    def __init__(self, dataset: Dataset, device: torch.device, dtype: torch.dtype, channels_last: bool) -> None:
        """Take mean and std of ``dataset``; results are of type ``dtype`` in the wanted memory order.

        Raises:
            UsageError: ``dtype`` cannot hold the images as they are.
        """
        self._dtype = dtype
        self._channels_last = channels_last
        self._has_moments = bool(dataset.mean)
        if not self._has_moments:
            return
        check_exact(dataset.train.inputs, str(dtype).removeprefix("torch."))
        self._mean, self._std = (
            # One value a pixel: broadcast over samples only, the kernels run along whole images.
            to_stored_order(torch.tensor(values, dtype=dtype).view(-1, 1, 1).expand(dataset.shape), channels_last)
            .contiguous()
            .to(device)
            for values in (dataset.mean, dataset.std)
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Images in stored order to a new tensor [n, C, H, W]."""
        if not self._has_moments:
            return images
        values = images.to(self._dtype, copy=True).sub_(self._mean).div_(self._std)
        return values.movedim(-1, 1) if self._channels_last else values


class PaddedImages:
    """Images in a frame of raw zeros, from which a window of the images' size is cut at any place.

    The recipe (He 2016, Lin 2020) pads before it normalises. A window is copied image row by image row, each a
    run of adjacent elements: several times as fast as indexing single pixels.
    """

    def __init__(self, images: Tensor, padding: int, channels_last: bool) -> None:
        """Pad ``images``, which are in stored order, by ``padding`` pixels on each side."""
        sides = (padding,) * 4
        padded = torch.nn.functional.pad(images, (0, 0, *sides) if channels_last else sides)
        # In channels-last order the channels of a pixel are adjacent; else each channel is a plane of its own.
        _, planes, height, width = (images.unsqueeze(1) if channels_last else images).shape[:4]
        self._shape = images.shape[1:]
        self._pixel = images.shape[3] if channels_last else 1
        self._rows_per_image = planes * (height + 2 * padding)
        self._row_elements = (width + 2 * padding) * self._pixel
        window_rows = torch.arange(planes).view(-1, 1) * (height + 2 * padding) + torch.arange(height)
        self._window_rows = window_rows.view(1, -1).to(images.device)
        # Overlapping view: its row i is the run of elements that starts at element i.
        run = width * self._pixel
        self._runs = padded.view(-1).as_strided((padded.numel() - run + 1, run), (1, 1))

    def windows(self, samples: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Windows of ``samples`` [n], whose corners are at ``rows`` [n] and ``columns`` [n] of the frame."""
        first_row = samples * self._rows_per_image + rows
        starts = (first_row.view(-1, 1) + self._window_rows) * self._row_elements + columns.view(-1, 1) * self._pixel
        return self._runs.index_select(0, starts.view(-1)).view(-1, *self._shape)


def mirror(images: Tensor, flips: Tensor, channels_last: bool) -> Tensor:
    """Mirror the images (in stored order) whose entry of ``flips`` [n] is true, left to right."""
    # Whole images are picked from both versions: copying is faster than an elementwise choice, and no size
    # depends on the data, which would stall a GPU.
    both = torch.cat((images, images.flip(2 if channels_last else 3)))
    number = torch.arange(len(images), device=images.device)
    return both.index_select(0, number + len(images) * flips)
