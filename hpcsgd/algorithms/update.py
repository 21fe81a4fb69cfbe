"""The learners' own steps, which every algorithm takes in the same way."""

from __future__ import annotations

import math

from torch import Tensor

from hpcsgd.algorithms.base import Spans
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.base import RowOptimizer
from hpcsgd.optim.clip import clip_


class Update:
    """Steps learners by the gradients that are there, which are used up."""

    def __init__(
        self, learners: ReplicaStack, optimizer: RowOptimizer, spans: Spans, clip_norm: float | None = None
    ) -> None:
        """
        Args:
            learners: this rank's.
            optimizer: of their rows.
            spans: the clock.
            clip_norm: largest norm of a gradient; None: any.
        """
        self.learners = learners
        self.optimizer = optimizer
        self.spans = spans
        self.clip_norm = clip_norm

    def __call__(self, count: int, rate: float, *, alike: bool = False) -> Tensor | float:
        """Update the first ``count`` learners with learning rate ``rate``; the others stay as they are.

        Args:
            count: learners that have samples; the gradients of the others are dropped.
            rate: learning rate.
            alike: all have the same gradient.

        Returns:
            The largest norm of a learner's gradient before it was clipped, 0-d; NaN where none is looked at.
        """
        norm: Tensor | float = math.nan
        with self.spans.span("update"):
            if count:
                self.learners.check_trainable()
                if self.clip_norm is not None:
                    norm = clip_(self.learners.gradients[:count], self.clip_norm, alike=alike)
                self.optimizer.step(count, rate)
            self.learners.zero_gradients()
        return norm
