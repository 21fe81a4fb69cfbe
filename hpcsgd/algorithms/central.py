"""The central average model of synchronous model averaging (Crossbow 2019, section 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class CentralModel:
    """z <- z + sum of the corrections + mu (z - z_prev), with v = z - z_prev: v <- mu v + sum, z <- z + v.

    Attributes:
        model: z, flat.
        velocity: v = z - z_prev, flat.
        momentum: mu_z.
        is_placed: z has its value.
    """

    def __init__(self, parameters: Tensor, momentum: float) -> None:
        """A model of the size of the flat ``parameters``, without a place yet."""
        self.model = torch.zeros_like(parameters)
        self.velocity = torch.zeros_like(parameters)
        self.momentum = momentum
        self.is_placed = False

    def place(self, parameters: Tensor) -> None:
        """Begin at ``parameters``, the same on all ranks, at rest."""
        self.model.copy_(parameters)
        self.stop()
        self.is_placed = True

    @torch.no_grad()
    def move(self, corrections: Tensor) -> None:
        """Go on by the sum of all learners' ``corrections``."""
        self.velocity.mul_(self.momentum).add_(corrections)
        self.model.add_(self.velocity)

    def stop(self) -> None:
        """z_prev <- z."""
        self.velocity.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Place and velocity."""
        return {"model": self.model, "velocity": self.velocity, "is_placed": self.is_placed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""
        self.model.copy_(state["model"])
        self.velocity.copy_(state["velocity"])
        self.is_placed = state["is_placed"]
