"""What is kept of an iteration until its row of the log is made."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from hpcsgd.record.clocks import SharedRow


class Done(Protocol):
    """What a step has done, as :class:`hpcsgd.algorithms.base.Synchronisation` says it."""

    @property
    def action(self) -> int: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def gradient_norm(self) -> Tensor | float: ...
    @property
    def loss_scale(self) -> float: ...
    @property
    def period(self) -> float: ...
    @property
    def divergence(self) -> float: ...
    @property
    def learner_norm(self) -> Tensor | float: ...


class Kept(NamedTuple):
    """An iteration, until its row is made.

    Attributes:
        step: its number.
        rate: the learning rate.
        done: what it did; None: the loop is only timed, and nothing else is known of it.
        num_local, num_global: samples of this rank and of all.
        utilisation: how busy the device was.
    """

    step: int
    rate: float
    done: Done | None
    num_local: int
    num_global: int
    utilisation: float

    def row(self, steps_per_epoch: int, segment: int) -> SharedRow:
        """The row of it that all ranks share."""
        action, num_bytes = (0, 0) if self.done is None else (int(self.done.action), self.done.num_bytes)
        epoch, samples = self.step // steps_per_epoch, (self.num_local, self.num_global)
        row = SharedRow(self.step, epoch, self.rate, action, num_bytes, segment, *samples)
        if self.done is None:
            return row
        return row._replace(
            loss_scale=self.done.loss_scale, sync_period=self.done.period, divergence=self.done.divergence
        )
