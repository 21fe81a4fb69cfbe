"""Data of a user's own, as a file beside a recipe would have it."""

from __future__ import annotations

import random
from collections.abc import Iterator
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


class Flow:
    """Samples one after another, each with noise of torch's own generator, with a place to go on from."""

    def __init__(self, count: int, first: int = 0, stride: int = 1) -> None:
        self.inputs, self.targets = numbers(count)
        self.place, self.first, self.stride = 0, first, stride

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        while (number := self.first + self.place * self.stride) < len(self.targets):
            self.place += 1
            yield torch.from_numpy(self.inputs[number]).float() + torch.rand(()), int(self.targets[number])

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place = state["place"]


class Shared(Flow):
    """Each learner has a part of its own; that of a later one is shorter by ``less`` samples."""

    def __init__(self, count: int, less: int = 0) -> None:
        super().__init__(count)
        self.less = less

    def shard(self, index: int, count: int) -> Flow:
        return Flow(len(self.targets) - index * self.less * count, index, count)


def flows(count: int = 100, less: int = 0, shared: bool = True) -> dict[str, Any]:
    """Iterable training data."""
    train = Shared(count, less) if shared else Flow(count)
    return {"train": train, "test": numbers(12, 1), "classes": 3}
