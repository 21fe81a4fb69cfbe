"""Data of a user's own, as a file beside a recipe would have it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def numbers(count: int, offset: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Inputs [count, 4] of float64 and classes of 3 that follow from them."""
    inputs = np.random.default_rng(offset).standard_normal((count, 4))
    return inputs, inputs[:, :3].argmax(axis=1)


def arrays(train: int = 40, test: int = 12) -> dict[str, Any]:
    """Splits in memory."""
    return {"train": numbers(train), "test": numbers(test, 1)}


class Rows:
    """A Dataset whose samples have a random part, by each of the three generators."""

    def __init__(self, count: int, offset: int = 0, noisy: bool = True, bad: int | None = None) -> None:
        self.inputs, self.targets = numbers(count, offset)
        self.noisy = noisy
        self.bad = bad

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        if number == self.bad:
            raise OSError(f"row {number} is gone")
        row = torch.from_numpy(self.inputs[number]).float()
        noise = [random.random(), np.random.rand(), float(torch.rand(())), 0.0]
        return (row + torch.tensor(noise) if self.noisy else row), int(self.targets[number])


class Files:
    """Splits of Datasets."""

    classes = ("a", "b", "c")

    def __init__(self, train: int = 40, test: int = 12, bad: int | None = None) -> None:
        self.train = Rows(train, bad=bad)
        self.test = Rows(test, 1, noisy=False)


def doubled(items: list[tuple[Tensor, int]]) -> tuple[dict[str, Tensor], Tensor]:
    """A collate function: inputs by name, twice as large."""
    return {"x": 2 * torch.stack([row for row, _ in items])}, torch.tensor([target for _, target in items])


def broken() -> None:
    """A factory that fails."""
    raise RuntimeError("no disk")


def nothing() -> None:
    """A factory that gives nothing."""
