"""Momentum SGD on flat buffers, in both momentum forms (Goyal 2017, section 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hpcsgd.config import OptimizerConfig


def decayed_parameters(module: nn.Module) -> set[int]:
    """Ids of the parameters that weight decay is for: weights of linear, convolution and embedding layers.

    BatchNorm parameters and biases are left out (Goyal, section 5.1), by the type of their module.
    """
    kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)
    return {id(part.weight) for part in module.modules() if isinstance(part, kinds)}


class FlatSGD:
    """SGD with momentum on one flat parameter buffer.

    Reference form: u <- mu u + g, w <- w - eta u. Absorbed form: v <- mu (eta_now/eta_before) v + eta g, w <- w - v,
    where momentum correction gives the ratio and without it the ratio is 1. g includes lambda w.
    """

    def __init__(
        self, config: OptimizerConfig, parameters: Tensor, gradients: Tensor, momentum: Tensor, decay_from: int
    ) -> None:
        """
        Args:
            config: the recipe's section.
            parameters: flat parameters, changed in place.
            gradients: flat gradients; weight decay is added here, in place.
            momentum: flat momentum, changed in place.
            decay_from: first element that weight decay is for; it is for all from there.
        """
        self.config = config
        self.parameters = parameters
        self.gradients = gradients
        self.momentum = momentum
        self._decayed = (gradients[decay_from:], parameters[decay_from:])
        self._previous_rate: float | None = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update the parameters with learning rate ``rate``."""
        config, gradient, momentum = self.config, self.gradients, self.momentum
        if config.weight_decay:
            self._decayed[0].add_(self._decayed[1], alpha=config.weight_decay)
        if not config.momentum:
            self.parameters.add_(gradient, alpha=-rate)
            return
        absorbed = config.momentum_form == "absorbed"
        if absorbed:
            momentum.mul_(config.momentum * self._correction(rate)).add_(gradient, alpha=rate)
        else:
            # mu u + g in one pass over the memory, in place of two.
            torch.add(gradient, momentum, alpha=config.momentum, out=momentum)
        scale = 1.0 if absorbed else rate
        if config.nesterov:
            self.parameters.add_(gradient, alpha=-rate)
            self.parameters.add_(momentum, alpha=-scale * config.momentum)
        else:
            self.parameters.add_(momentum, alpha=-scale)

    def _correction(self, rate: float) -> float:
        """The ratio of learning rates that the absorbed momentum is scaled by."""
        previous, self._previous_rate = self._previous_rate, rate
        if previous is None or not self.config.momentum_correction:
            return 1.0
        if previous == 0:
            raise ValueError("momentum_form: absorbed cannot go on from a learning rate of 0")
        return rate / previous

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the flat buffers."""
        return {"previous_rate": self._previous_rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""
        self._previous_rate = state["previous_rate"]
