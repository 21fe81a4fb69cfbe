"""Time along a run, per epoch and per synchronisation: runs in, tidy tables out. Nothing here draws or writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hpcsgd.record.columns import Columns
from hpcsgd.record.frames import throughput, wait_and_transfer
from hpcsgd.record.reduce import logged_labels, slowest_sums, synchronisations
from hpcsgd.record.schema import ACTIONS, NOT_TRAINING
from runs.logs import Entry
from tables.iterations import MOST_RANKS, extremes, kept_iterations, kept_steps, quantiles, record_iterations

NUM_WINDOWS = 80
SYNCHRONISATIONS = {
    "gradient": "gradient allreduces",
    "block": "block averagings",
    "global": "global averagings",
}


def window_table(entries: Sequence[Entry], num_windows: int = NUM_WINDOWS) -> pd.DataFrame:
    """Time of record and throughput along each run, in at most ``num_windows`` windows; no iteration is left out.

    A window is a whole number of the run's longest synchronisation period, so that each holds as many
    synchronisations as the next. The throughput is the window's samples over its training time: the maximum over
    ranks of the sum.
    """
    rows: list[dict[str, Any]] = []
    for item in entries:
        record = record_iterations(item)
        longest = int(record.loc[record["period"] >= 0, "period"].value_counts().max())
        size = longest * math.ceil(max(1.0, len(record) / num_windows) / longest)
        record["window"] = np.arange(len(record)) // size
        clock = window_seconds(item, record)
        for window, part in record.groupby("window"):
            rows.append(
                {
                    "run": item.name,
                    "first_step": int(part["step"].iloc[0]),
                    "last_step": int(part["step"].iloc[-1]),
                    **quantiles(part["seconds"]),
                    "num_samples": round(float(part["num_samples"].sum())),
                    "train_seconds": float(clock[window]),
                    "samples_per_second": float(part["num_samples"].sum() / clock[window]),
                }
            )
    return pd.DataFrame(rows)


def window_seconds(item: Entry, record: pd.DataFrame) -> pd.Series:
    """Training time of each ``window`` of ``record``: maximum over ranks of the sum over its iterations."""
    if item.summary:
        return record.groupby("window")["seconds"].sum()
    group = np.full(len(item.run.columns.steps), -1)
    group[record.index] = record["window"]
    return pd.Series(slowest_sums(item.run.columns, group))


def throughput_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a run: its size and its samples a second."""
    return pd.DataFrame(
        [
            {
                "run": item.name,
                "num_ranks": item.world_size,
                "global_batch_size": item.global_batch_size,
                "samples_per_second": throughput(item.run),
                "samples_per_second_per_rank": throughput(item.run) / item.world_size,
            }
            for item in entries
        ]
    )


def epoch_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """The clocks of record of each epoch and its throughput; ``complete`` is false where the log has a part of it.

    That is where ``max_steps`` cut it, or where the log begins within it.
    """
    tables = []
    for item in entries:
        epochs = item.run.epochs
        steps = epochs["step"].diff().fillna(epochs["step"] - item.first_step).astype(int)
        table = epochs[["epoch", "num_samples", "train_seconds", *NOT_TRAINING]].copy()
        table.insert(0, "run", item.name)
        table.insert(2, "num_steps", steps)
        table["samples_per_second"] = table["num_samples"] / table["train_seconds"]
        full = steps_per_epoch(item)
        table["complete"] = True if full is None else steps >= full - 1e-6
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def steps_per_epoch(item: Entry) -> float | None:
    """Steps of a whole epoch: as the log says, else from an evaluation or the epochs; None where nothing says."""
    if "steps_per_epoch" in item.run.provenance:
        return float(item.run.provenance["steps_per_epoch"])
    evaluations = item.run.evaluations
    evaluations = evaluations[(evaluations["epoch_fraction"] > 0) & (evaluations["step"] > 0)]
    if len(evaluations):
        return float(evaluations["step"].iloc[-1] / evaluations["epoch_fraction"].iloc[-1])
    epochs = item.run.epochs
    cut_short = item.run.config.get("max_steps") is not None
    if len(epochs) == 0 or (len(epochs) == 1 and cut_short):
        return None
    return float(epochs["step"].iloc[0])


def wait_table(entries: Sequence[Entry], skip: int) -> pd.DataFrame:
    """Wait and transfer of the synchronisations: one row a run, kind of synchronisation and rank.

    Of a log of statistics ``rank`` is ``median`` and ``max``: durations come from the spans, the transfer is the
    minimum over the ranks. What the log cannot tell apart is left out: see :func:`untold_waits`. Of many ranks, the
    extremes of the mean wait are there.
    """
    rows: list[dict[str, Any]] = []
    for item in entries:
        left_out = untold_actions(item)[0]
        told = [action for action in ACTIONS[1:] if action not in left_out]
        waits = _statistic_waits(item, skip) if item.summary else _rank_waits(item, skip, told)
        rows += [_wait_row(item, *key, calls) for key, calls in waits.items() if key[0] in told]
    return pd.DataFrame(rows)


