"""Two runs, or two groups of runs, span by span: which became slower, by how much, and what is noise.

Each span is compared by its median over synchronisation periods (:mod:`hpcsgd.scaling.observed`), the whole iteration
by its mean too, which sees rare stalls. The interval of a difference comes from batches within each run, and where a
side has several runs, from how these differ (:mod:`hpcsgd.scaling.batches`). All intervals hold at once at the level
asked for (Bonferroni over the spans that could matter).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hpcsgd.scaling.batches import Estimate, estimate, half_width
from hpcsgd.scaling.observed import MEAN, TOTAL, Observed

SLOWER, FASTER, NOISE, SMALL = "slower", "faster", "noise", "too small to matter"
LEVEL = 0.99
LEAST = 0.005
"""A span is slower or faster only if it changes the iteration by this share of it."""


def compare(
    base: Sequence[Observed], other: Sequence[Observed], level: float = LEVEL, least: float = LEAST
) -> pd.DataFrame:
    """Compare the times of two sides.

    Args:
        base, other: the runs of each side.
        level: with which all intervals together hold.
        least: the smallest change that counts, as a share of the base's iteration.

    Returns:
        One row a span that either side has: ``span``; ``base_seconds``, ``other_seconds``: an iteration, the mean over
        the side's runs of their medians (of ``iteration, mean``: means); ``change_seconds`` with ``low_seconds`` and
        ``high_seconds``; ``ratio``; ``verdict``: ``slower``, ``faster``, ``noise``, or ``too small to matter`` for
        spans that are shorter than ``least`` of the iteration on both sides, which have no interval.
    """
    found = {name: [_estimates(side, name) for side in (base, other)] for name in _names([*base, *other])}
    means = {name: [float(np.mean([run.value for run in side])) for side in sides] for name, sides in found.items()}
    smallest = least * means[TOTAL][0]
    tested = [name for name, values in means.items() if max(values) >= smallest]
    rows = []
    for name, (before, after) in means.items():
        if max(before, after) == 0:
            continue
        change = after - before
        half, verdict = np.nan, SMALL
        if name in tested:
            half = half_width(found[name], 1 - (1 - level) / len(tested))
            verdict = NOISE
            if abs(change) > half and abs(change) >= smallest:
                verdict = SLOWER if change > 0 else FASTER
        ratio = after / before if before > 0 else np.nan
        rows.append((name, before, after, change, change - half, change + half, ratio, verdict))
    columns = ["base_seconds", "other_seconds", "change_seconds", "low_seconds", "high_seconds", "ratio", "verdict"]
    return pd.DataFrame(rows, columns=["span", *columns])


def _names(runs: Sequence[Observed]) -> list[str]:
    """Of the rows: the whole by median and mean, then the spans."""
    spans = [name for name in runs[0].periods.columns if name != TOTAL]
    return [TOTAL, MEAN, *spans]


def _estimates(side: Sequence[Observed], name: str) -> list[Estimate]:
    """Of a row, one a run."""
    statistic: Callable[..., Any] = np.mean if name == MEAN else np.median
    column = TOTAL if name == MEAN else name
    return [estimate(run.periods[column].to_numpy(float), statistic) for run in side]


def clocks(base: Sequence[Observed], other: Sequence[Observed]) -> pd.DataFrame:
    """What is in no iteration: evaluation, checkpoints and logging; without a verdict, as they are few.

    Returns:
        ``clock``, then of both sides ``_count``, how many took any time, and ``_seconds``, the median of one (maximum
        over ranks), and their ``ratio``.
    """
    rows = []
    for name in base[0].clocks:
        before, after = (pd.concat([run.clocks[name] for run in side]) for side in (base, other))
        if len(before) or len(after):
            seconds = [float(values.median()) for values in (before, after)]
            rows.append((name, len(before), seconds[0], len(after), seconds[1], seconds[1] / seconds[0]))
    return pd.DataFrame(rows, columns=["clock", "base_count", "base_seconds", "other_count", "other_seconds", "ratio"])
