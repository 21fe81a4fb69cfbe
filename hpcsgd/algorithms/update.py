"""The learners' own steps, which every algorithm takes in the same way."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hpcsgd.algorithms.base import Spans
from hpcsgd.algorithms.loss_scale import LossScale
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.base import RowOptimizer
from hpcsgd.optim.clip import clip_


class Update:
    """Steps learners by the gradients that are there, which are used up.

    Attributes:
        weights: what the gradients of the coming step are divided by, [m]; None: they are means already.
        takes_norm: a gradient that all share is measured where none is clipped too.
    """

    def __init__(
        self,
        learners: ReplicaStack,
        optimizer: RowOptimizer,
        spans: Spans,
        clip_norm: float | None = None,
        loss_scale: LossScale | None = None,
        takes_norm: bool = False,
    ) -> None:
        """
        Args:
            learners: this rank's.
            optimizer: of their rows.
            spans: the clock.
            clip_norm: largest norm of a gradient; None: any.
            loss_scale: what the gradients are to be divided by, and which of them count; None: as they are, all.
            takes_norm: see above.
        """
        self.learners = learners
        self.optimizer = optimizer
        self.spans = spans
        self.clip_norm = clip_norm
        self.weights: Tensor | None = None
        self.loss_scale = loss_scale
        self.takes_norm = takes_norm

    def __call__(self, count: int, rate: float, *, alike: bool = False) -> Tensor | float:
        """Update the first ``count`` learners with learning rate ``rate``; the others stay as they are.

        With a scaled loss that is collective, and all stay as they are where a gradient of any has overflowed.

        Args:
            count: learners that have samples; the gradients of the others are dropped.
            rate: learning rate.
            alike: all have the same gradient.

        Returns:
            The largest norm of a learner's gradient before it was clipped, 0-d; NaN where none is looked at.
        """
        norm: Tensor | float = math.nan
        with self.spans.span("update"):
            is_good = self.loss_scale is None or self.loss_scale.unscale_(self.learners.gradients, alike=alike)
            if count and is_good:
                self.learners.check_trainable()
                if self.weights is not None:
                    self.learners.gradients[:count].div_(self._divisors(self.weights[:count]))
                if self.clip_norm is not None:
                    norm = clip_(self.learners.gradients[:count], self.clip_norm, alike=alike)
                elif self.takes_norm and alike:
                    norm = torch.linalg.vector_norm(self.learners.gradients[0])
                self.optimizer.step(count, rate)
            self.learners.zero_gradients()
            self.weights = None
        return norm

    def _divisors(self, weights: Tensor) -> Tensor:
        """``weights`` as a column; where nothing weighs, the gradient is zero, and stays so."""
        return torch.where(weights == 0, torch.ones_like(weights), weights).unsqueeze(1)
