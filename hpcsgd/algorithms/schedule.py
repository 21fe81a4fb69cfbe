"""When to synchronise what: one pure function of the step (Lin 2020, algorithms 1 to 3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Action(IntEnum):
    """What a step synchronises; the numbers stand in the run log."""

    NONE = 0
    GRADIENT = 1
    BLOCK = 2
    GLOBAL = 3


@dataclass(frozen=True)
class SyncSchedule:
    """The action of each step.

    Attributes:
        local_start: t', the first local step; before, gradients are averaged over all ranks. None: never.
        sync_period: H, local steps between two averagings, counted from ``local_start``.
        block_sync_period: H_b; every H_b-th averaging is global, the others are of a block.
    """

    local_start: int | None
    sync_period: int = 1
    block_sync_period: int = 1

    @property
    def averages_gradients(self) -> bool:
        """Whether any step averages gradients."""
        return self.local_start is None or self.local_start > 0

    def __call__(self, step: int) -> Action:
        """The action of the step number ``step``, from 0: what follows its backward pass."""
        if self.local_start is None or step < self.local_start:
            return Action.GRADIENT
        averagings, since = divmod(step - self.local_start + 1, self.sync_period)
        if since:
            return Action.NONE
        return Action.BLOCK if averagings % self.block_sync_period else Action.GLOBAL
