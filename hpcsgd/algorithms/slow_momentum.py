"""An outer momentum on the averaged update (SlowMo, Wang et al. 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class SlowMomentum:
    """u <- beta u + (w_before - w_average) / eta;  w <- w_before - alpha eta u.

    w_before, the anchor, is the model of the last global averaging. beta = 0 and alpha = 1 leave the average as it is.
    """

    def __init__(self, parameters: Tensor, beta: float, alpha: float) -> None:
        """Keep an anchor and a momentum of the size of the flat ``parameters``, which are changed in place later."""
        self.parameters = parameters
        self.beta = beta
        self.alpha = alpha
        self.anchor = torch.zeros_like(parameters)
        self.momentum = torch.zeros_like(parameters)
        self._anchored = False

    def remember_anchor(self) -> None:
        """Take the present parameters, equal on all ranks, as the anchor, unless there is one."""
        if not self._anchored:
            self.anchor.copy_(self.parameters)
            self._anchored = True

    def apply_(self, rate: float) -> None:
        """Turn the average, in the parameters, into the outer step from the anchor, with learning rate ``rate``."""
        self.momentum.mul_(self.beta).add_(self.anchor - self.parameters, alpha=1 / rate)
        self.parameters.copy_(self.anchor).add_(self.momentum, alpha=-self.alpha * rate)
        self.anchor.copy_(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        """Anchor, momentum and whether the anchor holds."""
        return {"anchor": self.anchor, "momentum": self.momentum, "anchored": self._anchored}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""
        self.anchor.copy_(state["anchor"])
        self.momentum.copy_(state["momentum"])
        self._anchored = state["anchored"]
