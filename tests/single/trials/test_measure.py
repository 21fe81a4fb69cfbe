"""Metrics of trials: the parts of the ranks add up to the whole, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.data.trees import Tree
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.trials.measure import COLUMNS, SPLITS, measure

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
    assert len(several[0]) == len(COLUMNS)
    np.testing.assert_allclose(several, one, rtol=1e-12)
