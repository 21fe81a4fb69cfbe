"""A sentence of the verdict, and how its numbers are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

T_QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""97.5 % points of Student's t with 1, 2, ... degrees of freedom."""
NORMAL = 1.96


@dataclass(frozen=True)
class Sentence:
    """One sentence of the verdict.

    Attributes:
        text: the sentence.
        remark: what must be known to read it right; may be empty.
        known: false where the sentence says that, and why, nothing can be said.
    """

    text: str
    remark: str = ""
    known: bool = True

    def __str__(self) -> str:
        """Both in one line."""
        return " ".join(filter(None, (self.text, self.remark and f"({self.remark})")))


@dataclass(frozen=True)
class Range:
    """A number with the lowest and highest that it may as well be."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """The median of some values, their lowest and their highest."""
        ordered = sorted(value for value in values if not math.isnan(value))
        if not ordered:
            return cls(math.nan, math.nan, math.nan)
        half = len(ordered) // 2
        middle = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
        return cls(middle, ordered[0], ordered[-1])

    def over(self, other: Range) -> Range:
        """How many times the other one it is: at least its lowest over the other's highest."""
        return Range(self.value / other.value, self.low / other.high, self.high / other.low)

    def is_above(self, other: Range) -> bool:
        """Whether it is larger, whatever both are within their ranges."""
        return self.low > other.high


def half_width(values: Sequence[float], of_each: float) -> float:
    """Half of the 95 % interval of a mean: Student's over several values, and never below ``of_each`` of a single one.

    Args:
        values: of runs that differ in their seed alone.
        of_each: half of the interval of each, as far as its own samples tell.
    """
    if len(values) < 2:
        return of_each
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    quantile = T_QUANTILES[min(len(values) - 1, len(T_QUANTILES)) - 1]
    return max(of_each, quantile * deviation / math.sqrt(len(values)))


def figure(value: float, digits: int = 3) -> str:
    """``digits`` significant digits, whole numbers in full with thousands apart: 12,345, 0.123, 1.50."""
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "∞"
    if float(value).is_integer():
        return f"{value:,.0f}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(0, decimals)}f}"


def percent(share: float) -> str:
    """A share of a time, in whole per cent below which differences say little: ``21 %``."""
    return "below 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def seconds(value: float) -> str:
    """A duration: ``850 ms``, ``5.53 s``, ``12.4 min``, ``3.20 h``."""
    for limit, factor, unit in ((1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min")):
        if value < limit:
            return f"{figure(value * factor)} {unit}"
    return f"{figure(value / 3600)} h"


def listed(words: Sequence[str], most: int = 4) -> str:
    """``a, b and c``; of more than ``most`` words the first, and how many more."""
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} more"]
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
