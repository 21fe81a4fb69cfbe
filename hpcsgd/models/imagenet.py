"""ResNet-50 for ImageNet, from torchvision."""

from __future__ import annotations

import importlib.util

from torch import nn

from hpcsgd.errors import UsageError
from hpcsgd.models.initial import linear

FEATURES = 2048
"""Inputs of the last layer."""


def resnet50(channels: int, num_classes: int, *, zero_gamma: bool) -> nn.Module:
    """ResNet-50 (He 2016) with stride 2 in its 3x3 convolutions, and the initial parameters of Goyal 2017, section 5.1.

    Args:
        channels: of an image: 3.
        num_classes: outputs.
        zero_gamma: start the last BatchNorm scale of each block at 0.

    Raises:
        UsageError: torchvision is not installed, or the images are not of three channels.
    """
    if channels != 3:
        raise UsageError(f"model.name is 'resnet50', which needs images of 3 channels, but the data set has {channels}")
    if importlib.util.find_spec("torchvision") is None:
        raise UsageError(
            "model.name is 'resnet50', which comes from torchvision, and that is not installed: pip install "
            "'hpcsgd[imagenet]', with the torchvision of your torch"
        )
    from torchvision import models

    model: nn.Module = models.resnet50(weights=None, num_classes=num_classes, zero_init_residual=zero_gamma)
    model.fc = linear(FEATURES, num_classes)
    return model
