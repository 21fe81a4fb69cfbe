"""A user's module: what recipes of the tests name by import path."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """A network with a tied weight, a frozen part, and one that is never used."""

    def __init__(self, width: int = 8, classes: int = 3, pixels: int = 16) -> None:
        super().__init__()
        self.first = nn.Linear(pixels, width)
        self.second = nn.Linear(width, width)
        self.third = nn.Linear(width, width)
        self.third.weight = self.second.weight
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.unused = nn.Linear(width, 2)
        self.last = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.third(self.second(self.first(images.flatten(1)).relu()).relu()).relu()
        result: Tensor = self.last(self.frozen(hidden))
        return result


class Fails(Net):
    """Fails in its forward pass."""

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("no such layer")


class Drops(Net):
    """Draws from torch's global generator."""

    def forward(self, images: Tensor) -> Tensor:
        return F.dropout(super().forward(images), 0.1, self.training)


class Grows(Net):
    """Makes a parameter in a forward pass, from the pass ``after`` on."""

    def __init__(self, width: int = 8, after: int = 0) -> None:
        super().__init__(width)
        self.passes, self.after = 0, after

    def forward(self, images: Tensor) -> Tensor:
        if self.passes == self.after:
            self.scale = nn.Parameter(torch.ones(()))
        self.passes += 1
        return super().forward(images)


class GrowsLater(Grows):
    """Not yet in the first passes."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(width, after=5)


def no_module() -> int:
    return 3


def entropy(outputs: Tensor, targets: Tensor, scale: float = 1.0) -> Tensor:
    return scale * F.cross_entropy(outputs, targets, reduction="none")


def mean_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets)


def of_columns(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs


def counted(outputs: Tensor, targets: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Sum and weight: the class 0 does not count."""
    return scale * (entropy(outputs, targets) * targets).sum(), targets.sum()


def each_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(1)


def summed_square(outputs: Tensor, targets: Tensor) -> tuple[Tensor, float]:
    return 3 * each_square(outputs, targets).sum(), 3 * len(targets)


def of_three(outputs: Tensor, targets: Tensor) -> list[Tensor]:
    return [outputs.sum()] * 3


def of_learned_weight(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return outputs.sum(), outputs.square().sum()


def of_negative_weight(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    return outputs.sum(), -1


def no_tensor(outputs: Tensor, targets: Tensor) -> float:
    return 0.5


def of_nothing(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.zeros(len(targets))


class Entropy:
    """A loss with a state of its own."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return entropy(outputs, targets, self.scale)


class Precision:
    """How many of those that are taken for a class are of it."""

    def __init__(self, of: int = 0) -> None:
        self.of = of

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor:
        taken = outputs.argmax(1) == self.of
        return torch.stack(((taken & (targets == self.of)).sum(), taken.sum()))

    def value(self, totals: Sequence[float]) -> float:
        return totals[0] / totals[1] if totals[1] else 0.0


def of_all(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float().mean()
