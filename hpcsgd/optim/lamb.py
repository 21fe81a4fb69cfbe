"""LAMB: Adam whose step is as long as the layer's own weights allow (You 2020, algorithm 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from hpcsgd.config import OptimizerConfig
from hpcsgd.optim.base import Factor, Values
from hpcsgd.optim.factors import Factors, add_scaled_, chosen
from hpcsgd.optim.layers import Layers, trust_ratios
from hpcsgd.optim.rows import Rows

FIRST, SECOND = "exp_avg", "exp_avg_sq"
"""The names of its state tensors, as torch's Adam has them."""


class RowLAMB:
    """m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2, both without bias; u = m / (sqrt(v) + eps) + lambda w;
    w <- w - eta |w| / |u| u in each layer. BatchNorm parameters and biases go by u without lambda and ratio.
    """

    states: tuple[str, ...] = (FIRST, SECOND)

    def __init__(self, config: OptimizerConfig, rows: Rows) -> None:
        """
        Args:
            config: the numbers of the update.
            rows: the learners; changed in place, the gradients too, in whose memory the step is computed.
        """
        self.config = config
        self.rows = rows
        self._layers = Layers(rows)
        self._steps = [0] * len(rows)
        self._bind()

    def _bind(self) -> None:
        """Take the buffers of the rows."""
        rows, plain = self.rows, self.rows.decay_from
        self._rate, self._mean_bias, self._square_bias = (Factors(rows.buffer, len(rows)) for _ in range(3))
        self._buffers = (rows.parameters, rows.gradients, rows[FIRST], rows[SECOND])
        self._decayed = (rows.gradients[:, plain:], rows.parameters[:, plain:])

    @torch.no_grad()
    def step(self, count: int, rate: Values) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        first, second = self.config.betas
        self._steps = [steps + (row < count) for row, steps in enumerate(self._steps)]

        def of_first(factors: Factors, number: Callable[[int], float]) -> Factor:
            return chosen(factors([number(steps) for steps in self._steps]), range(count))

        mean_bias = of_first(self._mean_bias, lambda steps: 1 - first**steps)
        square_bias = of_first(self._square_bias, lambda steps: math.sqrt(1 - second**steps))
        parameters, gradient, mean, square = (buffer[:count] for buffer in self._buffers)
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        # The gradient is used up: its memory takes the step.
        torch.sqrt(square, out=gradient)
        gradient.div_(square_bias).add_(self.config.eps)
        torch.div(mean, gradient, out=gradient)
        gradient.div_(mean_bias)
        if self.config.weight_decay:
            add_scaled_(self._decayed[0][:count], self._decayed[1][:count], self.config.weight_decay)
        weights, steps = self._layers.norms(parameters, gradient)
        self._layers.scale_(gradient, trust_ratios(weights, steps, 1.0, self.config.max_trust_ratio))
        add_scaled_(parameters, gradient, -chosen(self._rate(rate), range(count)))

    @torch.no_grad()
    def reset(self, states: Sequence[str]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        for name in states:
            self.rows[name].zero_()
        if set(states) == set(self.states):
            self._steps = [0] * len(self.rows)

    def keep(self, rows: Sequence[int]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        self._steps = [self._steps[row] for row in rows]
        self._bind()

    def state_dict(self) -> dict[str, Any]:
        """The steps of each learner, which the bias of its moments goes by."""
        return {"steps": list(self._steps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        self._steps = list(state["steps"])

    def load_first(self, state: dict[str, Any]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        self._steps = [state["steps"][0]] * len(self.rows)
