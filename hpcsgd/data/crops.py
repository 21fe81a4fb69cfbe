"""Boxes within images, and what is in them brought to one size."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
"""Of a random crop: its part of the image, and its width over its height (Szegedy 2015; Goyal 2017, section 5.1)."""

_CROP_STREAM = 7
"""First word of the seeds, in the count of ``hpcsgd.data.shards``."""


def crop_draws(seed: int, epoch: int, num_samples: int) -> NDArray[np.float64]:
    """Uniform draws of each sample in an epoch, [num_samples, 5], whichever rank it falls to."""
    return np.random.default_rng([_CROP_STREAM, seed, epoch]).random((num_samples, 5))


def random_boxes(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes of random area, shape and place within an image: width, height, and the middle, [n, 4].

    Sizes are parts of the image's; places go from -1 to 1. Sides longer than the image are cut to it.
    """
    area = AREA[0] + (AREA[1] - AREA[0]) * draws[:, 0]
    ratio = np.exp(np.log(RATIO[0]) + np.log(RATIO[1] / RATIO[0]) * draws[:, 1])
    sides = np.minimum(np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], axis=1), 1.0)
    places = (2 * draws[:, 2:4] - 1) * (1 - sides)
    return np.concatenate([sides, places], axis=1)


def cut(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut ``boxes`` [n, 4] (width, height, middle; a negative width mirrors) from images [n, C, H, W], by bilinear
    interpolation: [n, C, size, size]."""
    theta = images.new_zeros((len(images), 2, 3))
    theta[:, 0, 0], theta[:, 1, 1] = boxes[:, 0], boxes[:, 1]
    theta[:, :, 2] = boxes[:, 2:]
    grid = F.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def to_pixels(boxes: NDArray[np.float64], stored: int) -> NDArray[np.float64]:
    """The same boxes [n, 4] with sides of whole pixels, at whole pixels, of images of ``stored`` x ``stored``."""
    sides = np.rint(boxes[:, :2] * stored).clip(1, stored)
    corners = np.rint((boxes[:, 2:] + 1 - boxes[:, :2]) / 2 * stored).clip(0, stored - sides)
    return np.concatenate([sides / stored, (2 * corners + sides) / stored - 1], axis=1)


def resample(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut as :func:`cut` does, with antialiasing: where a box is larger than ``size``, a pixel is the mean of all that
    it covers, weighted by a triangle as wide as two of it. Boxes are of whole pixels; what is outside does not count.

    This is ``torchvision.transforms.functional.resized_crop(..., antialias=True)``, for a box of its own an image, as
    two products of matrices: in the precision that is set for these.
    """
    height, width = images.shape[2:]
    across, down = (
        _triangles(boxes[:, axis], boxes[:, 2 + axis], stored, size) for axis, stored in enumerate((width, height))
    )
    return torch.einsum("nchw,ntw,nsh->ncst", images, across, down)


def _triangles(sides: Tensor, middles: Tensor, stored: int, size: int) -> Tensor:
    """Weights [n, size, stored] along an axis of ``stored`` pixels; boxes [n] as of :func:`cut`."""
    places = torch.arange(size, dtype=sides.dtype, device=sides.device) + 0.5
    pixels = torch.arange(stored, dtype=sides.dtype, device=sides.device) + 0.5
    lengths, middles = (sides * stored).view(-1, 1, 1), ((middles + 1) / 2 * stored).view(-1, 1, 1)
    # Mirrored boxes have negative lengths: their places go from right to left.
    centres = middles + lengths * (places / size - 0.5).view(1, -1, 1)
    reach = (lengths.abs() / size).clamp(min=1.0)
    weights = (1 - (pixels - centres).abs() / reach).clamp(min=0.0)
    weights = weights * ((pixels - middles).abs() < lengths.abs() / 2)
    return weights / weights.sum(dim=2, keepdim=True)
