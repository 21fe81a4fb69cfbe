"""How long H, the local steps between two averagings, is: a function of the step that they begin with.

All of them give the same on all ranks: step and learning rate are, and so is the one measured number, which comes out
of a reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hpcsgd.config import AlgorithmConfig
from hpcsgd.config.check import LARGEST

ROUNDING = 1 + 1e-9
"""(0.3 / 0.1)^2 is 9, and not the 8.9 that its digits give."""


class Period(Protocol):
    """H where it is not constant."""

    def __call__(self, step: int) -> int:
        """H, 1 or more, of the local steps that begin with ``step``, right after an averaging."""


class Rate(Protocol):
    """What a period asks of the learning rate; see :class:`hpcsgd.optim.schedule.LearningRate`."""

    warmup_steps: int

    def __call__(self, step: int) -> float:
        """The rate of a step."""

    def num_drops(self, step: int) -> int:
        """How many times it has dropped until ``step``."""


@dataclass(frozen=True)
class WarmUp:
    """From 1 to ``period`` over ``num_steps`` from ``start``: by equal steps, or ``doubling`` (Lin 2020, appendix)."""

    period: int
    start: int
    num_steps: int
    doubling: bool

    def __call__(self, step: int) -> int:
        """See :class:`Period`."""
        done = step - self.start
        if done >= self.num_steps:
            return self.period
        if self.doubling:
            num_doublings = (self.period - 1).bit_length()
            return min(self.period, 1 << num_doublings * done // self.num_steps)
        return 1 + (self.period - 1) * done // self.num_steps


@dataclass(frozen=True)
class Staged:
    """``period``, doubled at each drop of the learning rate (STL-SGD: Shen et al. 2021)."""

    period: int
    num_drops: Callable[[int], int]

    def __call__(self, step: int) -> int:
        """See :class:`Period`."""
        return min(self.period << min(self.num_drops(step), 64), LARGEST)


@dataclass(frozen=True)
class Power:
    """max(``period``, floor((alpha / rate)^power)); the Quadratic Synchronization Rule with power 2 (Gu et al. 2024).

    While the learning rate warms up, from where it is low too, it is ``warmup_period``, or None: what the rate right
    after the warm-up gives.
    """

    period: int
    alpha: float
    power: float
    rate: Rate
    warmup_period: int | None

    def __call__(self, step: int) -> int:
        """See :class:`Period`."""
        if self.warmup_period is not None and step < self.rate.warmup_steps:
            return self.warmup_period
        rate = self.rate(max(step, self.rate.warmup_steps))
        # A rate of 0 asks for no averaging any more but the last.
        ratio = self.alpha / rate if rate * LARGEST > self.alpha else float(LARGEST)
        return max(self.period, min(int(ratio**self.power * ROUNDING), LARGEST))


class Measured:
    """Halved where the replicas were further apart than ``target``, doubled where nearer than half of it.

    Attributes:
        period: H of the coming local steps.
    """

    def __init__(self, period: int, target: float, largest: int) -> None:
        """Begin with ``period``; it stays within 1 and ``largest``."""
        self.period = period
        self.target = target
        self.largest = largest

    def __call__(self, step: int) -> int:
        """See :class:`Period`; the same for any step until :meth:`take`."""
        return self.period

    def take(self, divergence: float) -> None:
        """Decide by the replicas' ``divergence`` before a global averaging: the same number on all ranks."""
        if divergence > self.target:
            self.period = max(1, self.period // 2)
        elif divergence < self.target / 2:
            self.period = min(2 * self.period, self.largest)


def make_period(config: AlgorithmConfig, rate: Rate, start: int, steps_per_epoch: int) -> Period | None:
    """H as the recipe says it, of local steps from the step ``start`` on; None: constant."""
    own, period = config.period_schedule, config.sync_period
    if own.kind in ("linear", "doubling"):
        return WarmUp(period, start, round(own.warmup_epochs * steps_per_epoch), own.kind == "doubling")
    if own.kind == "staged":
        return Staged(period, rate.num_drops)
    if own.kind == "power":
        assert own.alpha is not None
        return Power(period, own.alpha, own.power, rate, own.warmup_period)
    if own.kind == "divergence":
        assert own.target is not None
        return Measured(period, own.target, own.largest)
    return None
