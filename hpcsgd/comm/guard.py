"""Catch what is not finite before it spreads unseen, and name the rank that it came from.

Before a part of a buffer is reduced, its own sum is looked at: one pass. Where it is not finite, the first element is
made NaN, so that after the reduction a look at one element tells every rank, at the same step, that somebody's part
was bad. Then, and only then, the ranks ask each other whose.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import DivergedError


class FiniteGuard:
    """Guards the buffers that one rank reduces."""

    def __init__(self, comm: Communicator) -> None:
        """``comm`` are all ranks; they talk only when something is wrong."""
        self.comm = comm
        self._own_bad: bool | Tensor = False

    def before(self, part: Tensor) -> None:
        """Look at the 1-d ``part`` before it is reduced; nothing waits for a GPU."""
        total = part.sum()
        if part.device.type != "cpu":
            bad = ~torch.isfinite(total)
            part[:1] = torch.where(bad, torch.nan, part[:1])
            self._own_bad = bad | self._own_bad
        elif not math.isfinite(total.item()):
            part[0] = math.nan
            self._own_bad = True

    def after(self, part: Tensor, what: str) -> None:
        """Look at one element of the reduced ``part``; waits for a GPU.

        Raises:
            DivergedError: on all ranks, names those whose ``what`` was not finite.
        """
        if math.isnan(part[0].item()):
            own_bad = bool(self._own_bad)
            raise DivergedError(f"{what} not finite on {_named(self.comm.allgather_object(own_bad))}")

    def check_losses(self, finite: bool, step: int) -> None:
        """Agree on whether every rank's losses up to ``step`` are finite. Collective.

        Raises:
            DivergedError: on all ranks, names those whose are not.
        """
        bad = [not good for good in self.comm.allgather_object(finite)]
        if any(bad):
            raise DivergedError(f"before step {step + 1}: the loss is not finite on {_named(bad)}")


def _named(bad: list[bool]) -> str:
    """The ranks that are bad, in words."""
    ranks = [str(rank) for rank, is_bad in enumerate(bad) if is_bad]
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(ranks)}"
