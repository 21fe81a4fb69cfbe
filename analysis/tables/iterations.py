"""Time per iteration, by span and rank: runs in, tidy tables out. Nothing here draws or writes.

The time of record of an iteration is the maximum over ranks of its training time (all spans but evaluation, checkpoint
and logging). Local SGD synchronises in some iterations only, so next to the plain iterations stands the mean over each
*synchronisation period*: the iterations up to and with the next synchronisation of all ranks, the maximum over ranks of
their sum divided by their number. With a synchronisation in every iteration both are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hpcsgd.record.frames import synchronisation_periods
from hpcsgd.record.reduce import gathered, slowest_sums
from hpcsgd.record.schema import ACTIONS, SPANS, STATISTICS
from runs.logs import Entry

SPAN_NAMES = tuple(column.name for column in SPANS)
EVERY_ITERATION = "every iteration"
PERIOD_MEAN = "mean over each synchronisation period"
KINDS = {
    "none": "without synchronisation",
    "gradient": "with gradient allreduce",
    "block": "with block averaging",
    "global": "with global averaging",
}
ALL_RANKS = "all"
OF_RECORD = "max"
MOST_RANKS = 256
"""That a figure and its table show each of."""


def quantiles(values: Any) -> dict[str, float]:
    """Mean, median and 5th and 95th percentile (linear between the two nearest values) of some seconds."""
    data = np.asarray(values, dtype=float)
    p5, median, p95 = np.percentile(data, [5, 50, 95]) if data.size else (math.nan,) * 3
    mean = float(data.mean()) if data.size else math.nan
    return {"mean_seconds": mean, "median_seconds": float(median), "p5_seconds": float(p5), "p95_seconds": float(p95)}


def record_iterations(item: Entry) -> pd.DataFrame:
    """One row an iteration: ``step``, ``segment``, ``action``, ``seconds`` of record, ``num_samples`` of all ranks,
    ``skip_rank`` (its number within its segment, from 0) and ``period`` (number of its synchronisation period); index
    as of ``per_step``.

    Where not all ranks are logged, the samples are those of the logged ranks
    times the rest.
    """
    steps = item.run.per_step
    record = steps[["step", "segment", "action"]].assign(
        seconds=steps["slowest_seconds"], num_samples=steps["mean_samples"] * steps["segment"].map(item.world_sizes)
    )
    record["skip_rank"] = record.groupby("segment").cumcount()
    record["period"] = synchronisation_periods(record)
    return record


def period_means(item: Entry, record: pd.DataFrame, skip: int) -> pd.Series:
    """Mean seconds of record of the iterations of each period, one value an iteration; indexed by step.

    Left out are whole periods: those with one of the first ``skip`` iterations of a segment, and the unfinished last.
    """
    touched = record.loc[record["skip_rank"] < skip, "period"].unique()
    kept = record[(record["period"] >= 0) & ~record["period"].isin(touched)]
    period = kept["period"].set_axis(kept["step"])
    seconds = kept["seconds"].set_axis(kept["step"])
    if item.summary or period.is_unique:
        return seconds.groupby(period).transform("mean")
    group = np.full(len(item.run.columns.steps), -1)
    group[kept.index] = period
    sums = pd.Series(slowest_sums(item.run.columns, group))
    return period.map(sums / period.value_counts())


def kept_iterations(item: Entry, skip: int) -> pd.DataFrame:
    """Rows of ``iterations`` but the first ``skip`` iterations of every segment."""
    record = record_iterations(item)
    return item.run.iterations[item.run.iterations["step"].isin(record.loc[record["skip_rank"] >= skip, "step"])]


def kept_steps(item: Entry, skip: int) -> pd.DataFrame:
    """Rows of ``per_step`` but the first ``skip`` iterations of every segment."""
    return item.run.per_step[record_iterations(item)["skip_rank"] >= skip]


def too_short(entries: Sequence[Entry], skip: int) -> list[str]:
    """One line for each run of which ``skip`` leaves nothing."""
    return [
        f"{item.name}: {len(item.run.per_step)} iterations, none left after --skip {skip}: not in the medians (give a "
        "smaller --skip)"
        for item in entries
        if kept_steps(item, skip).empty
    ]


def iteration_table(entries: Sequence[Entry], skip: int) -> pd.DataFrame:
    """Time of record per iteration: one row a run and kind of iteration, and one of the period means."""
    rows: list[dict[str, Any]] = []
    for item in entries:
        record = record_iterations(item)
        kept = record[record["skip_rank"] >= skip]
        groups = [(EVERY_ITERATION, record, kept)]
        if record["action"].nunique() > 1:
            groups += [(KINDS[a], *(f[f["action"] == a] for f in (record, kept))) for a in ACTIONS]
        for kind, before, after in groups:
            if len(before):
                rows.append(_iteration_row(item, kind, len(before), after["seconds"]))
        rows.append(_iteration_row(item, PERIOD_MEAN, len(record), period_means(item, record, skip)))
    return pd.DataFrame(rows)


def _iteration_row(item: Entry, kind: str, num_logged: int, seconds: pd.Series) -> dict[str, Any]:
    """One row of :func:`iteration_table`."""
    counts = {"num_iterations": len(seconds), "left_out_iterations": num_logged - len(seconds)}
    return {"run": item.name, "iterations": kind, **counts, **quantiles(seconds)}


def span_table(entries: Sequence[Entry], skip: int) -> pd.DataFrame:
    """Seconds of every span and of the training time: one row a run, rank and span.

    ``rank`` is a number, ``all`` for all logged ranks together, or for a log of statistics ``median``: the median over
    the ranks of each iteration. ``max`` has the time of record. Of many ranks, :func:`shown_ranks` are there.
    """
    rows: list[dict[str, Any]] = []
    for item in entries:
        kept = kept_steps(item, skip)
        if kept.empty:
            continue
        left_out = len(item.run.per_step) - len(kept)
        spans = _spans_of_statistics(item, kept) if item.summary else _spans_of_ranks(item, kept)
        for label in next(iter(spans.values())):
            rows += [_span_row(item, label, name, left_out, found[label]) for name, found in spans.items()]
        record = quantiles(kept["slowest_seconds"]) | {"num_values": len(kept)}
        rows.append(_span_row(item, OF_RECORD, "train_seconds", left_out, record))
    return pd.DataFrame(rows)


Found = dict[str, dict[str, dict[str, float]]]
"""Number, mean and quantiles of some values, by span and by what they are of."""


def _spans_of_statistics(item: Entry, kept: pd.DataFrame) -> Found:
    """Of the medians over the ranks."""
    place = np.array([STATISTICS.index("median")])
    return {
        name: {"median": of_values(gathered(item.run.columns, name, kept, place))}
        for name in ("train_seconds", *SPAN_NAMES)
    }


def _spans_of_ranks(item: Entry, kept: pd.DataFrame) -> Found:
    """Of each rank that is shown, and of all; one span after another, as one of all ranks may be large."""
    columns, found = item.run.columns, Found()
    training = gathered(columns, "train_seconds", kept)
    # Of a rank that was lost all is NaN.
    here = None if (kept["num_ranks"] == training.shape[1]).all() else ~np.isnan(training)
    places = shown_ranks(training)
    for name in ("train_seconds", *SPAN_NAMES):
        values = training if name == "train_seconds" else gathered(columns, name, kept)
        of_rank = {place: values[:, place] if here is None else values[here[:, place], place] for place in places}
        found[name] = {str(columns.labels[place]): of_values(own) for place, own in of_rank.items() if len(own)}
        found[name][ALL_RANKS] = of_values(values if here is None else values[here])
    return found


def of_values(values: Any) -> dict[str, float]:
    """``num_values``, and the :func:`quantiles`, which may put the values in another order."""
    data = np.ascontiguousarray(values).reshape(-1)
    # A span that never was.
    if data.size and not data.any():
        return {"num_values": data.size, **dict.fromkeys(quantiles([]), 0.0)}
    return {"num_values": data.size, **quantiles(data)}


def shown_ranks(training: NDArray[np.float64]) -> NDArray[np.intp]:
    """Places of the ranks that figures and tables show each of: all, or of many the extremes of their mean time.

    Of more than ``MOST_RANKS`` in the log, each stretch of neighbours is shown by the one with the least and the one
    with the largest mean training time: no rank that is slower or faster than all its neighbours is lost.

    Args:
        training: seconds, ``[t, K]``.
    """
    if training.shape[1] <= MOST_RANKS:
        return np.arange(training.shape[1])
    return extremes(np.nanmean(training, axis=0), MOST_RANKS)


def extremes(values: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Places of the least and the largest of each stretch of values, in order: at most ``most``; NaN is left out."""
    found: set[int] = set()
    for part in np.array_split(np.arange(len(values)), most // 2):
        known = part[~np.isnan(values[part])]
        if len(known):
            found |= {int(known[values[known].argmin()]), int(known[values[known].argmax()])}
    return np.array(sorted(found), dtype=np.intp)


def many_ranks(entries: Sequence[Entry], what: str = "time") -> list[str]:
    """One line for each run of which not every rank is shown, but the extremes of its mean ``what``."""
    return [
        f"{item.name}: of {item.logged_ranks} ranks, each {-(-len(item.run.columns.labels) // (MOST_RANKS // 2))} "
        f"neighbours are shown by the two with the least and the largest mean {what}."
        for item in entries
        if len(item.run.columns.labels) > MOST_RANKS
    ]


def _span_row(item: Entry, rank: str, span: str, left_out: int, found: dict[str, float]) -> dict[str, Any]:
    """One row of :func:`span_table`."""
    counts = {"num_values": found["num_values"], "left_out_iterations": left_out}
    statistics = {name: value for name, value in found.items() if name not in counts}
    return {"run": item.name, "rank": rank, "span": span.removesuffix("_seconds"), **counts, **statistics}
