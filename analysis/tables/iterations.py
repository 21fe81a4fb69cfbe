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

from hpcsgd.record.frames import training_seconds
from hpcsgd.record.schema import ACTIONS, NOT_TRAINING, SPANS
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


def quantiles(values: Any) -> dict[str, float]:
    """Mean, median and 5th and 95th percentile (linear between the two nearest values) of some seconds."""
    data = np.asarray(values, dtype=float)
    p5, median, p95 = np.percentile(data, [5, 50, 95]) if data.size else (math.nan,) * 3
    mean = float(data.mean()) if data.size else math.nan
    return {"mean_seconds": mean, "median_seconds": float(median), "p5_seconds": float(p5), "p95_seconds": float(p95)}


def record_iterations(item: Entry) -> pd.DataFrame:
    """One row an iteration: ``step``, ``segment``, ``action``, ``seconds`` of record, ``num_samples`` of all ranks,
    ``skip_rank`` (its number within its segment, from 0) and ``period`` (number of its synchronisation period).

    A log of statistics has no single ranks: there the seconds are the largest wall time less the largest times
    of evaluation, checkpoints and logging. Where not all ranks are logged, the samples are those of the logged ranks
    times the rest.
    """
    frame = item.run.iterations
    if item.summary:
        top = frame[frame["statistic"] == "max"].set_index("step")
        seconds = (top["wall_seconds"] - top[list(NOT_TRAINING)].sum(axis=1)).clip(lower=0)
        median = frame[frame["statistic"] == "median"].set_index("step")
        samples = median["num_samples"] * median["segment"].map(item.world_sizes)
    else:
        seconds = training_seconds(frame).groupby(frame["step"]).max()
        # The mean over the logged ranks, for all ranks that were there.
        of_step = frame.groupby("step")
        samples = of_step["num_samples"].mean() * of_step["segment"].first().map(item.world_sizes)
    shared = frame.drop_duplicates("step").set_index("step")[["segment", "action"]]
    record = shared.assign(seconds=seconds, num_samples=samples).reset_index()
    record["skip_rank"] = record.groupby("segment").cumcount()
    record["period"] = _periods(record)
    return record


def _periods(record: pd.DataFrame) -> pd.Series:
    """Number of each iteration's synchronisation period; -1 where it is not whole in one segment.

    That is after the last synchronisation, and where a resume fell into a period, on both sides of it.
    """
    ends = record["action"].isin(("gradient", "global"))
    if not ends.any():
        ends = record["action"] == "block"
    if not ends.any():
        return pd.Series(np.arange(len(record)), index=record.index)
    new_segment = record["segment"].diff().fillna(0) != 0
    number = (ends.shift(fill_value=False) | new_segment).cumsum()
    complete = ends.groupby(number).transform("any")
    torn = (new_segment & ~ends.shift(fill_value=True)).groupby(number).transform("any")
    return number.where(complete & ~torn, -1)


def period_means(item: Entry, record: pd.DataFrame, skip: int) -> pd.Series:
    """Mean seconds of record of the iterations of each period, one value an iteration; indexed by step.

    Left out are whole periods: those with one of the first ``skip`` iterations of a segment, and the unfinished last.
    """
    touched = record.loc[record["skip_rank"] < skip, "period"].unique()
    kept = record[(record["period"] >= 0) & ~record["period"].isin(touched)].set_index("step")
    if item.summary:
        return kept.groupby("period")["seconds"].transform("mean")
    frame = item.run.iterations
    frame = frame[frame["step"].isin(kept.index)]
    period = frame["step"].map(kept["period"])
    sums = training_seconds(frame).groupby([period, frame["rank"]]).sum().groupby(level=0).max()
    return kept["period"].map(sums / kept["period"].value_counts())


def kept_iterations(item: Entry, skip: int) -> pd.DataFrame:
    """Rows of ``iterations`` but the first ``skip`` iterations of every segment."""
    record = record_iterations(item)
    return item.run.iterations[item.run.iterations["step"].isin(record.loc[record["skip_rank"] >= skip, "step"])]


def too_short(entries: Sequence[Entry], skip: int) -> list[str]:
    """One line for each run of which ``skip`` leaves nothing."""
    return [
        f"{item.name}: {item.run.iterations['step'].nunique()} iterations, none left after --skip {skip}: not in the "
        "medians (give a smaller --skip)"
        for item in entries
        if kept_iterations(item, skip).empty
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
    the ranks of each iteration. ``max`` has the time of record.
    """
    rows: list[dict[str, Any]] = []
    for item in entries:
        kept = kept_iterations(item, skip)
        if kept.empty:
            continue
        left_out = item.run.iterations["step"].nunique() - kept["step"].nunique()
        axis = item.run.rank_axis
        parts = [(str(label), part) for label, part in kept.groupby(axis)]
        if item.summary:
            parts = [(label, part) for label, part in parts if label == "median"]
        else:
            parts.append((ALL_RANKS, kept))
        for label, part in parts:
            spans = {"train_seconds": training_seconds(part), **{name: part[name] for name in SPAN_NAMES}}
            for name, seconds in spans.items():
                rows.append(_span_row(item, label, name, left_out, seconds))
        record = record_iterations(item)
        seconds = record.loc[record["skip_rank"] >= skip, "seconds"]
        rows.append(_span_row(item, OF_RECORD, "train_seconds", left_out, seconds))
    return pd.DataFrame(rows)


def _span_row(item: Entry, rank: str, span: str, left_out: int, seconds: pd.Series) -> dict[str, Any]:
    """One row of :func:`span_table`."""
    counts = {"num_values": len(seconds), "left_out_iterations": left_out}
    return {"run": item.name, "rank": rank, "span": span.removesuffix("_seconds"), **counts, **quantiles(seconds)}
