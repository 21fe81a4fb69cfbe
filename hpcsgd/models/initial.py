"""Layers with the initial parameters of Goyal 2017, section 5.1."""

from __future__ import annotations

from torch import nn


def convolution(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (halves it for stride 2), He normal by fan-out, without bias."""
    layer = nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def linear(inputs: int, num_classes: int) -> nn.Linear:
    """The last layer: normal with standard deviation 0.01, bias 0."""
    layer = nn.Linear(inputs, num_classes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
