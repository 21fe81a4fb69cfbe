"""What is kept of an iteration until its row of the log is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hpcsgd.record.clocks import SharedRow
from hpcsgd.record.utilisation import Sample


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
        sample: how busy the device was, and what it drew.
    """

    step: int
    rate: float
    done: Done | None
    num_local: int
    num_global: int
    sample: Sample

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


@dataclass(frozen=True)
class LastIteration:
    """What the progress bar shows: the latest gathered iteration of this rank."""

    step: int
    loss: float
    samples_per_second: float
    exposed_fraction: float

    @classmethod
    def of(cls, shared: Sequence[SharedRow], columns: Mapping[str, NDArray[np.float64]]) -> LastIteration:
        """The last of some iterations, at the rate of them all; ``columns`` as ``RANK_COLUMNS``, [rows]."""
        seconds = float((columns["wall_seconds"] - columns["evaluation_seconds"]).sum())
        exposed = float((columns["gradient_allreduce_seconds"] + columns["averaging_seconds"]).sum())
        samples = sum(row.num_global for row in shared)
        return cls(
            step=shared[-1].step,
            loss=float(columns["loss"][-1]),
            samples_per_second=samples / seconds if seconds > 0 else math.nan,
            exposed_fraction=exposed / seconds if seconds > 0 else math.nan,
        )


class Guard(Protocol):
    """Looks for what is not finite, as ``hpcsgd.comm.guard`` does.

    Attributes:
        own_bad: a boolean, a scalar on a GPU: something of this rank's own was not finite.
    """

    own_bad: Tensor | bool

    def check_losses(self, steps: range, losses: NDArray[np.float64], notes: NDArray[np.bool_] | None = None) -> None:
        """Look at this rank's losses of some steps, 0 where it had no samples. Collective.

        Args:
            steps: of the losses.
            losses: one a step.
            notes: ``own_bad`` at the end of each; None on a CPU.

        Raises:
            DivergedError: on all ranks, one is not finite.
        """
