"""Metrics of all trials of a stack at once, by the names of the public archive."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.data.trees import Tree, stretch
from hpcsgd.learners.engines.base import Engine

METRICS = ("cross_entropy_error", "classification_error")
SPLITS = ("train", "val", "test")
COLUMNS = tuple(f"{split}/{metric}" for split in SPLITS for metric in METRICS)
"""The columns of measurements.csv after ``step``."""


@torch.no_grad()
def measure(
    engine: Engine, splits: Mapping[str, tuple[Tree, Tensor]], team: Communicator, batch_size: int
) -> list[tuple[float, ...]]:
    """Evaluate each learner of ``engine`` on whole splits, each rank of the team on its part. Collective in the team.

    Args:
        engine: of the learners, whose outputs are logits.
        splits: inputs [N, ...] and labels [N, ...] of each.
        team: the ranks that hold the same learners.
        batch_size: samples of one forward pass.

    Sums are taken in float64; label smoothing is no part of the metrics. A sample of several labels, as a text, counts
    by their mean.

    Returns:
        For each learner its values of ``COLUMNS``: mean cross-entropy, and the fraction that is wrong (0 to 1).
    """
    results = []
    for name in SPLITS:
        inputs, targets = splits[name]
        start, stop = (len(targets) * (team.rank + i) // team.size for i in (0, 1))
        sums: Tensor | None = None
        # A rank whose part is empty adds the sums of no sample.
        for first in range(start, max(stop, start + 1), batch_size):
            last = min(first + batch_size, stop)
            labels = targets[first:last]
            logits = engine.outputs(stretch(inputs, first, last))
            each = F.cross_entropy(logits.movedim(-1, 1), labels.expand(len(logits), *labels.shape), reduction="none")
            wrong = logits.argmax(dim=-1) != labels
            each, wrong = (x.flatten(2).mean(dim=2, dtype=torch.float64) if x.dim() > 2 else x for x in (each, wrong))
            found = torch.stack((each.sum(dim=1, dtype=torch.float64), wrong.sum(dim=1, dtype=torch.float64)))
            sums = found if sums is None else sums + found
        assert sums is not None
        totals = np.ascontiguousarray(sums.cpu().numpy())
        team.sum_(totals)
        results.append(totals / len(targets))
    return [tuple(float(value) for value in column) for column in np.concatenate(results).T]
