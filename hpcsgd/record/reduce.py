"""What follows from a run's columns, block by block: of each step over its ranks, and of each synchronisation.

Columns in, arrays out, in as much memory as a block and what is given. Of a log of statistics, the median over the
ranks stands for their mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hpcsgd.record.columns import Columns
from hpcsgd.record.schema import (
    ACTIONS,
    ITERATION_COLUMNS,
    NOT_TRAINING,
    OWN_SPANS,
    STATISTICS,
    TRAINING_SPANS,
)

Block = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]
MEDIAN, MAX = (STATISTICS.index(name) for name in ("median", "max"))


def training(block: Block) -> Floats:
    """The training time of some rows, ``[t, K]``: the sum of ``TRAINING_SPANS``, in seconds; NaN of ranks lost."""
    first, *others = TRAINING_SPANS
    total: Floats = block[first].astype(np.float64)
    for name in others:
        total += block[name]
    return total


def per_step(columns: Columns) -> pd.DataFrame:
    """One row a step that a rank is logged in, its index the place in the columns.

    Returns:
        ``step``, all of ``ITERATION_COLUMNS`` (``action`` by its name), and over the ranks that are logged:
        ``num_ranks``, ``mean_seconds`` and ``slowest_seconds`` of training time, ``mean_samples``, ``end_seconds``, the
        last on the run's clock, and ``is_finite``: whether all their training spans are. Of a log of statistics the
        slowest is the largest wall time less the largest times of evaluation, checkpoints and logging.
    """
    table = pd.DataFrame({"step": columns.steps, **columns.read([c.name for c in ITERATION_COLUMNS])})
    table["action"] = pd.Series(ACTIONS).take(table["action"].to_numpy()).array
    names = ("mean_seconds", "slowest_seconds", "mean_samples", "end_seconds")
    numbers = {name: np.zeros(len(table)) for name in names}
    num_ranks, is_finite = np.zeros(len(table), np.int64), np.zeros(len(table), bool)
    apart = () if columns.axis == "rank" else NOT_TRAINING
    for rows, block in columns.blocks(["start_seconds", "wall_seconds", "num_samples", *TRAINING_SPANS, *apart]):
        ends = block["start_seconds"] + block["wall_seconds"]
        numbers["end_seconds"][rows] = np.where(np.isnan(ends), -np.inf, ends).max(axis=1)
        here, seconds = ~np.isnan(block["start_seconds"]), training(block)
        num_ranks[rows] = here.sum(axis=1)
        is_finite[rows] = (np.isfinite(seconds) | ~here).all(axis=1)
        if columns.axis == "rank":
            some = np.maximum(num_ranks[rows], 1)
            numbers["mean_seconds"][rows] = np.where(here, seconds, 0.0).sum(axis=1) / some
            numbers["slowest_seconds"][rows] = np.where(here, seconds, -np.inf).max(axis=1)
            numbers["mean_samples"][rows] = np.where(here, block["num_samples"], 0).sum(axis=1) / some
        else:
            beside = np.sum([block[name][:, MAX] for name in NOT_TRAINING], axis=0)
            numbers["mean_seconds"][rows] = seconds[:, MEDIAN]
            numbers["slowest_seconds"][rows] = np.maximum(block["wall_seconds"][:, MAX] - beside, 0.0)
            numbers["mean_samples"][rows] = block["num_samples"][:, MEDIAN]
    table = table.assign(num_ranks=num_ranks, **numbers, is_finite=is_finite)
    return table[num_ranks > 0]


def logged_labels(columns: Columns, steps: pd.DataFrame) -> NDArray[np.int64]:
    """The labels of the second axis that are logged in any of some rows of :func:`per_step`."""
    if (steps["num_ranks"] == len(columns.labels)).any():
        return columns.labels
    found = np.zeros(len(columns.labels), bool)
    asked = _mask(columns, steps)
    for rows, block in columns.blocks(["start_seconds"]):
        found |= ~np.isnan(block["start_seconds"][asked[rows]]).all(axis=0)
    return columns.labels[found]


def _mask(columns: Columns, steps: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows of the columns are those of some rows of :func:`per_step`; ``[T]``."""
    mask = np.zeros(len(columns.steps), bool)
    mask[steps.index] = True
    return mask


