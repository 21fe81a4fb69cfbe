"""The scale of a loss whose gradients are of float16, as ``torch.amp.GradScaler`` has it, the same on all ranks.

Small gradients would vanish in float16 (below 6e-8), so the loss is multiplied. Where the scale is too large, a
gradient overflows: the step is left out, and the scale halved; after many steps without that it is doubled. A local
step is left out by all learners of all ranks if it overflows for one, so that they stay in step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import DivergedError

FIRST = 2.0**16
GROWTH = 2.0
BACKOFF = 0.5
GROWTH_STEPS = 2000
"""Steps without overflow after which the scale grows."""

LEAST = 2.0**-24
"""The smallest number of float16: gradients that overflow at this scale too do so because the training diverges."""


class LossScale:
    """What the losses of a step are multiplied by.

    Attributes:
        value: of the coming step.
        taken: of the last step; 0 where it was left out, NaN where there was none.
    """

    def __init__(self, comm: Communicator) -> None:
        """``comm`` are all ranks."""
        self.comm = comm
        self.value = FIRST
        self.taken = math.nan
        self._good_steps = 0

    @torch.no_grad()
    def unscale_(self, gradients: Tensor, *, alike: bool) -> bool:
        """Divide by the scale, in place, and say whether the step counts; settle the scale of the next. Collective.

        Args:
            gradients: of this rank's learners, [m, P].
            alike: all learners of all ranks have the same: they need not talk.

        Raises:
            DivergedError: on all ranks, gradients are not finite at any scale.
        """
        gradients.mul_(1 / self.value)
        # A sum is not finite where a part of it is not: one pass, and no mask.
        overflow = np.array([not math.isfinite(gradients.sum().item())], np.int64)
        if not alike:
            self.comm.max_(overflow)
        is_good = not overflow[0]
        self.taken = self.value if is_good else 0.0
        self._settle(is_good)
        return is_good

    def _settle(self, is_good: bool) -> None:
        """Follow what a step has shown."""
        if not is_good:
            self._good_steps = 0
            self.value *= BACKOFF
            if self.value < LEAST:
                raise DivergedError("the gradients are not finite in precision float16, however the loss is scaled")
            return
        self._good_steps += 1
        if self._good_steps == GROWTH_STEPS:
            self._good_steps = 0
            # No larger than what the gradients' float32 holds.
            self.value = min(self.value * GROWTH, 2.0**126)

    def state_dict(self) -> dict[str, Any]:
        """The scale, and the steps since it changed."""
        return {"value": self.value, "good_steps": self._good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""
        self.value, self._good_steps = state["value"], state["good_steps"]


def taken(loss_scale: LossScale | None) -> float:
    """The scale of the last step, as :attr:`LossScale.taken`; NaN without one."""
    return math.nan if loss_scale is None else loss_scale.taken
