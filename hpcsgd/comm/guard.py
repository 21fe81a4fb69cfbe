"""Catch what is not finite before it spreads unseen, and name the rank that it came from.

Before a part of a buffer is reduced, its own sum is looked at: one pass. Where it is not finite, the first element is
made NaN, so that after the reduction a look at one element tells every rank, at the same step, that somebody's part
was bad. Then, and only then, the ranks ask each other whose. A reduction over a block tells that block alone, which
cannot end the run: its ranks keep it in mind, and all learn of it, with the rank that it came from, at the next
reduction over all.

A sum whose square overflows is taken for not finite: no training gets there, but a flipped bit in an exponent does.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import DivergedError, name_ranks


class FiniteGuard:
    """Guards the buffers that one rank reduces."""

    def __init__(self, comm: Communicator) -> None:
        """``comm`` are all ranks; they talk only when something is wrong."""
        self.comm = comm
        self._own_bad: bool | Tensor = False
        self._infected = False

    def before(self, part: Tensor) -> None:
        """Look at the 1-d ``part`` before it is reduced; nothing waits for a GPU."""
        total = part.sum()
        if part.device.type != "cpu":
            bad = ~(total.abs() < _limit(part.dtype))
            part[:1] = torch.where(bad, torch.nan, part[:1])
            if not self._infected:
                self._own_bad = bad | self._own_bad
        elif not abs(total.item()) < _limit(part.dtype):
            part[0] = math.nan
            self._own_bad = self._own_bad or not self._infected

    def after(self, head: Tensor, what: str, *, among_all: bool = True) -> None:
        """Look at the first element of a reduced part; waits for a GPU.

        Args:
            head: scalar: the element, or the sum of those of several parts.
            what: subject and verb of the message.
            among_all: it was reduced over all ranks, not over a block.

        Raises:
            DivergedError: on all ranks, names those whose ``what`` was not finite.
        """
        if not math.isnan(head.item()):
            return
        if among_all:
            raise DivergedError(f"{what} not finite on {_named(self.comm.allgather_object(bool(self._own_bad)))}")
        self._infected = True

    def check(self, what: str, finite: bool) -> None:
        """Agree on whether ``what`` is finite on every rank. Collective.

        Raises:
            DivergedError: on all ranks, names those where it is not.
        """
        bad = self.bad_ranks(finite)
        if any(bad):
            raise DivergedError(f"{what} not finite on {_named(bad)}")

    def bad_ranks(self, finite: bool) -> list[bool]:
        """For each rank, whether something of its own is not finite. Collective."""
        return self.comm.allgather_object(bool(self._own_bad) or not (finite or self._infected))

    def check_losses(self, steps: range, losses: NDArray[np.float64]) -> None:
        """Agree on whether the losses of some iterations are finite on every rank. Collective.

        Args:
            steps: of the iterations.
            losses: this rank's, one a step; 0 where it had no samples.

        Raises:
            DivergedError: on all ranks, names the first step with one that is not, and the ranks where it is not.
        """
        wrong = ~np.isfinite(losses)
        bad = self.bad_ranks(not wrong.any())
        if not any(bad):
            return
        first = self.comm.allgather_object(steps[int(wrong.argmax())] if wrong.any() else None)
        known = [step for step, is_bad in zip(first, bad, strict=True) if is_bad and step is not None]
        if not known:
            raise DivergedError(f"before step {steps[-1] + 1}: the loss is not finite on {_named(bad)}")
        raise DivergedError(f"step {min(known)}: the loss is not finite on {_named([s == min(known) for s in first])}")


def is_sound(*parts: Tensor) -> bool:
    """Whether all elements are finite, and the squares of the sums too; waits for a GPU."""
    return all(abs(part.sum().item()) < _limit(part.dtype) for part in parts if part.numel())


@functools.cache
def _limit(dtype: torch.dtype) -> float:
    """The largest number whose square is finite."""
    return math.sqrt(torch.finfo(dtype).max)


def _named(bad: list[bool]) -> str:
    """The ranks that are bad, in words."""
    return name_ranks([rank for rank, is_bad in enumerate(bad) if is_bad])
