"""How many learners a rank trains fastest with: a search over timed trials (Crossbow 2019, section 4.4).

The paper adds a learner while throughput rises. What one more can bring shrinks as 1/m, and noise does not; so here the
learners are doubled while that pays, and then the step is halved around the best.

Pure: what is measured, and how, is the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpcsgd.config import TunerConfig
from hpcsgd.errors import UsageError
from hpcsgd.record.schema import TAKEN


@dataclass(frozen=True)
class Measured:
    """Windows of two numbers of learners, timed in turn: pair by pair.

    Attributes:
        engine: that took the passes of the first.
        rates: samples a second, [windows], of the first.
        against: the same of the second; none where there is no second.
        peak_memory_bytes: what the first took of a rank's GPU; NaN: it has none.
    """

    engine: str
    rates: ArrayLike
    against: ArrayLike = ()
    peak_memory_bytes: float = math.nan

    @property
    def gains(self) -> np.ndarray:
        """What the first is faster than the second by, as a part of it: of each pair."""
        return np.asarray(self.rates, np.float64) / np.asarray(self.against, np.float64) - 1

    def leaves_open(self, threshold: float) -> bool:
        """Whether the middle half of the pairs lies on both sides of ``threshold``."""
        low, high = np.quantile(self.gains, (0.25, 0.75))
        return bool(low <= threshold < high)


Measure = Callable[[int, int, float], Measured | str]
"""From the learners to try, those to hold them against (0: none) and the gain in question; or why they cannot be."""


@dataclass(frozen=True)
class Trial:
    """A row of the log's ``/tuner``; the names are those of its columns."""

    learners: int
    against: int
    engine: str
    num_windows: int
    samples_per_second: float
    samples_per_second_min: float
    samples_per_second_max: float
    gain: float
    decision: str
    reason: str
    peak_memory_bytes: float = math.nan
    """NaN too where it was impossible, or a log or a checkpoint of an older version does not say."""

    def __str__(self) -> str:
        """One line."""
        what = f"{self.learners} learner{'s' * (self.learners > 1)} a rank"
        if self.reason:
            return f"{what}: {self.decision}: {self.reason}"
        gain = "" if math.isnan(self.gain) else f", {100 * self.gain:+.1f} % against {self.against}"
        return f"{what} by {self.engine}: {self.samples_per_second:,.0f} samples/s{gain}: {self.decision}"


class Search:
    """Trials so far, and the best of them."""

    def __init__(self, measure: Measure, config: TunerConfig, tell: Callable[[Trial], None]) -> None:
        """Nothing is tried yet; ``tell`` is told of each trial."""
        self.measure = measure
        self.config = config
        self.tell = tell
        self.trials: list[Trial] = []
        self.best = 0

    def run(self) -> list[Trial]:
        """Try, and decide; :func:`chosen` says what.

        Raises:
            UsageError: not even one learner is possible.
        """
        if not self.attempt(1):
            raise UsageError(f"learners_per_rank is auto, but a rank cannot train one: {self.trials[0].reason}")
        while self.best < self.config.max_learners and self.attempt(min(2 * self.best, self.config.max_learners)):
            pass
        step = self.best // 2
        while step:
            # Fewer learners that are as fast are better: their averaged model strays less.
            _ = self.attempt(self.best + step) or self.attempt(self.best - step, threshold=0.0)
            step //= 2
        return self.trials

    def attempt(self, learners: int, threshold: float | None = None) -> bool:
        """Try ``learners``, unless that was done or cannot be; whether they are the best now."""
        if not 1 <= learners <= self.config.max_learners or learners in {trial.learners for trial in self.trials}:
            return False
        asked = self.config.threshold if threshold is None else threshold
        trial = make_trial(learners, self.best, self.measure(learners, self.best, asked), asked)
        self.trials.append(trial)
        self.tell(trial)
        if trial.decision in TAKEN:
            self.best = learners
            return True
        return False


def make_trial(learners: int, against: int, measured: Measured | str, threshold: float) -> Trial:
    """A trial's figures, and what they decide."""
    if isinstance(measured, str):
        nan = float("nan")
        return Trial(learners, against, "", 0, nan, nan, nan, nan, "impossible", measured)
    rates = np.asarray(measured.rates, np.float64)
    gain = float(np.median(measured.gains)) if against else float("nan")
    decision = "start" if not against else "taken" if gain > threshold else "refused"
    figures = (float(np.median(rates)), float(rates.min()), float(rates.max()), gain)
    return Trial(learners, against, measured.engine, len(rates), *figures, decision, "", measured.peak_memory_bytes)


def chosen(trials: list[Trial]) -> Trial:
    """The last trial that was taken, or the start."""
    return next(trial for trial in reversed(trials) if trial.decision in TAKEN)
