"""Losses, and figures of the same form: from the outputs of a batch and its targets to one number a sample, [n].

A number a sample can be summed, weighed, and told apart by learner. A sample has one label (an image) or a row of them
(the next token at each place of a text); it counts as one sample either way: its number is the mean over its labels.

A loss that cannot be split by sample gives a sum and its weight instead, as the sum over all tokens that count, and how
many these are. The mean is then the sum of all sums over that of all weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hpcsgd.data.trees import Tree

Figure = Callable[[Tree, Tree], Any]
"""From outputs and targets to one number a sample, [n]; or to a sum and its weight."""


def one_each(given: Any, num_samples: int) -> Tensor:
    """What a loss gives, as one number of each of ``num_samples`` samples, [n].

    Raises:
        ValueError: it is something else.
    """
    if isinstance(given, Tensor) and given.shape == (num_samples,):
        return given
    if not isinstance(given, Tensor):
        found, hint = f"a {type(given).__name__}", ""
    else:
        found = str(list(given.shape))
        hint = "; a mean over equal batches is loss.reduction mean" if given.dim() == 0 else ""
    raise ValueError(
        f"the loss gives {found} for {num_samples} samples: it must give one number of each, [{num_samples}], or a sum "
        f"and its weight, (sum, weight){hint}"
    )


def sum_and_weight(given: Any) -> Tensor | None:
    """The sum and the weight that a loss gives, [2], float32 or finer; None: it does not give two things.

    Raises:
        ValueError: they are not one number each, or the weight depends on the parameters.
    """
    if not isinstance(given, tuple | list):
        return None
    numbers = [torch.as_tensor(part) for part in given]
    if len(numbers) != 2 or any(number.dim() for number in numbers):
        raise ValueError(
            f"the loss gives {len(numbers)} things of the shapes {[list(number.shape) for number in numbers]}: what is "
            "not one number a sample must be a sum and its weight, of one number each"
        )
    total, weight = numbers
    if weight.requires_grad:
        raise ValueError("the weight of the loss depends on parameters: it must be a number of the data, as of tokens")
    # Half precision does not tell 256 tokens from 257.
    kind = torch.promote_types(total.dtype, torch.float32)
    return torch.stack((total.to(kind), weight.to(device=total.device, dtype=kind)))


def name_of(loss: Figure) -> str:
    """What a loss is called in messages."""
    if isinstance(loss, partial):
        loss = loss.func
    return str(getattr(loss, "__name__", type(loss).__name__))


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

    def total(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum of the losses of all samples, 0-d; of one label a sample in one kernel."""
        if labels.dim() > 1 or isinstance(self.smoothing, Tensor):
            return self(logits, labels).sum()
        return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=self.smoothing)

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
