"""The metrics of one model on a split that the ranks share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hpcsgd.comm.communicator import Communicator
from hpcsgd.data.batches import Split
from hpcsgd.data.trees import Tree
from hpcsgd.tasks.task import Task


@dataclass(frozen=True)
class Metrics:
    """The value of each metric by its name, and the number of samples that they are of."""

    values: dict[str, float]
    num_samples: int


@torch.no_grad()
def evaluate(task: Task, module: nn.Module, split: Split, comm: Communicator, batch_size: int) -> Metrics:
    """Evaluate ``module``, the same on all ranks, on the whole split, each rank on its part. Collective.

    The parts are contiguous, their sizes differ by at most 1, none is skipped; the sums are taken in float64.
    The module is left in the mode that it was in.
    """
    start, stop = (len(split) * (comm.rank + i) // comm.size for i in (0, 1))
    training = module.training
    module.eval()
    if start < stop:
        sums = _counts(task, module, split.batches(start, stop, batch_size))
    else:
        # How many counts there are is only seen from one sample.
        sums = [torch.zeros_like(each) for each in _counts(task, module, split.batches(0, 1, 1))]
    module.train(training)
    totals = np.array([*torch.cat(sums).tolist(), stop - start])
    comm.sum_(totals)
    assert int(totals[-1]) == len(split), "a part of the split was not evaluated"
    parts = np.split(totals[:-1], np.cumsum([len(each) for each in sums])[:-1])
    values = {
        name: metric.value(part.tolist()) for (name, metric), part in zip(task.metrics.items(), parts, strict=True)
    }
    return Metrics(values, len(split))


def _counts(task: Task, module: nn.Module, batches: Iterable[tuple[Tree, Tree]]) -> list[Tensor]:
    """The sums of each metric over some batches, float64."""
    sums: list[Tensor] = []
    for inputs, targets in batches:
        outputs = task.forward(module, inputs)
        found = [metric.counts(outputs, targets).double() for metric in task.metrics.values()]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    return sums