def gathered(columns: Columns, name: str, steps: pd.DataFrame, ranks: NDArray[np.intp] | None = None) -> Floats:
    """A column of some rows of :func:`per_step` and places of ranks (None: all), ``[t, K]``, or ``train_seconds``."""
    asked = _mask(columns, steps)
    width = len(columns.labels) if ranks is None else len(ranks)
    result, filled = np.empty((len(steps), width)), 0
    for rows, block in columns.blocks(TRAINING_SPANS if name == "train_seconds" else [name]):
        values = (training(block) if name == "train_seconds" else block[name])[asked[rows]]
        result[filled : filled + len(values)] = values if ranks is None else values[:, ranks]
        filled += len(values)
    return result


def slowest_sums(columns: Columns, group: NDArray[np.integer[Any]]) -> Floats:
    """The training time of each group of steps: the maximum over ranks of their own sum.

    Args:
        columns: of ranks.
        group: number of each row's group, ``[T]``; those of one lie together. -1: in none.

    Returns:
        By the number of the group; NaN where there is none of it.
    """
    result = np.full(int(group.max(initial=-1)) + 1, np.nan)
    current, own = -1, np.zeros(len(columns.labels))
    for rows, block in columns.blocks(TRAINING_SPANS):
        seconds, numbers = np.nan_to_num(training(block)), group[rows]
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
        for number, sums in zip(numbers[starts].tolist(), np.add.reduceat(seconds, starts, axis=0), strict=True):
            own = own + sums if number == current else sums
            current = number
            if number >= 0:
                result[number] = own.max()
    return result


def slowest_clock(columns: Columns) -> Floats:
    """The training clock after each row, ``[T]``: the maximum over the ranks that are still there of their own."""
    result, own = np.empty(len(columns.steps)), np.zeros(len(columns.labels))
    for rows, block in columns.blocks(TRAINING_SPANS):
        seconds = training(block)
        clock = own + np.cumsum(np.nan_to_num(seconds), axis=0)
        own = clock[-1]
        result[rows] = np.where(np.isnan(seconds), -np.inf, clock).max(axis=1)
    return result


def span_totals(columns: Columns, rows: slice) -> Floats:
    """The seconds of each of ``TRAINING_SPANS`` in some rows, of all ranks; of statistics, of the medians."""
    totals = np.zeros(len(TRAINING_SPANS))
    for _, block in columns.blocks(TRAINING_SPANS, rows):
        own = (block[name] if columns.axis == "rank" else block[name][:, MEDIAN] for name in TRAINING_SPANS)
        totals += [np.nansum(values) for values in own]
    return totals


def own_work(columns: Columns) -> pd.Series:
    """Mean seconds of ``OWN_SPANS`` of an iteration of each rank, by rank; the first iteration is left out."""
    total, count = np.zeros(len(columns.labels)), np.zeros(len(columns.labels))
    for _, block in columns.blocks(["start_seconds", *OWN_SPANS], slice(int(len(columns.steps) > 1), None)):
        total += np.nansum([block[name] for name in OWN_SPANS], axis=(0, 1))
        count += (~np.isnan(block["start_seconds"])).sum(axis=0)
    return pd.Series(total / np.where(count > 0, count, np.nan), index=columns.labels).dropna()


def last_to_enter(columns: Columns) -> pd.Series:
    """The rank that came last to each synchronisation of all ranks but in the first iteration."""
    found = []
    joint = [ACTIONS.index(name) for name in ("gradient", "global")]
    for _, block in columns.blocks(["action", "sync_enter_seconds"], slice(int(len(columns.steps) > 1), None)):
        entered = block["sync_enter_seconds"][np.isin(block["action"], joint)]
        entered = entered[~np.isnan(entered).all(axis=1)]
        found.append(columns.labels[np.where(np.isnan(entered), -np.inf, entered).argmax(axis=1)])
    return pd.Series(np.concatenate(found) if found else np.empty(0, np.int64))