Waits = dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""By kind of synchronisation and rank: own durations and transfers, a value a call."""


def _wait_row(
    item: Entry, kind: str, rank: str, calls: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> dict[str, Any]:
    """One row of :func:`wait_table`."""
    sync, transfer = calls
    row: dict[str, Any] = {"run": item.name, "synchronisation": kind, "rank": rank}
    for name, values in (("sync", sync), ("wait", sync - transfer), ("transfer", transfer)):
        row |= {f"{name}_{statistic}": value for statistic, value in quantiles(values).items()}
    return row | {"num_synchronisations": len(sync)}


def _statistic_waits(item: Entry, skip: int) -> Waits:
    """Of a log of statistics: of the median and the largest duration."""
    calls = _statistic_calls(kept_iterations(item, skip))
    return {
        (action, label): (part["sync_seconds"].to_numpy(), part["transfer_seconds"].to_numpy())
        for action in ACTIONS
        for label, part in calls[calls["action"] == action].groupby("rank", observed=True)
    }


def _rank_waits(item: Entry, skip: int, told: Sequence[str]) -> Waits:
    """Of each rank that is shown: of many, the extremes of the mean wait."""
    columns, ranks = item.run.columns, item.run.ranks
    kept = np.zeros(len(columns.steps), bool)
    kept[kept_steps(item, skip).index] = True
    found: Waits = {}
    for action in told:
        kind = kept & (columns.column("action") == ACTIONS.index(action))
        places = _shown_waits(columns, ranks, kind)
        parts = [
            (calls.sync_seconds[:, places], calls.transfer_seconds[:, places])
            for calls in synchronisations(columns, ranks, kind)
            if len(calls.rows)
        ]
        if not parts:
            continue
        sync, transfer = (np.concatenate(own) for own in zip(*parts, strict=True))
        for column, place in enumerate(places):
            here = ~np.isnan(sync[:, column])
            if here.any():
                found[action, str(columns.labels[place])] = (sync[here, column], transfer[here, column])
    return found


def _shown_waits(columns: Columns, ranks: pd.DataFrame, kind: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Places of the ranks whose waits in some rows are shown, as :func:`tables.iterations.shown_ranks` says."""
    width = len(columns.labels)
    if width <= MOST_RANKS:
        return np.arange(width)
    total, count = np.zeros(width), np.zeros(width)
    for calls in synchronisations(columns, ranks, kind):
        total += np.nansum(calls.wait_seconds, axis=0)
        count += (~np.isnan(calls.sync_seconds)).sum(axis=0)
    return extremes(np.where(count > 0, total / np.maximum(count, 1), np.nan), MOST_RANKS)


def synchronisation_calls(item: Entry, iterations: pd.DataFrame) -> pd.DataFrame:
    """Duration, wait and transfer of each synchronisation in some rows of a run's ``iterations``.

    Rows and columns as of ``wait_and_transfer``; of a log of statistics ``rank`` is ``median`` and ``max``. See
    :func:`untold_actions` for those that the log cannot tell.
    """
    return _statistic_calls(iterations) if item.summary else wait_and_transfer(iterations, item.run.ranks)


def _statistic_calls(kept: pd.DataFrame) -> pd.DataFrame:
    """Like ``wait_and_transfer``, from the minimum, median and maximum over the ranks."""
    calls = kept[kept["action"] != "none"]
    span = calls["averaging_seconds"].where(calls["action"] != "gradient", calls["gradient_allreduce_seconds"])
    shortest = span.where(calls["statistic"] == "min").groupby(calls["step"]).transform("min")
    frame = calls[["step", "action"]].assign(sync_seconds=span, wait_seconds=span - shortest, transfer_seconds=shortest)
    frame = frame[calls["statistic"] != "min"]
    return frame.assign(rank=pd.Categorical(calls["statistic"].loc[frame.index], ["median", "max"]))


def untold_actions(item: Entry) -> tuple[set[str], str]:
    """Synchronisations whose waits the log cannot tell, as no two ranks of one call are in it, and why."""
    actions = set(item.run.per_step["action"]) - {"none"}
    if item.summary:
        return actions & {"block"}, "the log keeps no single ranks (log.ranks: summary)"
    if item.logged_ranks == item.world_size:
        return set(), ""
    if item.logged_ranks == 1:
        return actions, "the log keeps one rank only (log.ranks: node)"
    logged = item.run.ranks[item.run.ranks["rank"].isin(logged_labels(item.run.columns, item.run.per_step))]
    alone = bool((logged["block"].value_counts() < 2).all())
    return (actions & {"block"} if alone else set()), "the log keeps one rank of each block (log.ranks: node)"


def untold_waits(entries: Sequence[Entry]) -> list[str]:
    """One line for each run and kind of synchronisation of which wait and transfer cannot be told."""
    lines = []
    for item in entries:
        actions, why = untold_actions(item)
        lines += [f"{item.name}: wait and transfer of {SYNCHRONISATIONS[a]} not drawn: {why}." for a in sorted(actions)]
    return lines
