"""What chance does: tests of series whose numbers hang together from one step to the next.

A series of n numbers that are correlated says as much as fewer independent ones: n over the integrated autocorrelation
time, here by the initial positive sequence (Geyer 1992). Tests take that number for n.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_BLOCKS = 64
"""A trend is looked for in the medians of so many blocks of a series at most."""

FEWEST = 16
"""Numbers without which no trend is told from chance."""

WILD = 4.0
"""Numbers farther from the median, in robust standard deviations, count as being so far."""

STEPS_FIT = 0.7
"""Of the squares that a line leaves, those that a step must leave at most to be taken in its place."""

NEAR = 8
"""Numbers about the edge of a step in which it is looked for once more."""

MAD = 1.4826
"""Standard deviation of normal numbers over the median of their distances from the median."""


def correlation_time(series: Floats) -> float:
    """How many numbers of a series in a row say as much as one that is independent: 1 or more."""
    centred = series - series.mean()
    size = len(centred)
    if size < 4 or not centred.any():
        return 1.0
    spectrum = np.fft.rfft(centred, 2 * size)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2)[:size]
    lags = covariance / covariance[0]
    pairs = lags[: size // 2 * 2].reshape(-1, 2).sum(axis=1)
    falls = np.flatnonzero(pairs <= 0)
    return max(1.0, float(2 * pairs[: falls[0] if len(falls) else len(pairs)].sum() - 1))


def chance_of_mean(series: Floats) -> float:
    """The probability of a mean as far above 0, were the true one 0: of Student's t, at the independent numbers."""
    size, spread = len(series), float(series.std(ddof=1)) if len(series) > 1 else 0.0
    mean = float(series.mean()) if size else 0.0
    if mean <= 0 or size < 3:
        return 1.0
    if spread == 0:
        return 0.0
    number = max(2.0, size / correlation_time(series))
    return student_tail(mean / spread * math.sqrt(number), number - 1)


def student_tail(value: float, freedom: float) -> float:
    """P(T > value), value > 0, of Student's t: the normal tail at Wallace's (1959) value, good to 1 % or so."""
    factor = (8 * freedom + 1) / (8 * freedom + 3)
    return 0.5 * math.erfc(factor * math.sqrt(freedom * math.log1p(value**2 / freedom) / 2))


class Trend(NamedTuple):
    """How a series changes.

    Attributes:
        first, last: its level at the begin and at the end.
        chance: the probability of a slope as steep by chance.
        jump: where it changes at once, as the number of the first that is changed; None: little by little.
    """

    first: float
    last: float
    chance: float
    jump: int | None


NO_TREND = Trend(0.0, 0.0, 1.0, None)


def trend(series: Floats) -> Trend:
    """A line or a step through a series, whichever fits better, tested with residuals that are correlated.

    What comes and goes is no trend: the thirds of a line must rise, or fall, one after another, and both halves before
    a step must lie on one side of both after it.
    """
    series = np.asarray(series, np.float64)
    if len(series) < FEWEST:
        return NO_TREND
    tamed = _tamed(series)
    blocks = np.array([np.median(part) for part in np.array_split(tamed, min(len(tamed), MOST_BLOCKS))])
    places = np.linspace(-0.5, 0.5, len(blocks))
    centred = blocks - blocks.mean()
    slope = float(places @ centred / (places @ places))
    residuals = centred - slope * places
    split, rest = best_split(centred)
    if rest < STEPS_FIT * float(residuals @ residuals):
        return _step(series, tamed, blocks, split)
    thirds = np.sign(np.diff([part.mean() for part in np.array_split(blocks, 3)]))
    if abs(thirds.sum()) != 2:
        return NO_TREND
    chance = 2 * _tail(slope, residuals, 1 / float(places @ places))
    return Trend(float(blocks.mean()) - slope / 2, float(blocks.mean()) + slope / 2, chance, None)


