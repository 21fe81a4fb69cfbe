"""Metrics of all trials of a stack at once, by the names of the public archive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.data.loader import DeviceSplit

METRICS = ("cross_entropy_error", "classification_error")
SPLITS = ("train", "val", "test")
COLUMNS = tuple(f"{split}/{metric}" for split in SPLITS for metric in METRICS)
"""The columns of measurements.csv after ``step``."""


class GivesLogits(Protocol):
    """A stack of networks."""

    def logits(self, images: Tensor) -> Tensor:
        """Images [n, C, H, W], the same for all, to [R, n, classes]."""


@torch.no_grad()
def measure(
    stack: GivesLogits, splits: Mapping[str, DeviceSplit], team: Communicator, batch_size: int
) -> list[tuple[float, ...]]:
    """Evaluate each network of ``stack`` on whole splits, each rank of the team on its part. Collective in the team.

    Sums are taken in float64; label smoothing is no part of the metrics.

    Returns:
        For each network its values of ``COLUMNS``: mean cross-entropy, and the fraction that is wrong (0 to 1).
    """
    results = []
    for name in SPLITS:
        split = splits[name]
        start, stop = (len(split) * (team.rank + i) // team.size for i in (0, 1))
        sums: Tensor | None = None
        for images, labels in split.batches(start, stop, batch_size):
            logits = stack.logits(images)
            each = F.cross_entropy(logits.movedim(-1, 1), labels.expand(len(logits), -1), reduction="none")
            wrong = logits.argmax(dim=-1) != labels
            part = torch.stack((each.sum(dim=1, dtype=torch.float64), wrong.sum(dim=1, dtype=torch.float64)))
            sums = part if sums is None else sums + part
        assert sums is not None, "a team has more ranks than a split has samples"
        totals = np.ascontiguousarray(sums.cpu().numpy())
        team.sum_(totals)
        results.append(totals / len(split))
    return [tuple(float(value) for value in column) for column in np.concatenate(results).T]
