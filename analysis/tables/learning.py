"""Loss, accuracy and other metrics along a run, at every measure of what it cost: runs in, tidy tables out.

The four measures (``X_AXES``): epochs, optimizer steps, seconds of the training clock (maximum over ranks, evaluation,
checkpoints and logging not in it) and bytes: the payload of all synchronisations so far on each rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hpcsgd.record.frames import by_metric
from hpcsgd.record.reduce import slowest_clock
from runs.logs import Entry
from runs.losses import step_losses
from tables.iterations import record_iterations
from tables.timing import steps_per_epoch

X_AXES = {
    "epoch": "Epochs",
    "step": "Optimizer steps",
    "train_seconds": "Training clock (s)",
    "sync_bytes": "Communicated bytes per rank",
}
NUM_WINDOWS = 60
ACCURACY = "accuracy"
COSTS = ("step", "train_seconds", "sync_bytes")


def metrics_of(entries: Sequence[Entry]) -> list[str]:
    """The metrics that the runs were evaluated by, loss first; of runs without an evaluation yet, loss and accuracy."""
    found = dict.fromkeys(metric for item in entries for metric in item.run.evaluations["metric"].unique())
    return list(dict.fromkeys(["loss", *(found or [ACCURACY])]))


def lacks_accuracy(entries: Sequence[Entry]) -> str:
    """Why nothing can be told of accuracies, where the runs were evaluated by other metrics alone; else empty."""
    metrics = metrics_of(entries)
    return "" if ACCURACY in metrics else f"no run has the metric {ACCURACY}: their logs have {', '.join(metrics)}"


def evaluation_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a run, split and evaluation: the metrics of the consensus model, and its four costs."""
    metrics = metrics_of(entries)
    tables = []
    for item in entries:
        table = by_metric(item.run.evaluations, *metrics).rename(columns={"epoch_fraction": "epoch"})
        tables.append(table.assign(run=item.name))
    names = ["run", "epoch", "step", "train_seconds", "sync_bytes", "split", *metrics, "num_samples"]
    return pd.concat(tables, ignore_index=True)[names]


def training_loss_table(entries: Sequence[Entry], num_windows: int = NUM_WINDOWS) -> pd.DataFrame:
    """The training loss in at most ``num_windows`` windows of each run: one row a run and window, with its costs.

    The loss of a window is the mean over its samples, each before its update, of the ranks that the log has (of a
    log of statistics: of the median over the ranks); NaN where one of them is not finite. Its costs are the mean over
    the window; ``epoch`` is NaN while no epoch is complete and none was evaluated.
    """
    tables = []
    for item in entries:
        costs = costs_before(item)
        losses = step_losses(item)
        size = max(1, math.ceil(len(costs) / num_windows))
        window = pd.Series(np.arange(len(costs)) // size, index=costs.index)
        table = costs.groupby(window).mean()
        sums = [series.groupby(window.reindex(series.index)) for series in (losses["weighted"], losses["num_samples"])]
        table["loss"] = (sums[0].sum() / sums[1].sum()).where(sums[0].count() == sums[0].size())
        table.insert(0, "run", item.name)
        tables.append(table[["run", *X_AXES, "loss"]])
    return pd.concat(tables, ignore_index=True)


def costs_before(item: Entry) -> pd.DataFrame:
    """Costs before each iteration, indexed by step: ``epoch``, ``step``, ``train_seconds``, ``sync_bytes``.

    The training clock of a log of statistics is the running sum of the time of record, scaled to the log's own clock
    where it tells one: the maxima of single iterations add up to more than the slowest rank's clock.
    """
    steps = item.run.per_step
    shared = steps.set_index("step")
    full = steps_per_epoch(item)
    costs = pd.DataFrame({"step": shared.index.astype(float)}, index=shared.index)
    costs["epoch"] = costs["step"] / full if full else math.nan
    if item.summary:
        seconds = record_iterations(item).set_index("step")["seconds"].cumsum()
        clock = seconds * _clock_ratio(item, seconds)
    else:
        clock = pd.Series(slowest_clock(item.run.columns)[steps.index], index=shared.index)
    costs["train_seconds"] = clock.shift(fill_value=0.0)
    costs["sync_bytes"] = shared["sync_bytes"].cumsum().shift(fill_value=0).astype(float)
    return costs


def _clock_ratio(item: Entry, clock: pd.Series) -> float:
    """The log's training clock at its last evaluation, else epoch, over ``clock`` there; 1 without either."""
    for table, seconds in (
        (item.run.evaluations, item.run.evaluations["train_seconds"]),
        (item.run.epochs, item.run.epochs["train_seconds"].cumsum()),
    ):
        known = table["step"].sub(1).isin(clock.index)
        if known.any():
            return float(seconds[known].iloc[-1] / clock[table["step"][known].iloc[-1] - 1])
    return 1.0


def result_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a run and split: best accuracy with its costs, and the last value of every metric.

    Of metrics other than accuracy nobody knows whether more of it is better: costs are then those up to the last.
    """
    metrics = metrics_of(entries)
    rows = []
    for item in entries:
        for split, part in by_metric(item.run.evaluations, *metrics).groupby("split", sort=False):
            last = part.iloc[-1]
            row = {"run": item.name, "status": item.status, "split": split}
            if ACCURACY in metrics:
                row |= _best(part)
            names = sorted(metrics, key=lambda metric: (metric != ACCURACY, metric != "loss"))
            row |= {f"last_{name}": last[name] for name in names}
            if ACCURACY not in metrics:
                row |= {f"last_{cost}": last[cost] for cost in COSTS}
            rows.append(row | {"num_evaluations": len(part)})
    return pd.DataFrame(rows)


def _best(part: pd.DataFrame) -> dict[str, Any]:
    """The best accuracy of a split, and what it cost; of a run that has none, the last evaluation."""
    best = part.loc[part[ACCURACY].idxmax()] if part[ACCURACY].notna().any() else part.iloc[-1]
    return {
        "best_accuracy": best[ACCURACY],
        "best_epoch": best["epoch_fraction"],
        **{f"best_{cost}": best[cost] for cost in COSTS},
    }


def missing_curves(entries: Sequence[Entry]) -> list[str]:
    """One line for each curve that a log cannot give, and why."""
    notes = []
    for item in entries:
        run = item.run
        if run.evaluations.empty:
            notes.append(f"{item.name}: no evaluation yet: no accuracy, and only the training loss.")
        if steps_per_epoch(item) is None:
            notes.append(f"{item.name}: no whole epoch and no evaluation yet: training loss not drawn against epochs.")
        if not run.columns.column("sync_bytes").any():
            why = "one rank" if item.world_size == 1 else "no synchronisation yet"
            notes.append(f"{item.name}: communicated nothing ({why}): not drawn against bytes.")
        if item.summary:
            notes.append(f"{item.name}: its training loss is the median over the ranks (log.ranks: summary).")
        elif item.logged_ranks < item.world_size:
            notes.append(
                f"{item.name}: its training loss is that of {item.logged_ranks} of {item.world_size} ranks "
                "(log.ranks: node)."
            )
    return notes
