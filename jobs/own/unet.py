"""What unet.yaml names: a U-Net, images with the masks that it is to find, the Dice loss, and the IoU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UNet(nn.Module):
    """From images [n, 1, h, w] to a logit of each pixel, likewise; h and w are multiples of 4."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down1 = block(1, width)
        self.down2 = block(width, 2 * width)
        self.bottom = block(2 * width, 4 * width)
        self.up2 = block(6 * width, 2 * width)
        self.up1 = block(3 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.down1(images)
        coarse = self.down2(F.max_pool2d(fine, 2))
        bottom = self.bottom(F.max_pool2d(coarse, 2))
        coarse = self.up2(torch.cat((coarse, F.interpolate(bottom, scale_factor=2)), 1))
        fine = self.up1(torch.cat((fine, F.interpolate(coarse, scale_factor=2)), 1))
        return self.head(fine)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution and what follows it."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU())


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    """The Dice loss of each image, [n]."""
    found, masks = logits.sigmoid().flatten(1), masks.flatten(1)
    return 1 - (2 * (found * masks).sum(1) + 1) / (found.sum(1) + masks.sum(1) + 1)


class IoU:
    """Pixels in both the mask and what is found over those in either, of all images together."""

    def counts(self, logits: Tensor, masks: Tensor) -> Tensor:
        found, masks = logits > 0, masks > 0.5
        return torch.stack(((found & masks).sum(), (found | masks).sum()))

    def value(self, totals: Sequence[float]) -> float:
        return totals[0] / totals[1] if totals[1] else 1.0


def discs(
    train: int = 1024, test: int = 256, size: int = 32, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images of a disc in noise and its mask, each [samples, 1, size, size], by split."""
    rng = np.random.default_rng(seed)
    count = train + test
    y, x = np.mgrid[:size, :size]
    row, column = rng.uniform(0.2 * size, 0.8 * size, (2, count, 1, 1, 1))
    radius = rng.uniform(0.1 * size, 0.3 * size, (count, 1, 1, 1))
    masks = ((y - row) ** 2 + (x - column) ** 2 < radius**2).astype(np.float32)
    images = masks + rng.standard_normal(masks.shape, np.float32)
    return {"train": (images[:train], masks[:train]), "test": (images[train:], masks[train:])}
