"""Losses, and figures of the same form: from the outputs of a batch and its targets to one number a sample, [n].

A number a sample can be summed, weighed, and told apart by learner. A sample has one label (an image) or a row of them
(the next token at each place of a text); it counts as one sample either way: its number is the mean over its labels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from hpcsgd.data.trees import Tree

Figure = Callable[[Tree, Tree], Tensor]
"""From outputs and targets to one number a sample, [n]."""


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean cross-entropy over a sample's labels, [n].

    Args:
        logits: [n, ..., classes].
        labels: int64 [n, ...].
        smoothing: part of each target that is spread evenly over the classes.
    """
    each = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none", label_smoothing=smoothing)
    return _mean_of_each(each.view(labels.shape))


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
