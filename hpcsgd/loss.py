"""The loss of a batch, and how much of it is right: one place for training and evaluation.

A sample has one label (an image) or a row of them (the next token at each place of a text). It counts as one sample
either way: its loss is the mean over its labels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def summed_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """The sum over samples of the mean cross-entropy over a sample's labels.

    Args:
        logits: [n, ..., classes].
        labels: int64 [n, ...].
        smoothing: part of each target that is spread evenly over the classes.
    """
    total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum", label_smoothing=smoothing)
    return total / labels[0].numel() if labels.dim() > 1 else total


def num_right(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over samples of the fraction of a sample's labels that the largest logit names."""
    right = (logits.argmax(dim=-1) == labels).sum()
    return right / labels[0].numel() if labels.dim() > 1 else right
