"""DenseNet-40 with growth 12 (Huang 2017, arXiv 1608.06993) for small images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsgd.models.initial import convolution, linear

FIRST_FILTERS = 16


class DenseNet(nn.Module):
    """A 3x3 convolution, three dense blocks with halving between them, global average pooling, a linear layer.

    The plain form, without bottlenecks, compression and dropout: 3 L + 4 layers for L layers a block.
    """

    def __init__(self, channels: int, layers_per_block: int, growth: int, num_classes: int) -> None:
        """Build the network for images of ``channels`` channels; each layer adds ``growth`` of them."""
        super().__init__()
        self.convolution = convolution(channels, FIRST_FILTERS)
        width = FIRST_FILTERS
        parts: list[nn.Module] = []
        for block in range(3):
            if block:
                parts.append(Transition(width))
            for _ in range(layers_per_block):
                parts.append(DenseLayer(width, growth))
                width += growth
        self.parts = nn.Sequential(*parts)
        self.norm = nn.BatchNorm2d(width)
        self.linear = linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, C, H, W] to logits [n, num_classes]."""
        features = F.relu(self.norm(self.parts(self.convolution(images))), inplace=True)
        logits: Tensor = self.linear(features.mean(dim=(2, 3)))
        return logits


class DenseLayer(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, whose output is put behind the input."""

    def __init__(self, inputs: int, growth: int) -> None:
        """Add ``growth`` channels to ``inputs``."""
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.convolution = convolution(inputs, growth)

    def forward(self, features: Tensor) -> Tensor:
        """Features [n, inputs, H, W] to [n, inputs + growth, H, W]."""
        return torch.cat((features, self.convolution(F.relu(self.norm(features), inplace=True))), dim=1)


class Transition(nn.Module):
    """BatchNorm, ReLU, a 1x1 convolution and 2x2 average pooling."""

    def __init__(self, width: int) -> None:
        """Keep ``width`` channels."""
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.convolution = convolution(width, width, side=1)

    def forward(self, features: Tensor) -> Tensor:
        """Features [n, width, H, W] to [n, width, H // 2, W // 2]."""
        return F.avg_pool2d(self.convolution(F.relu(self.norm(features), inplace=True)), 2)