def _step(series: Floats, tamed: Floats, blocks: Floats, split: int) -> Trend:
    """The step that a series has, whose blocks have it before that of number ``split``."""
    before, after = blocks[:split], blocks[split:]
    halves = [half.mean() for part in (before, after) for half in np.array_split(part, 2) if len(half)]
    parts = halves[: len(halves) // 2], halves[len(halves) // 2 :]
    if min(len(before), len(after)) < 2 or max(min(parts[0]), min(parts[1])) <= min(max(parts[0]), max(parts[1])):
        return NO_TREND
    residuals = np.concatenate((before - before.mean(), after - after.mean()))
    height = float(after.mean() - before.mean())
    # It may be at any of so many places.
    chance = 2 * len(blocks) * _tail(height, residuals, 1 / len(before) + 1 / len(after))
    place, _ = best_split(tamed - tamed.mean())
    # Taming has smoothed its edge.
    begin = max(place - NEAR, 0)
    near = series[begin : place + NEAR]
    place = begin + best_split(near - near.mean())[0]
    return Trend(float(tamed[:place].mean()), float(tamed[place:].mean()), min(chance, 1.0), place)


def _tail(value: float, residuals: Floats, variance: float) -> float:
    """The probability of an estimate above |value| by chance, whose variance is so many times that of a residual."""
    number = len(residuals) / correlation_time(residuals)
    if number <= 3 or not value:
        return 1.0
    error = math.sqrt(float(residuals @ residuals) / (len(residuals) - 2) * variance * len(residuals) / number)
    return student_tail(abs(value) / error, number - 2) if error else 0.0


def best_split(series: Floats) -> tuple[int, float]:
    """Where two constants fit a series best: the first number of the second part, and the squares that are left."""
    size = len(series)
    sums, squares = np.cumsum(series), float(series @ series)
    before = np.arange(1, size)
    gained = sums[:-1] ** 2 / before + (sums[-1] - sums[:-1]) ** 2 / (size - before)
    best = int(gained.argmax())
    return best + 1, squares - float(gained[best])


def _tamed(series: Floats) -> Floats:
    """The series with wild numbers brought nearer, as they lie about their neighbourhood's median."""
    width = max(5, len(series) // MOST_BLOCKS * 2 + 1)
    level = np.concatenate(
        [np.full(len(p), np.median(p)) for p in np.array_split(series, max(1, len(series) // width))]
    )
    away = series - level
    reach = WILD * MAD * float(np.median(np.abs(away)))
    return level + np.clip(away, -reach, reach) if reach else level


class FixedPart(NamedTuple):
    """What of a step's compute does not grow with its batch.

    Attributes:
        seconds: of the usual step.
        least: of that, at least (99 %).
        whole: all of the usual step's compute.
        sizes: the usual and the smaller batch that it follows from.
    """

    seconds: float
    least: float
    whole: float
    sizes: tuple[float, float]


def fixed_part(sizes: Floats, seconds: Floats) -> FixedPart | None:
    """Of steps whose batches differ, the line through the medians of the usual and of the smaller ones.

    None: all are about equal, or too few differ.
    """
    values, counts = np.unique(sizes, return_counts=True)
    if not len(values):
        return None
    usual = values[counts.argmax()]
    smaller = [(count, value) for value, count in zip(values, counts, strict=True) if 0 < value <= 0.8 * usual]
    if not smaller:
        return None
    other = max(smaller)[1]
    full, part = seconds[sizes == usual], seconds[sizes == other]
    if len(part) < 3:
        return None
    reach = usual / (usual - other)
    whole = float(np.median(full))
    fixed = whole - (whole - float(np.median(part))) * reach
    # The median's error is 1.25 times the mean's; its spread is taken of the larger sample, relative to the level.
    spread = 1.25 * MAD * float(np.median(np.abs(full - whole)))
    error = reach * spread * math.sqrt(1 / len(full) + 1 / len(part))
    return FixedPart(min(max(fixed, 0.0), whole), fixed - 2.6 * error, whole, (float(usual), float(other)))
