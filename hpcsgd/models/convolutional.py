"""Small convolutional networks without BatchNorm: Shallue's simple CNN and LeNet-5.

Layers keep torch's default initialisation.
"""

from __future__ import annotations

from torch import nn


def simple_cnn(
    shape: tuple[int, int, int], filters1: int, filters2: int, hidden: int, num_classes: int
) -> nn.Sequential:
    """The simple CNN of Shallue 2019 (arXiv 1811.03600, appendix B), without its dropout.

    Two convolutions of 5x5 filters, stride 1 and same padding, each with ReLU and 2x2 max-pooling of stride 2; one
    hidden layer with ReLU. Base: 32 and 64 filters, 1024 units; narrow: 16, 32, 512; wide: 64, 128, 2048.

    Args:
        shape: channels, height, width of an image, at least 4x4.
        filters1: filters of the first convolution.
        filters2: filters of the second.
        hidden: units of the hidden layer.
        num_classes: outputs.

    Returns:
        The network: images [n, C, H, W] to logits [n, num_classes].
    """
    channels, height, width = shape
    return nn.Sequential(
        *_convolution(channels, filters1, padding=2),
        *_convolution(filters1, filters2, padding=2),
        nn.Flatten(),
        *_hidden(filters2 * (height // 4) * (width // 4), hidden),
        nn.Linear(hidden, num_classes),
    )


def lenet(shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """LeNet-5 in today's form: ReLU and max-pooling; 6 and 16 filters of 5x5, then 120 and 84 units.

    The original reads 28x28 digits in a frame of 32x32: images with a side below 32 are padded by 2 here, so 28x28
    and 32x32 give the same layers.

    Args:
        shape: channels, height, width of an image, at least 12x12.
        num_classes: outputs.

    Returns:
        The network: images [n, C, H, W] to logits [n, num_classes].
    """
    channels, height, width = shape
    padding = 2 if min(height, width) < 32 else 0
    rows, columns = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in (height, width))
    return nn.Sequential(
        *_convolution(channels, 6, padding=padding),
        *_convolution(6, 16, padding=0),
        nn.Flatten(),
        *_hidden(16 * rows * columns, 120),
        *_hidden(120, 84),
        nn.Linear(84, num_classes),
    )


def _convolution(inputs: int, outputs: int, padding: int) -> tuple[nn.Module, ...]:
    """5x5 filters, ReLU, 2x2 max-pooling."""
    return nn.Conv2d(inputs, outputs, 5, padding=padding), nn.ReLU(inplace=True), nn.MaxPool2d(2)


def _hidden(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """A linear layer and ReLU."""
    return nn.Linear(inputs, outputs), nn.ReLU(inplace=True)
