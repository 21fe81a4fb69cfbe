"""Loss and accuracy of one model on a split that the ranks share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hpcsgd.comm.communicator import Communicator
from hpcsgd.data.batches import Split
from hpcsgd.loss import num_right, summed_loss


@dataclass(frozen=True)
class Metrics:
    """Mean loss, fraction right, and the number of samples that they are of."""

    loss: float
    accuracy: float
    num_samples: int


@torch.no_grad()
def evaluate(module: nn.Module, split: Split, comm: Communicator, batch_size: int) -> Metrics:
    """Evaluate ``module``, the same on all ranks, on the whole split, each rank on its part. Collective.

    The parts are contiguous, their sizes differ by at most 1, none is skipped; the sums are taken in float64.
    The module is left in the mode that it was in.
    """
    start, stop = (len(split) * (comm.rank + i) // comm.size for i in (0, 1))
    training = module.training
    module.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=next(module.parameters()).device)
    for images, labels in split.batches(start, stop, batch_size):
        logits = module(images)
        sums[0] += summed_loss(logits, labels)
        sums[1] += num_right(logits, labels)
    module.train(training)
    totals = np.array([*sums.tolist(), stop - start])
    comm.sum_(totals)
    assert int(totals[2]) == len(split), "a part of the split was not evaluated"
    return Metrics(float(totals[0] / totals[2]), float(totals[1] / totals[2]), len(split))
