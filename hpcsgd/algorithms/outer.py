"""The outer step: what a global averaging makes of the mean of the replicas.

Without one, the mean is the next model. With one, the model of the last global averaging is the anchor, and the mean
difference from it is to the outer step what a gradient is to an optimizer.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from hpcsgd.config import AlgorithmConfig


class OuterStep(Protocol):
    """Moves an anchor by mean differences."""

    def apply_(self, anchor: Tensor, difference: Tensor, rate: float) -> None:
        """Move the flat ``anchor`` in place.

        Args:
            anchor: the model of the last global averaging.
            difference: anchor - mean of the replicas.
            rate: learning rate of the local steps.
        """

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""


class SlowMomentum:
    """u <- beta u + difference / eta;  anchor <- anchor - alpha eta u (SlowMo, Wang et al. 2020).

    beta = 0 and alpha = 1 leave the mean as it is.
    """

    def __init__(self, like: Tensor, beta: float, alpha: float) -> None:
        """A momentum of the size of ``like``, at rest."""
        self.beta = beta
        self.alpha = alpha
        self.momentum = torch.zeros_like(like)

    def apply_(self, anchor: Tensor, difference: Tensor, rate: float) -> None:
        """See :class:`OuterStep`."""
        self.momentum.mul_(self.beta).add_(difference, alpha=1 / rate)
        anchor.add_(self.momentum, alpha=-self.alpha * rate)

    def state_dict(self) -> dict[str, Any]:
        """The momentum."""
        return {"momentum": self.momentum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`OuterStep`."""
        self.momentum.copy_(state["momentum"])


class Anchored:
    """The parameters of the first learner of a rank, their anchor, and the outer step that moves it."""

    def __init__(self, parameters: Tensor, step: OuterStep) -> None:
        """``parameters`` are flat, and changed in place later."""
        self.parameters = parameters
        self.outer = step
        self.anchor = torch.zeros_like(parameters)
        self.is_placed = False

    def place(self) -> None:
        """Take the present parameters, equal on all ranks, as the anchor, unless there is one."""
        if not self.is_placed:
            self.anchor.copy_(self.parameters)
            self.is_placed = True

    def apply_(self, rate: float) -> None:
        """Turn the mean, in the parameters, into the outer step from the anchor, which moves there."""
        self.outer.apply_(self.anchor, self.anchor - self.parameters, rate)
        self.parameters.copy_(self.anchor)

    def state_dict(self) -> dict[str, Any]:
        """Anchor, whether it holds, and the state of the outer step."""
        return {"anchor": self.anchor, "is_placed": self.is_placed, "outer": self.outer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""
        self.anchor.copy_(state["anchor"])
        self.is_placed = state["is_placed"]
        self.outer.load_state_dict(state["outer"])


def make_anchored(config: AlgorithmConfig, parameters: Tensor) -> Anchored | None:
    """The outer step of the recipe; None where the mean is the next model."""
    if config.resolved_outer_step == "slow_momentum":
        return Anchored(parameters, SlowMomentum(parameters, config.slow_momentum, config.slow_learning_rate))
    return None
