"""The three regimes of data parallelism (Shallue 2019, section 4.1), with intervals over trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcsgd.study.archive import Study
from hpcsgd.study.result import COUNTED_TRIALS, first_step

TOLERANCE = 0.5
"""In log2 of steps: by so much the perfect-scaling line, and the least steps, may be missed."""

INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Regimes:
    """Perfect scaling up to one batch size, maximal data parallelism from another, diminishing returns between."""

    perfect_until: int
    maximal_from: int


def limits(steps: Mapping[int, float]) -> Regimes:
    """Where the regimes end and begin.

    Perfect scaling: log2(steps B) - log2(steps_0 B_0) <= 0.5, from the smallest batch size on without a gap. Maximal
    data parallelism: from the smallest batch size after which steps stay within 2^0.5 of the least. A batch size that
    is not in ``steps`` (none reached the goal there) is passed over.

    Args:
        steps: steps to result by batch size; at least one.
    """
    sizes = np.array(sorted(steps))
    perfect, flat = _limits(np.log2([[steps[int(size)] for size in sizes]]), np.log2(sizes))
    return Regimes(int(sizes[perfect[0]]), int(sizes[flat[0]]))


def _limits(logs: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of both limits among the sizes, from log2 of steps ``[draws, sizes]`` (NaN: passed over) and of sizes."""
    known = np.isfinite(logs)
    samples = logs + sizes
    first = samples[np.arange(len(logs)), known.argmax(axis=1)]
    outside = known & (samples - first[:, None] > TOLERANCE)
    inside = known & (np.cumsum(outside, axis=1) == 0)
    last = logs.shape[1] - 1
    perfect = last - inside[:, ::-1].argmax(axis=1)
    above = known & (logs - np.nanmin(logs, axis=1)[:, None] > TOLERANCE)
    after = np.cumsum(above[:, ::-1], axis=1)[:, ::-1] == 0
    return perfect, (known & after).argmax(axis=1)


def local_slopes(steps: Mapping[int, float]) -> dict[tuple[int, int], float]:
    """d log2 steps / d log2 B between neighbouring batch sizes: -1 is perfect scaling, 0 is none."""
    sizes = sorted(steps)
    return {
        (low, high): float(np.log2(steps[high] / steps[low]) / np.log2(high / low))
        for low, high in zip(sizes, sizes[1:], strict=False)
    }


@dataclass(frozen=True)
class Spread:
    """95 % intervals over trials.

    Attributes:
        perfect_until, maximal_from: of both limits; batch sizes.
        steps: of the steps to result at each batch size.
        unreached: share of the draws in which no trial reached the goal, by batch size.
    """

    perfect_until: tuple[float, float]
    maximal_from: tuple[float, float]
    steps: dict[int, tuple[float, float]]
    unreached: dict[int, float]


def bootstrap(studies: Sequence[Study], metric: str, goal: float, *, draws: int = 1000, seed: int = 0) -> Spread:
    """Percentile intervals from trials drawn anew with replacement, as many as there are, at each batch size alone.

    Drawn from are the first 100 COMPLETE trials. A draw in which no trial of a batch size reaches the goal passes over
    that batch size, as :func:`limits` does; a draw in which none does at any counts for nothing.

    Raises:
        ValueError: no trial reaches the goal.
    """
    generator = np.random.default_rng(seed)
    ordered = sorted(studies, key=lambda study: study.batch_size)
    drawn = np.stack([_draw(study, metric, goal, draws, generator) for study in ordered], axis=1)
    some = np.isfinite(drawn).any(axis=1)
    if not some.any():
        raise ValueError(f"no COMPLETE trial of any batch size is better than {goal} in {metric}")
    sizes = np.array([study.batch_size for study in ordered])
    perfect, flat = _limits(np.log2(drawn[some]), np.log2(sizes))
    known = {int(size): column[np.isfinite(column)] for size, column in zip(sizes, drawn.T, strict=True)}
    return Spread(
        _interval(sizes[perfect]),
        _interval(sizes[flat]),
        {size: _interval(column) for size, column in known.items() if len(column)},
        {size: 1 - len(column) / draws for size, column in known.items()},
    )


def _draw(study: Study, metric: str, goal: float, draws: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Steps to result in each draw; NaN where the goal is not reached."""
    complete = sorted((t for t in study.trials if t.status == "COMPLETE"), key=lambda trial: trial.trial_id)
    first = [first_step(trial, metric, goal) for trial in complete[:COUNTED_TRIALS]]
    steps = np.array([np.inf if step is None else step for step in first])
    if not len(steps):
        return np.full(draws, np.nan)
    least = steps[generator.integers(len(steps), size=(draws, len(steps)))].min(axis=1)
    return np.where(np.isfinite(least), least, np.nan)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Drawn values themselves, not means of two: batch sizes and steps are whole numbers."""
    low = np.percentile(values, INTERVAL[0], method="lower")
    return float(low), float(np.percentile(values, INTERVAL[1], method="higher"))
