"""Losses, and figures of the same form: from the outputs of a batch and its targets to one number a sample, [n].

A number a sample can be summed, weighed, and told apart by learner. A sample has one label (an image) or a row of them
(the next token at each place of a text); it counts as one sample either way: its number is the mean over its labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from hpcsgd.data.trees import Tree

Figure = Callable[[Tree, Tree], Tensor]
"""From outputs and targets to one number a sample, [n]."""


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float | Tensor = 0.0) -> Tensor:
    """The mean cross-entropy over a sample's labels, [n].

    Args:
        logits: [n, ..., classes].
        labels: int64 [n, ...].
        smoothing: part of each target that is spread evenly over the classes; one number, or that of each sample, [n].
    """
    flat, targets = logits.flatten(0, -2), labels.flatten()
    if not isinstance(smoothing, Tensor):
        each = F.cross_entropy(flat, targets, reduction="none", label_smoothing=smoothing)
        return _mean_of_each(each.view(labels.shape))
    share = smoothing.view(-1, *[1] * (labels.dim() - 1))
    hard = F.cross_entropy(flat, targets, reduction="none").view(labels.shape)
    return _mean_of_each((1 - share) * hard - share * F.log_softmax(flat, dim=1).mean(dim=1).view(labels.shape))


@dataclass(frozen=True)
class CrossEntropy:
    """:func:`cross_entropy` with label smoothing.

    Attributes:
        smoothing: one number for all learners, or that of each, [m].
    """

    smoothing: float | Tensor = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample, [n]: of all learners in their order, as many of each."""
        smoothing = self.smoothing
        if isinstance(smoothing, Tensor):
            smoothing = smoothing.repeat_interleave(len(labels) // len(smoothing))
        return cross_entropy(logits, labels, smoothing)

    def of_learner(self, learner: int) -> CrossEntropy:
        """The loss of samples of one learner."""
        smoothing = self.smoothing
        return CrossEntropy(smoothing[learner : learner + 1]) if isinstance(smoothing, Tensor) else self


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error over the values of a sample, [n].

    Args:
        outputs: [n, ...].
        targets: as many values a sample, [n, ...].
    """
    return _mean_of_each((outputs - targets.view_as(outputs)).square())


def right(logits: Tensor, labels: Tensor) -> Tensor:
    """The fraction of a sample's labels that the largest logit names, [n]; arguments as of :func:`cross_entropy`."""
    return _mean_of_each((logits.argmax(dim=-1) == labels).to(logits.dtype))


def _mean_of_each(values: Tensor) -> Tensor:
    """The mean over all but the first axis."""
    return values.flatten(1).mean(1) if values.dim() > 1 else values
