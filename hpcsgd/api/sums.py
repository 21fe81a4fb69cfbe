"""What the backward passes of a step of a user's loop add up to."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hpcsgd.comm.communicator import Communicator


class StepSums:
    """The losses of a step so far, and what they weigh.

    Attributes:
        loss: their sum, 0-d, float64; None: there was no backward pass.
        weight: what they weigh, 0-d, where they were given as sums; None: they are means over samples.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.loss: Tensor | None = None
        self.weight: Tensor | None = None

    def add(self, loss: Tensor, num_samples: int, weight: Tensor | float | None) -> None:
        """Add a ``loss``: the mean over so many samples, or with a ``weight`` the sum over what weighs so much."""
        total = loss.detach().double()
        if weight is None:
            total = total * num_samples
        else:
            self.weight = torch.as_tensor(weight).detach().double() + (0.0 if self.weight is None else self.weight)
        self.loss = total if self.loss is None else self.loss + total

    def weigh_(self, gradients: Tensor, num_samples: int, comm: Communicator | None) -> float:
        """Make a mean of what the passes have left in ``gradients``, or this rank's part in one.

        Args:
            gradients: changed in place.
            num_samples: that they are the mean of, where there is no weight.
            comm: ranks whose gradients are summed afterwards; None: each takes its own mean. Collective, if given.

        Returns:
            What all that is in the mean weighs; without ``comm``, 1.
        """
        # The gradient is a mean over samples, or a sum.
        weight, part = float(num_samples), float(num_samples)
        if self.weight is not None:
            weight, part = float(self.weight), 1.0
        if comm is None:
            if self.weight is not None and weight:
                gradients.div_(weight)
            return 1.0
        total = np.array([weight])
        comm.sum_(total)
        gradients.mul_(part / (float(total[0]) or 1.0))
        return float(total[0])

    def logged(self) -> Tensor | float:
        """The sum, NaN without a pass; with its weight, [2], where there is one."""
        if self.loss is None:
            return math.nan
        return self.loss if self.weight is None else torch.stack((self.loss, self.weight.to(self.loss.device)))
