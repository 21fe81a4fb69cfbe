"""Metrics: counts that add up over batches and ranks, and what they come to in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hpcsgd.data.trees import Tree
from hpcsgd.tasks.losses import Figure, sum_and_weight


@runtime_checkable
class Metric(Protocol):
    """One figure of a model on a split."""

    def counts(self, outputs: Tree, targets: Tree) -> Tensor:
        """What a batch adds to each of the metric's sums, [k]: k is always the same."""

    def value(self, totals: Sequence[float]) -> float:
        """The metric, from the sums over all samples, [k]."""


class Mean:
    """The mean over all samples of a figure of each, or of what a figure gives as sum and weight."""

    def __init__(self, figure: Figure) -> None:
        """``figure``: one number a sample, or sum and weight."""
        self.figure = figure

    def counts(self, outputs: Tree, targets: Tree) -> Tensor:
        """The sum of the figures, and how many samples they are of, or their weight."""
        each = self.figure(outputs, targets)
        both = sum_and_weight(each)
        if both is not None:
            return both
        total = each.sum(dtype=torch.float64)
        return torch.stack((total, torch.full_like(total, len(each))))

    def value(self, totals: Sequence[float]) -> float:
        """The mean."""
        return totals[0] / totals[1] if totals[1] else float("nan")