def known_mean(columns: Columns, name: str) -> float:
    """The mean of what is known of a column of the ranks."""
    sums = [(np.nansum(b[name]), (~np.isnan(b[name])).sum()) for _, b in columns.blocks([name])]
    total, count = np.sum(sums, axis=0) if sums else (0.0, 0)
    return float(total / count) if count else float("nan")


def known_median(columns: Columns, name: str) -> float:
    """The median of what is known of a column of the ranks."""
    known = np.concatenate([np.empty(0), *(b[name][~np.isnan(b[name])] for _, b in columns.blocks([name]))])
    return float(np.median(known)) if len(known) else float("nan")


def largest(columns: Columns, name: str) -> pd.Series:
    """The largest of a column of each rank, by rank; NaN: nothing is known."""
    most = np.full(len(columns.labels), np.nan)
    for _, block in columns.blocks([name]):
        most = np.fmax(most, np.fmax.reduce(block[name], axis=0))
    return pd.Series(most, index=columns.labels)


def counted(
    columns: Columns, name: str, kept: NDArray[np.bool_], places: NDArray[np.intp]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """First and last known value of a counter at each of some places, in some rows; the steps that have any.

    Args:
        columns: of the log.
        name: the counter's column.
        kept: the rows, ``[T]``.
        places: of the second axis, ``[P]``.

    Returns:
        ``[P]`` each, NaN where nothing is known, and the steps.
    """
    begun, ended = np.full(len(places), np.nan), np.full(len(places), np.nan)
    steps = [np.empty(0, np.int64)]
    for rows, block in columns.blocks([name]):
        values = block[name][kept[rows]][:, places]
        known = ~np.isnan(values)
        steps.append(columns.steps[rows][kept[rows]][known.any(axis=1)])
        if known.any():
            every = np.arange(len(places))
            first, last = (values[known.argmax(axis=0), every], values[::-1][known[::-1].argmax(axis=0), every])
            begun, ended = np.where(np.isnan(begun), first, begun), np.where(np.isnan(last), ended, last)
    return begun, ended, np.concatenate(steps)


@dataclass(frozen=True)
class Calls:
    """The blocking synchronisations of some steps.

    Attributes:
        rows: places of their steps, ``[c]``.
        action: what was synchronised, ``[c]``: places in ``ACTIONS``.
        sync_seconds: how long each rank was in it, ``[c, K]``; NaN where it was in none.
        transfer_seconds: the shortest of these over the ranks of the same call, ``[c, K]``.
    """

    rows: NDArray[np.intp]
    action: NDArray[np.integer[Any]]
    sync_seconds: Floats
    transfer_seconds: Floats

    @property
    def wait_seconds(self) -> Floats:
        """What each rank was in it beyond the transfer, ``[c, K]``: it waited for the last to enter."""
        return self.sync_seconds - self.transfer_seconds


def synchronisations(columns: Columns, ranks: pd.DataFrame, kept: NDArray[np.bool_] | None = None) -> Iterator[Calls]:
    """Tell waiting from the transfer, as :func:`hpcsgd.record.frames.wait_and_transfer` does, in blocks.

    Args:
        columns: of ranks.
        ranks: the run's table of that name.
        kept: of which rows, ``[T]``; None: all.
    """
    assert columns.axis == "rank", "a log of statistics has no single ranks"
    in_block = ACTIONS.index("block")
    blocks = ranks.set_index("rank")["block"].reindex(columns.labels).to_numpy() if len(ranks) else columns.labels
    for rows, block in columns.blocks(["action", "sync_enter_seconds", "sync_exit_seconds"]):
        action = block["action"]
        asked = (action > 0) if kept is None else (action > 0) & kept[rows]
        action, sync = action[asked], (block["sync_exit_seconds"] - block["sync_enter_seconds"])[asked]
        known = np.where(np.isnan(sync), np.inf, sync)
        transfer = np.repeat(known.min(axis=1, initial=np.inf)[:, None], sync.shape[1], axis=1)
        for number in np.unique(blocks) if (action == in_block).any() else ():
            own = blocks == number
            transfer[np.ix_(action == in_block, own)] = known[np.ix_(action == in_block, own)].min(axis=1)[:, None]
        places = rows.start + np.flatnonzero(asked)
        yield Calls(places, action, sync, np.where(np.isnan(sync), np.nan, transfer))
