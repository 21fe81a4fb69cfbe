"""Momentum SGD of all learners of a stack at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpcsgd.config import OptimizerConfig
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.sgd import Factor, FlatSGD

Values = float | Sequence[float] | Tensor
"""One number for all learners, or one of each."""


class StackSGD:
    """:class:`~hpcsgd.optim.sgd.FlatSGD` on every row, each with its own numbers, in one kernel for all rows.

    Where all learners have the same number, a row is updated to the same bits as by ``FlatSGD``, else to rounding.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        stack: ReplicaStack,
        *,
        momentum: Values | None = None,
        weight_decay: Values | None = None,
    ) -> None:
        """
        Args:
            config: the form of the update, and what the others leave open.
            stack: the learners.
            momentum: mu, for all or of each learner; unset, ``config``'s.
            weight_decay: lambda, in the same way.
        """
        self.stack = stack
        self._last: tuple[list[float], Tensor] | None = None
        self._sgd = FlatSGD(config, stack.parameters, stack.gradients, stack.momentum, stack.decay_from)
        if momentum is not None:
            self._sgd.mu = self._factor(momentum)
        if weight_decay is not None:
            self._sgd.weight_decay = self._factor(weight_decay)

    def step(self, rate: Values) -> None:
        """Update all learners with learning rate ``rate``, for all or of each."""
        self._sgd.step(self._factor(rate))

    def step_first(self, count: int, rate: float) -> None:
        """Update the first ``count`` learners only; the others stay as they are."""
        sgd, stack, rows = self._sgd, self.stack, range(count)
        if count == len(stack):
            sgd.step(rate)
            return
        before = sgd.state_dict()["previous_rate"]
        sgd.load_state_dict({"previous_rate": None if before is None else _chosen(before, rows)})
        sgd.bind(stack.parameters[:count], stack.gradients[:count], stack.momentum[:count])
        sgd.step(rate)
        sgd.bind(stack.parameters, stack.gradients, stack.momentum)
        if before is not None:
            like = stack.state
            each = torch.as_tensor(before, dtype=like.dtype, device=like.device).expand(len(stack), 1).clone()
            each[:count] = rate
            sgd.load_state_dict({"previous_rate": each})

    def keep(self, rows: Sequence[int]) -> None:
        """Follow :meth:`ReplicaStack.keep`, after it."""
        sgd, stack = self._sgd, self.stack
        sgd.mu, sgd.weight_decay = _chosen(sgd.mu, rows), _chosen(sgd.weight_decay, rows)
        previous = sgd.state_dict()["previous_rate"]
        sgd.load_state_dict({"previous_rate": None if previous is None else _chosen(previous, rows)})
        sgd.bind(stack.parameters, stack.gradients, stack.momentum)

    def state_dict(self) -> dict[str, object]:
        """See :meth:`FlatSGD.state_dict`."""
        return self._sgd.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """See :meth:`FlatSGD.load_state_dict`."""
        self._sgd.load_state_dict(state)

    def _factor(self, values: Values) -> Factor:
        """A number if all learners have the same, else [m, 1]."""
        if isinstance(values, (int, float)):
            return float(values)
        numbers = values.flatten().tolist() if isinstance(values, Tensor) else list(values)
        if len(set(numbers)) == 1:
            return float(numbers[0])
        assert len(numbers) == len(self.stack), f"{len(numbers)} numbers for {len(self.stack)} learners"
        like = self.stack.parameters
        if self._last is None or self._last[0] != numbers:
            self._last = numbers, torch.tensor(numbers, dtype=like.dtype, device=like.device).unsqueeze(1)
        return self._last[1]


def _chosen(factor: Factor, rows: Sequence[int]) -> Factor:
    """The numbers of ``rows``."""
    return factor[list(rows)] if isinstance(factor, Tensor) else factor
