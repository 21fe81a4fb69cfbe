"""Catch what is not finite before it spreads unseen, and name the rank that it came from.

Before a part of a buffer is reduced, its own sum is looked at: one pass. Where it is not finite, the first element is
made NaN, so that after the reduction a look at one element tells every rank, at the same step, that somebody's part
was bad. Then, and only then, the ranks ask each other whose. A reduction over a block tells that block alone, which
cannot end the run: its ranks keep it in mind, and all learn of it, with the rank that it came from, at the next
reduction over all.

On a GPU nobody waits for an answer: a rank notes there whether a part of its own was bad so far, and sends that note to
the host with the loss of each step. Where the log is gathered, the first step and the ranks that were bad then are
known.

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
        self.own_bad: bool | Tensor = False
        """Whether a part of this rank's own was bad so far; on a GPU, 0-d, as its queue has it."""
        self._infected = False
        self._totals: list[Tensor] = []

    def before(self, part: Tensor, *, more: bool = False) -> None:
        """Look at the 1-d ``part`` before it is reduced; nothing waits for a GPU.

        Args:
            part: of a buffer.
            more: others are to follow, the last of which tells of all of them on a GPU: each but that one costs a
                single kernel there.
        """
        total = part.sum()
        if part.device.type != "cpu":
            self._totals.append(total)
            if not more:
                self._look_at_totals(part)
        elif not abs(total.item()) < _limit(part.dtype):
            self.spoil(part, own=True)

    def spoil(self, part: Tensor, *, own: bool) -> None:
        """Let the first element of ``part`` tell that there is something not finite; ``own``: on this rank."""
        part[0] = math.nan
        self.own_bad = self.own_bad or (own and not self._infected)

    def _look_at_totals(self, part: Tensor) -> None:
        """Make the first element of ``part``, the last one, NaN where a total is not finite; on a GPU."""
        totals = torch.stack(self._totals) if len(self._totals) > 1 else self._totals[0]
        self._totals.clear()
        bad = ~(totals.abs() < _limit(part.dtype)).all()
        part[:1] = torch.where(bad, torch.nan, part[:1])
        if not self._infected:
            self.own_bad = bad | self.own_bad

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
            raise DivergedError(f"{what} not finite on {_named(self.comm.allgather_object(bool(self.own_bad)))}")
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
        return self.comm.allgather_object(bool(self.own_bad) or not (finite or self._infected))

    def check_losses(self, steps: range, losses: NDArray[np.float64], notes: NDArray[np.bool_] | None = None) -> None:
        """Agree on whether the losses of some iterations are finite on every rank. Collective.

        Args:
            steps: of the iterations.
            losses: this rank's, one a step; 0 where it had no samples.
            notes: ``own_bad`` at the end of each; None on a CPU, where whatever else is bad is told at once.

        Raises:
            DivergedError: on all ranks, names the first step with one that is not, and the ranks where it is not.
        """
        wrong = ~np.isfinite(losses)
        if notes is None:
            bad = self.bad_ranks(not wrong.any())
        else:
            bad = self.comm.allgather_object(bool(notes.any() or wrong.any()))
        if not any(bad):
            return
        own = None
        # What was reduced comes first: a loss of the same step is not finite for the same reason.
        for what, flags in (("what was to be reduced", notes), ("the loss", wrong)):
            if flags is not None and flags.any():
                step = steps[int(flags.argmax())]
                own = (step, what) if own is None or step < own[0] else own
        first = self.comm.allgather_object(own)
        known = [found for found, is_bad in zip(first, bad, strict=True) if is_bad and found is not None]
        if not known:
            raise DivergedError(f"before step {steps[-1] + 1}: the loss is not finite on {_named(bad)}")
        step, what = min(known, key=lambda found: found[0])
        ranks = _named([found is not None and found[0] == step for found in first])
        raise DivergedError(f"step {step}: {what} is not finite on {ranks}")


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
