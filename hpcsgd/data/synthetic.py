"""Synthetic images that can be learned: a pattern for each class, and noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_STREAM = 3  # keeps these draws apart from the permutations' and the augmentation's (see shards)
_GRID = 4  # patterns are made of at most 4x4 flat cells, so that convolutions with pooling see them too
_SEPARATION = 10.0  # distance of two patterns in standard deviations of the noise: almost no class overlaps

_Images = NDArray[np.float32]
_Labels = NDArray[np.int64]


def make_synthetic(
    shape: tuple[int, int, int], num_classes: int, num_train: int, num_test: int, seed: int
) -> tuple[tuple[_Images, _Labels], tuple[_Images, _Labels]]:
    """Draw a training and a test split from the same patterns with different noise.

    Neither split depends on the size of the other. Classes are as balanced as the sizes allow.

    Args:
        shape: channels, height, width.
        num_classes: classes.
        num_train: training samples.
        num_test: test samples.
        seed: of patterns, labels and noise.

    Returns:
        Training images float32 [N, C, H, W] with labels int64 [N]; test images and labels likewise.
    """
    patterns = _patterns(shape, num_classes, np.random.default_rng([_STREAM, seed, 1]))
    train = _draw(patterns, num_train, np.random.default_rng([_STREAM, seed, 2]))
    test = _draw(patterns, num_test, np.random.default_rng([_STREAM, seed, 3]))
    return train, test


def _patterns(shape: tuple[int, int, int], num_classes: int, generator: np.random.Generator) -> _Images:
    """A pattern of flat cells for each class, [classes, C, H, W], each of length ``_SEPARATION``/sqrt(2)."""
    channels, height, width = shape
    cells = generator.standard_normal((num_classes, channels, min(height, _GRID), min(width, _GRID)))
    rows = np.arange(height) * cells.shape[2] // height
    columns = np.arange(width) * cells.shape[3] // width
    patterns = cells[:, :, rows][:, :, :, columns]
    lengths = np.sqrt((patterns**2).sum(axis=(1, 2, 3), keepdims=True))
    scaled: _Images = (patterns * (_SEPARATION / math.sqrt(2) / lengths)).astype(np.float32)
    return scaled


def _draw(patterns: _Images, num_samples: int, generator: np.random.Generator) -> tuple[_Images, _Labels]:
    """``num_samples`` noisy copies of patterns in random order, and their classes."""
    labels = generator.permutation(np.arange(num_samples, dtype=np.int64) % len(patterns))
    images = generator.standard_normal((num_samples, *patterns.shape[1:]), dtype=np.float32)
    images += patterns[labels]
    return images, labels
