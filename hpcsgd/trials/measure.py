"""Metrics of all trials of a stack at once: those of the public archive, or a user's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.data.trees import Tree, leaves, map_tree, stretch
from hpcsgd.learners.engines.base import Engine
from hpcsgd.tasks.metrics import Metric

SPLITS = ("train", "val", "test")

Part = tuple[Tree, Tree]
"""Inputs [N, ...] and targets [N, ...] of a split."""


def columns_of(splits: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
    """The columns of measurements.csv after ``step``: each of the ``names`` of each split."""
    return tuple(f"{split}/{name}" for split in splits for name in names)


@torch.no_grad()
def measure(
    engine: Engine,
    splits: Mapping[str, Part],
    team: Communicator,
    batch_size: int,
    metrics: Mapping[str, Metric] | None = None,
) -> list[tuple[float, ...]]:
    """Evaluate each learner of ``engine`` on whole splits, each rank of the team on its part. Collective in the team.

    Args:
        engine: of the learners.
        splits: inputs [N, ...] and targets [N, ...] of each.
        team: the ranks that hold the same learners.
        batch_size: samples of one forward pass.
        metrics: what is measured, by name; None: :data:`~hpcsgd.config.study.ERRORS` of logits.

    Sums are taken in float64; label smoothing is no part of the metrics.

    Returns:
        For each learner its values, in the order of :func:`columns_of`.
    """
    found = [
        _errors(engine, split, team, batch_size)
        if metrics is None
        else _values(engine, metrics, split, team, batch_size)
        for split in splits.values()
    ]
    return [tuple(float(value) for value in column) for column in np.concatenate(found).T]


def _errors(engine: Engine, split: Part, team: Communicator, batch_size: int) -> NDArray[np.float64]:
    """Mean cross-entropy, and the fraction that is wrong (0 to 1), of each learner, [2, m].

    A sample of several labels, as a text, counts by their mean.
    """
    inputs, targets = split
    start, stop = _part(len(targets), team)
    sums: Tensor | None = None
    # A rank whose part is empty adds the sums of no sample.
    for first in range(start, max(stop, start + 1), batch_size):
        last = min(first + batch_size, stop)
        labels = targets[first:last]
        logits = _whole(engine.outputs(stretch(inputs, first, last)))
        each = F.cross_entropy(logits.movedim(-1, 1), labels.expand(len(logits), *labels.shape), reduction="none")
        wrong = logits.argmax(dim=-1) != labels
        each, wrong = (x.flatten(2).mean(dim=2, dtype=torch.float64) if x.dim() > 2 else x for x in (each, wrong))
        found = torch.stack((each.sum(dim=1, dtype=torch.float64), wrong.sum(dim=1, dtype=torch.float64)))
        sums = found if sums is None else sums + found
    assert sums is not None
    totals: NDArray[np.float64] = np.ascontiguousarray(sums.cpu().numpy())
    team.sum_(totals)
    return totals / len(targets)


def _values(
    engine: Engine, metrics: Mapping[str, Metric], split: Part, team: Communicator, batch_size: int
) -> NDArray[np.float64]:
    """Each metric of each learner, [metrics, m]."""
    size = len(next(leaves((split[1], split[0]))))
    start, stop = _part(size, team)
    # How many counts there are is only seen from a sample, which a rank whose part is empty does not count.
    shown = (start, stop) if stop > start else (0, 1)
    sums: list[list[Tensor]] = []
    for first in range(*shown, batch_size):
        # A user's network may write into its inputs.
        inputs, targets = (
            map_tree(torch.clone, stretch(tree, first, min(first + batch_size, shown[1]))) for tree in split
        )
        outputs = map_tree(_whole, engine.outputs(inputs))
        found = [
            [metric.counts(map_tree(itemgetter(row), outputs), targets).double() for metric in metrics.values()]
            for row in range(len(next(leaves(outputs))))
        ]
        sums = (
            [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(sums, found, strict=True)] if sums else found
        )
    totals = np.array([torch.cat(row).tolist() for row in sums]) * (stop > start)
    team.sum_(totals)
    ends = np.cumsum([len(counts) for counts in sums[0]])[:-1]
    parts = zip(metrics.values(), np.split(totals, ends, axis=1), strict=True)
    return np.array([[metric.value(row) for row in counts.tolist()] for metric, counts in parts], np.float64)


def _part(size: int, team: Communicator) -> tuple[int, int]:
    """The first sample of this rank's part, and the one behind its last."""
    return size * team.rank // team.size, size * (team.rank + 1) // team.size


def _whole(outputs: Tensor) -> Tensor:
    """Outputs of few bits, where the trials compute so, in 32: what is measured of them is not of few."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32)) if outputs.is_floating_point() else outputs
