"""What peaks.yaml names: a small convolutional network, signals with one peak each, a loss and a metric."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn


def network(width: int = 16, length: int = 128) -> nn.Module:
    """From signals [n, 1, length] to the place of the peak in each, [n, 1]."""
    return nn.Sequential(
        nn.Conv1d(1, width, 7, padding=3), nn.ReLU(), nn.MaxPool1d(4),
        nn.Conv1d(width, 2 * width, 7, padding=3), nn.ReLU(), nn.MaxPool1d(4),
        nn.Flatten(), nn.Linear(2 * width * (length // 16), 1),
    )  # fmt: skip


def far_off(places: Tensor, true: Tensor) -> Tensor:
    """The loss of each signal, [n]: the distance, but for small ones, which count by their square."""
    return F.smooth_l1_loss(places, true, reduction="none", beta=0.05).squeeze(1)


def missed(places: Tensor, true: Tensor) -> Tensor:
    """1 for each signal whose peak is not found to 0.05 of the length, else 0, [n]: the metric is their mean."""
    return ((places - true).abs() > 0.05).squeeze(1)


def signals(train: int = 2048, test: int = 512, length: int = 128) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Noise with a peak, [samples, 1, length], and where it is, from 0 to 1, [samples, 1], by split."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0.1, 0.9, (train + test, 1))
    peaks = np.exp(-(((np.linspace(0, 1, length) - places) / 0.05) ** 2))
    lines = (peaks + 0.2 * rng.standard_normal(peaks.shape))[:, None]
    return {"train": (lines[:train], places[:train]), "test": (lines[train:], places[train:])}
