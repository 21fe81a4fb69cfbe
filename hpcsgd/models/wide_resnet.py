"""WideResNet-28-10 (Zagoruyko 2016, arXiv 1605.07146) for small images, without dropout."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hpcsgd.models.initial import convolution, linear


class WideResNet(nn.Module):
    """A 3x3 convolution, three stages of n pre-activation blocks, average pooling, a linear layer: 6n + 4 layers.

    The stages have 16, 32 and 64 times ``widen`` filters; stages 2 and 3 halve the image.
    """

    def __init__(
        self, channels: int, blocks_per_stage: int, widen: int, num_classes: int, *, zero_gamma: bool = False
    ) -> None:
        """Build the network.

        Args:
            channels: of an image.
            blocks_per_stage: n.
            widen: factor of the filters.
            num_classes: outputs.
            zero_gamma: start the last BatchNorm scale of each block at 0, so that each block starts as its shortcut.
        """
        super().__init__()
        self.convolution = convolution(channels, 16)
        blocks = []
        inputs = 16
        for stage, filters in enumerate((16 * widen, 32 * widen, 64 * widen)):
            for block in range(blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(PreActivationBlock(inputs, filters, stride, zero_gamma=zero_gamma))
                inputs = filters
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(inputs)
        self.linear = linear(inputs, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, C, H, W] to logits [n, num_classes]."""
        features = F.relu(self.norm(self.blocks(self.convolution(images))), inplace=True)
        logits: Tensor = self.linear(features.mean(dim=(2, 3)))
        return logits


class PreActivationBlock(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, twice, added to a shortcut: a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, filters: int, stride: int, *, zero_gamma: bool) -> None:
        """Build a block from ``inputs`` to ``filters`` channels."""
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.convolution1 = convolution(inputs, filters, stride=stride)
        self.norm2 = nn.BatchNorm2d(filters)
        self.convolution2 = convolution(filters, filters)
        changes = stride > 1 or inputs != filters
        self.shortcut = convolution(inputs, filters, side=1, stride=stride) if changes else None
        if zero_gamma:
            nn.init.zeros_(self.norm2.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Features [n, inputs, H, W] to [n, filters, ceil(H / stride), ceil(W / stride)]."""
        active = F.relu(self.norm1(features), inplace=True)
        residual = self.convolution1(active)
        residual = self.convolution2(F.relu(self.norm2(residual), inplace=True))
        shortcut = features if self.shortcut is None else self.shortcut(active)
        return residual + shortcut  # type: ignore[no-any-return]
