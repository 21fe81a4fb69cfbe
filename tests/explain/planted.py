"""What base.yaml names: data that may be slow to read."""

from __future__ import annotations

import time

import torch
from torch import Tensor
from torch.utils.data import Dataset


def splits(train: int = 368, test: int = 40, read_seconds: float = 0.0, test_seconds: float = 0.0) -> dict[str, object]:
    """Images [1, 14, 14] of 10 classes; a sample of each split takes so long to read."""
    return {"train": Slow(train, read_seconds), "test": Slow(test, test_seconds), "classes": 10}


class Slow(Dataset[tuple[Tensor, int]]):
    """Samples that are in memory, and wait before they are given."""

    def __init__(self, size: int, seconds: float) -> None:
        self.images, self.seconds = torch.randn(size, 1, 14, 14, generator=torch.Generator().manual_seed(0)), seconds

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        if self.seconds:
            time.sleep(self.seconds)
        return self.images[number], number % 10
