"""Metrics of trials: the parts of the ranks add up to the whole, whatever the sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config.goal import ERRORS
from hpcsgd.data.trees import Tree
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.tasks.losses import right
from hpcsgd.tasks.metrics import Mean
from hpcsgd.trials.measure import SPLITS, columns_of, measure

NETWORKS, CLASSES = 3, 4


class Linear(LoopEngine):
    """Networks of one layer."""

    def __init__(self) -> None:
        self.weights = torch.randn(
            NETWORKS, 5, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )

    def outputs(self, inputs: Tree) -> Tree:
        flat = inputs.flatten(-3)
        return flat @ (self.weights if flat.dim() == 2 else self.weights.unsqueeze(1))


class OneOf(SingleCommunicator):
    """A rank of a team, that keeps its own part of each sum."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, size


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_the_parts_of_a_team_add_up(samples: int) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(samples, 1, 1, 5, generator=generator, dtype=torch.float64)
    splits = dict.fromkeys(SPLITS, (images, torch.arange(samples) % CLASSES))
    whole = np.array(measure(Linear(), splits, SingleCommunicator(), batch_size=2))
    parts = [np.array(measure(Linear(), splits, OneOf(rank, 3), batch_size=2)) for rank in range(3)]
    assert whole.shape == (NETWORKS, 2 * len(SPLITS))
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-12)


def test_a_sample_of_several_labels_counts_by_their_mean() -> None:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(6, 1, 1, 5, generator=generator, dtype=torch.float64)
    labels = torch.arange(6) % CLASSES
    one = measure(Linear(), dict.fromkeys(SPLITS, (inputs, labels)), SingleCommunicator(), batch_size=6)
    pairs = (inputs.view(3, 2, 1, 1, 5), labels.view(3, 2))
    several = measure(Linear(), dict.fromkeys(SPLITS, pairs), SingleCommunicator(), batch_size=2)
    assert len(several[0]) == len(columns_of(SPLITS, ERRORS))
    np.testing.assert_allclose(several, one, rtol=1e-12)


class Quotient:
    """A metric of two sums."""

    def counts(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.stack((outputs[:, 0].sum(), targets.double().sum()))

    def value(self, totals: Sequence[float]) -> float:
        return totals[0] / totals[1] if totals[1] else math.nan


@pytest.mark.parametrize("samples", [1, 7])
def test_metrics_of_the_users_are_of_the_sums_of_all_ranks(samples: int) -> None:
    inputs = torch.randn(samples, 1, 1, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets = torch.arange(samples) + 1

    class Team(OneOf):
        """Takes the parts of all three, one after another."""

        def sum_(self, values: Any) -> None:
            parts.append(values.copy())
            values[:] = sum(parts)

    metrics: dict[str, Any] = {"right": Mean(right), "quotient": Quotient()}
    split = {"val": (inputs, targets % CLASSES)}
    parts: list[Any] = []
    for rank in range(3):
        found = measure(Linear(), split, Team(rank, 3), batch_size=2, metrics=metrics)
    outputs = inputs.flatten(1) @ Linear().weights
    for row in range(NETWORKS):
        correct = (outputs[row].argmax(1) == targets % CLASSES).double().mean()
        expected = [float(correct), float(outputs[row][:, 0].sum() / (targets % CLASSES).sum())]
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)
