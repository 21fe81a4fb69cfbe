"""What a run went through, step by step, and when: what several formats show.

A run that was resumed began its clock anew, so that its segments are brought to one clock here: the first one's.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from hpcsgd.export.excerpt import Excerpt
from hpcsgd.record.reader import Run
from hpcsgd.record.schema import TRAINING_SPANS

if TYPE_CHECKING:
    import pandas as pd


def began(run: Run) -> float:
    """When the run's first segment began, in seconds of UNIX time; 0 where the log does not say."""
    times = _started(run)
    return times[0] if times and not math.isnan(times[0]) else 0.0


def segment_offsets(run: Run) -> dict[int, float]:
    """What is to be added to the times of each segment, in seconds, to have them on the clock of the first.

    From the times at which the segments began, which are whole seconds. Where these are not known, or would let a
    segment begin before the end of the one before it, it begins at that end.
    """
    times, begins, ends = _started(run), dict[int, float](), dict[int, float]()
    for _, block in run.columns.blocks(["segment", "start_seconds", "wall_seconds"]):
        for segment in np.unique(block["segment"]).tolist():
            own = block["segment"] == segment
            start, wall = block["start_seconds"][own], block["wall_seconds"][own]
            begins[segment] = min(begins.get(segment, math.inf), float(np.nanmin(start)))
            ends[segment] = max(ends.get(segment, -math.inf), float(np.nanmax(start + wall)))
    offsets: dict[int, float] = {}
    end = -math.inf
    for segment in sorted(ends):
        known = times[segment] - times[0] if 0 <= segment < len(times) else math.nan
        earliest = 0.0 if end == -math.inf else max(end - float(begins[segment]), 0.0)
        offsets[segment] = max(earliest, known) if known == known else earliest
        end = float(ends[segment]) + offsets[segment]
    return offsets


def _started(run: Run) -> list[float]:
    """When each segment began, in seconds of UNIX time; NaN: not known."""
    return [_unix_time(text) for text in map(str, run.segments["started"])]


def _unix_time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return math.nan


def per_step(excerpt: Excerpt) -> pd.DataFrame:
    """Figures of each step, indexed by it.

    Returns:
        ``loss``, weighed, and ``samples_per_second`` of training time at the pace of the slowest rank, of all ranks:
        those that the log keeps stand for all (of statistics: the median of the loss, the slowest time). Then
        ``learning_rate`` and ``segment``.
    """
    import pandas as pd

    from hpcsgd.record.reduce import MEDIAN, training

    columns, found = excerpt.run.columns, dict[str, list[np.ndarray]]()
    names = ["loss", "loss_weight", "num_samples", *TRAINING_SPANS]
    for _, block in columns.blocks(names, excerpt.rows):
        seconds = training(block)
        here = ~np.isnan(seconds)
        if excerpt.has_ranks:
            known = np.where(np.isnan(block["loss_weight"]), block["num_samples"], block["loss_weight"])
            weight = np.where(np.isnan(block["loss"]), 0.0, known)
            total = weight.sum(axis=1)
            loss = np.nansum(block["loss"] * weight, axis=1) / np.where(total > 0, total, np.nan)
            samples = np.where(here, block["num_samples"], 0).sum(axis=1) / np.maximum(here.sum(axis=1), 1)
        else:
            loss, samples = block["loss"][:, MEDIAN], block["num_samples"][:, MEDIAN]
        slowest = np.where(here, seconds, 0.0).max(axis=1)
        for name, values in (("loss", loss), ("num_samples", samples), ("seconds", slowest)):
            found.setdefault(name, []).append(values)
    table = pd.DataFrame(columns.read(["learning_rate", "segment"], excerpt.rows), index=excerpt.steps)
    table = table.assign(**{name: np.concatenate(parts) for name, parts in found.items()})
    table["num_samples"] *= world_sizes(excerpt.run, table["segment"])
    slowest = table.pop("seconds")
    table["samples_per_second"] = (table["num_samples"] / slowest.where(slowest > 0)).astype(float)
    return table


def world_sizes(run: Run, segments: pd.Series) -> pd.Series:
    """Ranks of each of some segments: after some were lost, a run has fewer."""
    sizes = dict(enumerate(run.segments["world_size"]))
    return segments.map(lambda segment: sizes.get(int(segment), len(run.ranks))).astype(float)


def nanoseconds(seconds: pd.Series) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Whole nanoseconds, in which sums are exact; what is not known is 0."""
    found: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = np.rint(
        np.nan_to_num(seconds.to_numpy(float), posinf=0.0, neginf=0.0) * 1e9
    ).astype(np.int64)
    return found
