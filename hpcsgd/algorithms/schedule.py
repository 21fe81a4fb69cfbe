"""When to synchronise what: one function of the step (Lin 2020, algorithms 1 to 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from hpcsgd.algorithms.periods import Measured, Period


class Action(IntEnum):
    """What a step synchronises; the numbers stand in the run log."""

    NONE = 0
    GRADIENT = 1
    BLOCK = 2
    GLOBAL = 3


class Round(NamedTuple):
    """Local steps up to an averaging."""

    start: int
    """Its first step."""
    period: int
    """H: its steps."""
    number: int
    """From 0."""


@dataclass
class SyncSchedule:
    """The action of each step.

    Attributes:
        local_start: t', the first local step; before, gradients are averaged over all ranks. None: never.
        sync_period: H, local steps between two averagings, counted from ``local_start``.
        block_sync_period: H_b; every H_b-th averaging is global, the others are of a block.
        period: H where it is not ``sync_period`` throughout; it is asked at the first step after an averaging.
        num_steps: of the run, whose last step ends with a global averaging where there is a ``period``; None: nobody
            knows.
    """

    local_start: int | None
    sync_period: int = 1
    block_sync_period: int = 1
    period: Period | None = None
    num_steps: int | None = None
    _rounds: list[Round] = field(default_factory=list, init=False, repr=False, compare=False)
    """The last round that was asked for, and the one before."""
    _since: int | None = field(default=None, init=False, repr=False, compare=False)
    """Steps of the last round that are done, where the state of another start was taken up."""

    @property
    def averages_gradients(self) -> bool:
        """Whether any step averages gradients."""
        return self.local_start is None or self.local_start > 0

    @property
    def measured(self) -> Measured | None:
        """The period that depends on what is measured, and is known until the next averaging only."""
        return self.period if isinstance(self.period, Measured) else None

    def is_local(self, step: int) -> bool:
        """Whether replicas step on their own."""
        return self.local_start is not None and step >= self.local_start

    def __call__(self, step: int) -> Action:
        """The action of the step number ``step``, from 0: what follows its backward pass."""
        if not self.is_local(step):
            return Action.GRADIENT
        start, period, number = self._round(step)
        if step + 1 < start + period:
            return Action.NONE
        is_last = self.period is not None and step + 1 == self.num_steps
        return Action.BLOCK if (number + 1) % self.block_sync_period and not is_last else Action.GLOBAL

    def period_at(self, step: int) -> int:
        """H in force at ``step``; 1 where gradients are averaged."""
        return self._round(step).period if self.is_local(step) else 1

    def free_after(self, step: int) -> int:
        """Steps that follow the averaging of ``step`` before that of the next one, and before the run's last."""
        free = self.period_at(step + 1) - 1
        return free if self.num_steps is None else max(min(free, self.num_steps - 1 - step), 0)

    def start(self, step: int) -> None:
        """Before ``step``, the first of this start: the state that was taken up belongs there."""
        if self._since is not None:
            last = self._rounds[-1]
            self._rounds = [last._replace(start=step - self._since)]
            self._since = None

    def state_dict(self, step: int) -> dict[str, Any] | None:
        """What the steps from ``step`` on need of those before; None: nothing."""
        if self.measured is None or not self.is_local(step):
            return None
        start, period, number = self._round(step)
        return {"since": step - start, "period": period, "number": number}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take up the state that :meth:`state_dict` gave; :meth:`start` says where."""
        if self.measured is not None and state is not None:
            self.measured.period = state["period"]
            self._rounds = [Round(0, state["period"], state["number"])]
            self._since = state["since"]

    def _round(self, step: int) -> Round:
        """The round of the local step ``step``."""
        assert self.local_start is not None
        if self.period is None:
            number, since = divmod(step - self.local_start, self.sync_period)
            return Round(step - since, self.sync_period, number)
        if self._rounds and self.measured is not None and step < self._rounds[0].start:
            # Of the start before, of which is known that a round ended there.
            assert step + 1 == self._rounds[0].start
            return Round(step, 1, self._rounds[0].number - 1)
        if not self._rounds or step < self._rounds[0].start:
            self._rounds = [self._begin(self.local_start, 0)]
        while step >= (last := self._rounds[-1]).start + last.period:
            self._rounds = [last, self._begin(last.start + last.period, last.number + 1)]
        return next(each for each in reversed(self._rounds) if each.start <= step)

    def _begin(self, step: int, number: int) -> Round:
        """The round that begins with ``step``."""
        assert self.period is not None
        period = self.period(step)
        return Round(step, period if self.num_steps is None else max(min(period, self.num_steps - step), 1), number)
