"""What tabular.yaml names: a network, a table of numbers, and a metric."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn


def network(columns: int = 8, width: int = 64) -> nn.Module:
    """From rows [n, columns] to a number of each, [n, 1]."""
    return nn.Sequential(nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The error of each row, [n]; the metric is their mean."""
    return (outputs - targets).abs().squeeze(1)


def table(
    train: int = 8192, test: int = 1024, columns: int = 8, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows [samples, columns] and a number that follows from each but for some noise, [samples, 1], by split."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((train + test, columns))
    numbers = np.sin(2 * rows[:, :1]) + rows[:, 1:2] * rows[:, 2:3] + 0.1 * rng.standard_normal((train + test, 1))
    return {"train": (rows[:train], numbers[:train]), "test": (rows[train:], numbers[train:])}
