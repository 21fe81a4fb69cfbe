"""Momentum SGD on flat buffers, in both momentum forms (Goyal 2017, section 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hpcsgd.config import OptimizerConfig


def decayed_parameters(module: nn.Module) -> set[int]:
    """Ids of the parameters that weight decay is for: weights of linear, convolution, embedding and recurrent layers.

    BatchNorm parameters and biases are left out (Goyal, section 5.1), by the type of their module.
    """
    kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)
    recurrent = [part for part in module.modules() if isinstance(part, nn.RNNBase)]
    matrices = {id(p) for part in recurrent for p in part.parameters(recurse=False) if p.dim() == 2}
    return matrices | {id(part.weight) for part in module.modules() if isinstance(part, kinds)}


Factor = float | Tensor
"""One number for all learners, or a tensor [m, 1] with one of each."""


def add_scaled_(target: Tensor, other: Tensor, factor: Factor) -> None:
    """target <- target + factor other, in one pass over the memory."""
    if isinstance(factor, Tensor):
        target.addcmul_(other, factor)
    else:
        target.add_(other, alpha=factor)


class FlatSGD:
    """SGD with momentum on one flat parameter buffer, or on the rows of several learners.

    Reference form: u <- mu u + g, w <- w - eta u. Absorbed form: v <- mu (eta_now/eta_before) v + eta g, w <- w - v,
    where momentum correction gives the ratio and without it the ratio is 1. g includes lambda w.

    Attributes:
        mu, weight_decay: as in the recipe, or of each learner, [m, 1].
    """

    def __init__(
        self, config: OptimizerConfig, parameters: Tensor, gradients: Tensor, momentum: Tensor, decay_from: int
    ) -> None:
        """
        Args:
            config: the recipe's section.
            parameters: flat parameters [P], or [m, P]; changed in place.
            gradients: flat gradients, of the same shape; weight decay is added here, in place.
            momentum: flat momentum, of the same shape, changed in place.
            decay_from: first element (of a row) that weight decay is for; it is for all from there.
        """
        self.config = config
        self.mu: Factor = config.momentum
        self.weight_decay: Factor = config.weight_decay
        self._decay_from = decay_from
        self._previous_rate: Factor | None = None
        self.bind(parameters, gradients, momentum)

    def bind(self, parameters: Tensor, gradients: Tensor, momentum: Tensor) -> None:
        """Work on these buffers from now on."""
        self.parameters = parameters
        self.gradients = gradients
        self.momentum = momentum
        self._decayed = (gradients[..., self._decay_from :], parameters[..., self._decay_from :])

    @torch.no_grad()
    def step(self, rate: Factor) -> None:
        """Update the parameters with learning rate ``rate``, for all learners or [m, 1]."""
        gradient, momentum, mu = self.gradients, self.momentum, self.mu
        if isinstance(self.weight_decay, Tensor) or self.weight_decay:
            add_scaled_(*self._decayed, self.weight_decay)
        if not isinstance(mu, Tensor) and not mu:
            add_scaled_(self.parameters, gradient, -rate)
            return
        absorbed = self.config.momentum_form == "absorbed"
        if absorbed:
            momentum.mul_(mu * self._correction(rate))
            add_scaled_(momentum, gradient, rate)
        elif isinstance(mu, Tensor):
            torch.addcmul(gradient, momentum, mu, out=momentum)
        else:
            # mu u + g in one pass over the memory, in place of two.
            torch.add(gradient, momentum, alpha=mu, out=momentum)
        scale = 1.0 if absorbed else rate
        if self.config.nesterov:
            add_scaled_(self.parameters, gradient, -rate)
            add_scaled_(self.parameters, momentum, -scale * mu)
        else:
            add_scaled_(self.parameters, momentum, -scale)

    def _correction(self, rate: Factor) -> Factor:
        """The ratio of learning rates that the absorbed momentum is scaled by."""
        previous, self._previous_rate = self._previous_rate, rate
        if previous is None or not self.config.momentum_correction:
            return 1.0
        if bool((previous == 0).any() if isinstance(previous, Tensor) else previous == 0):
            raise ValueError("momentum_form: absorbed cannot go on from a learning rate of 0")
        return rate / previous

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the flat buffers."""
        return {"previous_rate": self._previous_rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""
        self._previous_rate = state["previous_rate"]
