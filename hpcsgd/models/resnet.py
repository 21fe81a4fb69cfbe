"""The residual networks of He 2016 (arXiv 1512.03385, section 4.2) for small images: 6n + 2 layers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from hpcsgd.models.initial import convolution, linear


class CifarResNet(nn.Module):
    """A 3x3 convolution, three stages of n blocks with 16, 32 and 64 filters, global average pooling, a linear layer.

    Stages 2 and 3 halve the image. Shortcuts have no parameters (option A). Initialisation as Goyal 2017 (section
    5.1): convolutions He normal by fan-out; BatchNorm scale 1 and shift 0; the linear layer normal with standard
    deviation 0.01 and bias 0.
    """

    def __init__(self, channels: int, blocks_per_stage: int, num_classes: int, *, zero_gamma: bool = False) -> None:
        """Build the network.

        Args:
            channels: of an image; height and width may be any from 8 on.
            blocks_per_stage: n.
            num_classes: outputs.
            zero_gamma: start the last BatchNorm scale of each block at 0, so that each block starts as its shortcut.
        """
        super().__init__()
        self.convolution = convolution(channels, 16)
        self.norm = nn.BatchNorm2d(16)
        blocks = []
        inputs = 16
        for stage, filters in enumerate((16, 32, 64)):
            for block in range(blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(BasicBlock(inputs, filters, stride, zero_gamma=zero_gamma))
                inputs = filters
        self.blocks = nn.Sequential(*blocks)
        self.linear = linear(inputs, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, C, H, W] to logits [n, num_classes]."""
        features = functional.relu(self.norm(self.convolution(images)), inplace=True)
        logits: Tensor = self.linear(self.blocks(features).mean(dim=(2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to a shortcut without parameters."""

    def __init__(self, inputs: int, filters: int, stride: int, *, zero_gamma: bool) -> None:
        """Build a block from ``inputs`` to ``filters`` channels (equal or twice as many)."""
        super().__init__()
        self.convolution1 = convolution(inputs, filters, stride=stride)
        self.norm1 = nn.BatchNorm2d(filters)
        self.convolution2 = convolution(filters, filters)
        self.norm2 = nn.BatchNorm2d(filters)
        if zero_gamma:
            nn.init.zeros_(self.norm2.weight)
        self.stride = stride
        self.padding = (filters - inputs) // 2

    def forward(self, features: Tensor) -> Tensor:
        """Features [n, inputs, H, W] to [n, filters, ceil(H / stride), ceil(W / stride)]."""
        residual = functional.relu(self.norm1(self.convolution1(features)), inplace=True)
        residual = self.norm2(self.convolution2(residual))
        shortcut = features
        if self.stride > 1 or self.padding > 0:
            # Option A: take every second pixel, and fill the new channels with zeros, half on either side.
            shortcut = features[:, :, :: self.stride, :: self.stride]
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(residual + shortcut, inplace=True)
