"""The three regimes of data parallelism (Shallue 2019, section 4.1), with intervals over trials, and local slopes.

*Perfect scaling* reaches from the smallest batch size B0 to the largest up to which, at every batch size in between,

    log2(steps B) - log2(steps0 B0) <= 0.5.

*Maximal data parallelism* begins at the smallest batch size from which, at it and every larger one, steps are at most
2^0.5 times the least of the curve. Between the two are *diminishing returns*. Both limits are batch sizes that were
measured; nothing is interpolated.

Batch sizes at which no trial reaches the goal are passed over, as if they had never been run. Where steps rise again
at large batch sizes, maximal data parallelism begins after the last one that is too slow; if that is the largest of
all, it is not reached. Of a curve that still falls at its end, the largest batch size is ``maximal_from`` by
definition: that says that larger ones were needed to see it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Study
from hpcsgd.study.result import counted_trials, first_step, require_metric

TOLERANCE = 0.5
"""In log2 of steps: by so much the perfect-scaling line, and the least steps, may be missed."""

INTERVAL = (0.025, 0.975)


@dataclass(frozen=True)
class Regimes:
    """Where the regimes end and begin, as batch sizes.

    Attributes:
        perfect_until: the largest with perfect scaling.
        maximal_from: the smallest with maximal data parallelism; None where it is not reached.
    """

    perfect_until: int
    maximal_from: int | None


def limits(steps: Mapping[int, float]) -> Regimes:
    """Where the regimes end and begin.

    Args:
        steps: steps to result by batch size, of those that reach the goal.

    Raises:
        UsageError: there is no batch size, or steps are not positive.
    """
    if not steps:
        raise UsageError("no batch size reaches the goal, so there are no regimes: give a goal that is easier to reach")
    _require_positive(steps)
    sizes = np.array(sorted(steps), dtype=np.float64)
    perfect, maximal = _limits(np.array([[steps[size] for size in sorted(steps)]], dtype=np.float64), sizes)
    return Regimes(int(perfect[0]), int(maximal[0]) if math.isfinite(maximal[0]) else None)


def _limits(steps: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both limits of many curves at once.

    Args:
        steps: [curves, sizes]; infinite where the goal is not reached, but not all of a curve.
        sizes: [sizes], rising.

    Returns:
        [curves] each; the second is infinite where maximal data parallelism is not reached.
    """
    known = np.isfinite(steps)
    logs = np.log2(np.where(known, steps, 1.0))
    samples = logs + np.log2(sizes)
    first = known.argmax(axis=1)[:, None]
    outside = known & (samples - np.take_along_axis(samples, first, axis=1) > TOLERANCE)
    inside = known & (np.cumsum(outside, axis=1) == 0)
    least = np.where(known, logs, np.inf).min(axis=1)[:, None]
    above = known & (logs - least > TOLERANCE)
    after = known & (np.cumsum(above[:, ::-1], axis=1)[:, ::-1] == 0)
    return np.where(inside, sizes, 0.0).max(axis=1), np.where(after, sizes, np.inf).min(axis=1)


def local_slopes(steps: Mapping[int, float]) -> dict[tuple[int, int], float]:
    """d log2 steps / d log2 B between neighbouring batch sizes: -1 is perfect scaling, 0 is none.

    Raises:
        UsageError: steps are not positive.
    """
    _require_positive(steps)
    sizes = sorted(steps)
    return {
        (low, high): math.log2(steps[high] / steps[low]) / math.log2(high / low)
        for low, high in zip(sizes, sizes[1:], strict=False)
    }


@dataclass(frozen=True)
class Spread:
    """95 % intervals over trials, (low, high), of what :func:`bootstrap` draws.

    Attributes:
        perfect_until, maximal_from: of both limits; batch sizes. The second is infinite where maximal data parallelism
            is not reached.
        steps: of the steps to result, by batch size; infinite where the goal is not reached.
        unreached: share of the draws in which no trial reached the goal, by batch size.
    """

    perfect_until: tuple[float, float]
    maximal_from: tuple[float, float]
    steps: dict[int, tuple[float, float]]
    unreached: dict[int, float]


def bootstrap(
    studies: Sequence[Study],
    metric: str,
    goal: float,
    *,
    draws: int = 1000,
    seed: int = 0,
    higher_is_better: bool = False,
) -> Spread:
    """Percentile intervals from trials drawn anew with replacement, as many as there are, at each batch size alone.

    Drawn from are the first 100 COMPLETE trials. A draw in which no trial of a batch size reaches the goal counts as
    infinite steps there, and passes over that batch size in its limits, as :func:`limits` does; a draw in which none
    does at any batch size counts for no limit. Both ends of an interval are values that were drawn.

    Args:
        studies: of one workload, each at another batch size.
        metric: a measured column.
        goal: strictly better than it is reached.
        draws: how many.
        seed: the draws at a batch size depend on it alone, not on which others there are.
        higher_is_better: more of the metric is better.

    Returns:
        The intervals; ``steps`` has the batch sizes at which any trial reaches the goal, ``unreached`` has all.

    Raises:
        UsageError: no trial reaches the goal, or one without training; two studies have the same batch size; or
            nothing is measured of the metric.
    """
    ordered = sorted(studies, key=lambda study: study.batch_size)
    sizes = [study.batch_size for study in ordered]
    if len(set(sizes)) < len(sizes):
        raise UsageError(f"several studies of one batch size among {', '.join(map(str, sizes))}: give one workload's")
    found = [_first_steps(study, metric, goal, higher_is_better) for study in ordered]
    least = {size: float(steps.min()) for size, steps in zip(sizes, found, strict=True) if np.isfinite(steps).any()}
    if not least:
        raise UsageError(f"no COMPLETE trial is better than {goal} in {metric}: give a goal that is easier to reach")
    _require_positive(least)
    drawn = np.stack([_draw(s, draws, [seed, size]) for size, s in zip(sizes, found, strict=True)], axis=1)
    perfect, maximal = _limits(drawn[np.isfinite(drawn).any(axis=1)], np.array(sizes, dtype=np.float64))
    columns = dict(zip(sizes, drawn.T, strict=True))
    return Spread(
        _interval(perfect),
        _interval(maximal),
        {size: _interval(columns[size]) for size in least},
        {size: float(np.isinf(column).mean()) for size, column in columns.items()},
    )


def _first_steps(study: Study, metric: str, goal: float, higher_is_better: bool) -> NDArray[np.float64]:
    """The step at which each trial that counts reaches the goal; infinite where it never does."""
    require_metric(study, metric)
    first = [first_step(trial, metric, goal, higher_is_better=higher_is_better) for trial in counted_trials(study)]
    return np.array([math.inf if step is None else step for step in first], dtype=np.float64)


def _draw(steps: NDArray[np.float64], draws: int, seed: Sequence[int]) -> NDArray[np.float64]:
    """The least steps in each draw."""
    if not len(steps):
        return np.full(draws, math.inf)
    chosen = np.random.default_rng(seed).integers(len(steps), size=(draws, len(steps)))
    least: NDArray[np.float64] = steps[chosen].min(axis=1)
    return least


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Values themselves, not means of two: batch sizes and steps are whole numbers, or infinite."""
    low, high = np.quantile(values, INTERVAL, method="inverted_cdf")
    return float(low), float(high)


def _require_positive(steps: Mapping[int, float]) -> None:
    """Refuse steps to result that have no logarithm."""
    for size, value in steps.items():
        if not 0 < value < math.inf:
            raise UsageError(f"{value!r} steps to result at batch size {size}: give a goal that training is needed for")
