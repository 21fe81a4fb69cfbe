"""Intervals of what is measured again and again in one run, where neighbours are alike: batch means and sections.

The times of the iterations of a run are no independent draws: a slow second makes many of them slow. Cut into few long
batches they nearly are (Schmeiser 1982; for quantiles Asmussen and Glynn 2007, Stochastic Simulation, section IV.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST_BATCHES = 5
TIMES_OF_CORRELATION = 5
"""Batches that are so many times as long as the correlation time are independent, but for about a fifth of it."""
WINDOW = 5
"""Sokal's window: autocorrelations are added up to so many times the sum itself, beyond which they are noise."""


@dataclass(frozen=True)
class Estimate:
    """A figure of one run, of which runs of the same kind differ.

    Attributes:
        value: the figure.
        error: its standard error.
        degrees: degrees of freedom of the error.
    """

    value: float
    error: float
    degrees: float


def correlation_time(values: NDArray[np.float64]) -> float:
    """The integrated autocorrelation time, 1 + 2 sum of the autocorrelations, in places; 1 where none is alike.

    The mean of n values varies as that of n over this time independent ones. The sum ends at the first lag that is
    beyond ``WINDOW`` times the sum so far (Sokal 1997).
    """
    centred = values - values.mean()
    square = float(centred @ centred)
    if square <= 0:
        return 1.0
    size = 1 << (2 * len(centred) - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size)) ** 2
    times = 2 * np.cumsum(np.fft.irfft(power, size)[: len(centred)] / square) - 1
    beyond = np.flatnonzero(np.arange(len(times)) >= WINDOW * times)
    return max(1.0, float(times[beyond[0] if len(beyond) else -1]))


def num_batches(values: NDArray[np.float64]) -> int:
    """Into how many batches ``values`` are cut: each at least ``TIMES_OF_CORRELATION`` correlation times long.

    The correlation is that of being above or below the median, which no single long stall hides; batches are not
    shorter than the root of the number of values, and not fewer than ``FEWEST_BATCHES``.
    """
    above = (values > np.median(values)).astype(float)
    length = max(math.sqrt(len(values)), TIMES_OF_CORRELATION * correlation_time(above))
    return max(FEWEST_BATCHES, int(len(values) / length))


def estimate(values: NDArray[np.float64], statistic: Callable[..., Any]) -> Estimate:
    """A statistic of all ``values``, with its error from how it differs between batches (sectioning).

    Args:
        values: in the order of time; at least twice ``FEWEST_BATCHES``.
        statistic: of any number of values: mean or median.
    """
    assert len(values) >= 2 * FEWEST_BATCHES, "too few values for batches"
    batches = np.array_split(values, num_batches(values))
    whole = float(statistic(values))
    around = np.array([float(statistic(batch)) for batch in batches]) - whole
    degrees = len(batches) - 1
    return Estimate(whole, math.sqrt(float(around @ around) / degrees / len(batches)), degrees)


def half_width(estimates: Sequence[Sequence[Estimate]], level: float) -> float:
    """Half of the interval of the difference between the means of two sides.

    Within runs, by Welch's interval of their errors. Where a side has several runs, also between runs: they differ by
    more than what one of them can see of itself. The pooled variance of both sides then gives Student's interval, and
    the wider one counts.

    Args:
        estimates: of the runs of both sides.
        level: of confidence.
    """
    parts = [(run.error**2 / len(side) ** 2, run.degrees) for side in estimates for run in side]
    within = sum(own for own, _ in parts)
    degrees = within**2 / sum(own**2 / known for own, known in parts) if within > 0 else 1.0
    half = student(level, degrees) * math.sqrt(within)
    free = sum(len(side) - 1 for side in estimates)
    if free:
        squares = sum(float(np.var([run.value for run in side])) * len(side) for side in estimates)
        between = squares / free * sum(1 / len(side) for side in estimates)
        half = max(half, student(level, free) * math.sqrt(between))
    return half


def student(level: float, degrees: float) -> float:
    """The quantile of Student's t that ``level`` of it lies within, on both sides."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))
