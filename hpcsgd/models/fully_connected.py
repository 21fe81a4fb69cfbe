"""Fully connected networks."""

from __future__ import annotations

import math

from torch import nn


def fully_connected(shape: tuple[int, ...], widths: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Linear layers with biases and ReLU between them, as torch initialises them; no ``widths``: a linear model.

    Args:
        shape: of an input, as channels, height, width of an image.
        widths: units of the hidden layers.
        num_classes: outputs.

    Returns:
        The network: inputs [n, ...] to logits [n, num_classes].
    """
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = math.prod(shape)
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, num_classes))
