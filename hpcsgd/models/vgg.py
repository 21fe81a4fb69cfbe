"""VGG-11 (Simonyan 2015, arXiv 1409.1556, configuration A) for small images, with BatchNorm."""

from __future__ import annotations

from torch import Tensor, nn

from hpcsgd.models.initial import convolution, linear

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Filters of the convolutions between two poolings."""


class Vgg11(nn.Module):
    """Eight 3x3 convolutions in five stages, each stage ended by 2x2 max-pooling, and one linear layer.

    The three large linear layers of the original, made for 224x224 images, are one here, as is usual for small images.
    Poolings round up, so that 28x28 images end in one pixel as 32x32 do; of larger ones the mean is taken.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        """Build the network for images of ``channels`` channels."""
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for stage in STAGES:
            for filters in stage:
                layers += [convolution(inputs, filters), nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]
                inputs = filters
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.linear = linear(inputs, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, C, H, W] to logits [n, num_classes]."""
        logits: Tensor = self.linear(self.features(images).mean(dim=(2, 3)))
        return logits
