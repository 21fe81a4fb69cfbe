"""What follows from a run's tables: spans, training time, wait and transfer, throughput. pandas in, pandas out.

``iterations`` is the table of that name of a :class:`hpcsgd.record.reader.Run`: one row a step and rank.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from hpcsgd.record.columns import Columns
from hpcsgd.record.reader import Run
from hpcsgd.record.reduce import MEDIAN, counted, logged_labels, slowest_sums, span_totals
from hpcsgd.record.schema import EVALUATION_COLUMNS, SPANS, TRAINING_SPANS

SPAN_NAMES = tuple(column.name for column in SPANS)
BESIDE_METRICS = tuple(c.name for c in EVALUATION_COLUMNS if c.name not in ("metric", "value"))
"""What an evaluation of a split has once, whatever its metrics."""


def iteration_spans(iterations: pd.DataFrame) -> pd.DataFrame:
    """The spans of each iteration of each rank.

    Returns:
        ``step``, ``rank`` (or ``statistic``), every span of ``SPANS`` and ``other_seconds``, the part of
        ``wall_seconds`` that is in no span; index and rows as in ``iterations``. Seconds.
    """
    axis = rank_axis(iterations)
    frame = iterations[["step", axis, *SPAN_NAMES]].copy()
    frame["other_seconds"] = iterations["wall_seconds"] - frame[list(SPAN_NAMES)].sum(axis=1)
    return frame


def by_metric(evaluations: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The evaluations with a column a metric.

    Args:
        evaluations: the table of that name of a :class:`hpcsgd.record.reader.Run`.
        names: metrics that have a column in any case, of NaN where the log has none of it.

    Returns:
        One row an evaluation of a split, in the order of ``evaluations``: ``step``, ``epoch_fraction``, ``split``,
        ``num_samples``, ``train_seconds``, ``sync_bytes``; then the metrics: ``names``, then the others in the order in
        which they first come.
    """
    key = ["step", "split"]
    # A damaged log may have an evaluation twice: two rows here, too.
    turn = evaluations.groupby([*key, "metric"], sort=False).cumcount()
    row = evaluations.groupby([*key, turn.rename("turn")], sort=False).ngroup()
    first = ~row.duplicated()
    table = evaluations.loc[first, list(BESIDE_METRICS)].set_index(row[first])
    for name in dict.fromkeys([*names, *evaluations["metric"]]):
        own = evaluations["metric"] == name
        table[name] = pd.Series(evaluations["value"][own].to_numpy(float), index=row[own])
    return table.reset_index(drop=True)


def rank_axis(iterations: pd.DataFrame) -> str:
    """``rank``, or ``statistic`` where the log keeps minimum, median and maximum over the ranks."""
    return "rank" if "rank" in iterations.columns else "statistic"


def training_seconds(iterations: pd.DataFrame) -> pd.Series:
    """The training time of each row of ``iterations``: the sum of ``TRAINING_SPANS``, in seconds, on its index."""
    return iterations[list(TRAINING_SPANS)].sum(axis=1, skipna=False).rename("train_seconds")


def wait_and_transfer(iterations: pd.DataFrame, ranks: pd.DataFrame | None = None) -> pd.DataFrame:
    """Tell waiting for slower ranks from the transfer itself, in every blocking synchronisation.

    All ranks of a call leave it together, and the last to enter waits for no one: the transfer is the shortest
    duration over the ranks of the same call, and what a rank took longer, it waited. The ranks of a call are all
    ranks, or for the action ``block`` those of one block. Where the log keeps one rank of a node, the
    shortest is over these.

    Args:
        iterations: of a log whose second axis is ``rank``.
        ranks: the run's table of that name; needed where an action is ``block``.

    Returns:
        One row a rank and synchronisation: ``step``, ``rank``, ``action``, ``sync_seconds`` (own duration),
        ``wait_seconds`` and ``transfer_seconds``, which sum to it; index as in ``iterations``.
    """
    assert rank_axis(iterations) == "rank", "a log of statistics has no single ranks"
    done = iterations["sync_enter_seconds"].notna() & iterations["sync_exit_seconds"].notna()
    calls = iterations.loc[done & (iterations["action"] != "none")]
    frame = calls[["step", "rank", "action"]].copy()
    frame["sync_seconds"] = calls["sync_exit_seconds"] - calls["sync_enter_seconds"]
    group = pd.Series(0, index=frame.index)
    in_block = frame["action"] == "block"
    if in_block.any():
        assert ranks is not None, "synchronisations in blocks: which rank is in which block?"
        group = frame["rank"].map(ranks.set_index("rank")["block"]).where(in_block, 0)
    shortest = frame.groupby([frame["step"], group.rename("group")])["sync_seconds"].transform("min")
    frame["wait_seconds"] = frame["sync_seconds"] - shortest
    frame["transfer_seconds"] = shortest
    return frame


def synchronisation_periods(steps: pd.DataFrame) -> pd.Series:
    """Number of each iteration's synchronisation period: the iterations up to and with one that joins all ranks.

    Args:
        steps: one row an iteration, in order: ``segment`` and ``action``.

    Returns:
        A number a row; -1 where the period is not whole in one segment. That is after the last synchronisation, and
        where a resume fell into a period, on both sides of it. Where ranks meet in blocks only, these make the periods;
        where they never meet, each iteration is one.
    """
    ends = steps["action"].isin(("gradient", "global"))
    if not ends.any():
        ends = steps["action"] == "block"
    if not ends.any():
        return pd.Series(np.arange(len(steps)), index=steps.index)
    new_segment = steps["segment"].diff().fillna(0) != 0
    number = (ends.shift(fill_value=False) | new_segment).cumsum()
    complete = ends.groupby(number).transform("any")
    torn = (new_segment & ~ends.shift(fill_value=True)).groupby(number).transform("any")
    return number.where(complete & ~torn, -1)


def throughput(run: Run) -> float:
    """Samples a second of training time, all ranks together; NaN where nothing was logged.

    From the epochs that are complete: their samples over their training clocks. Before the first is, from the
    iterations: those of the ranks that the log keeps stand for all.
    """
    if len(run.epochs):
        seconds = float(run.epochs["train_seconds"].sum())
        return float(run.epochs["num_samples"].sum()) / seconds if seconds > 0 else float("nan")
    steps = run.per_step
    if steps.empty:
        return float("nan")
    if run.rank_axis == "rank":
        (seconds,) = slowest_sums(run.columns, np.zeros(len(run.columns.steps), int))
        logged = float((steps["mean_samples"] * steps["num_ranks"]).sum())
        num_samples = logged / len(logged_labels(run.columns, steps)) * len(run.ranks)
    else:
        seconds = float(steps["mean_seconds"].sum())
        num_samples = float(steps["mean_samples"].sum()) * len(run.ranks)
    return num_samples / float(seconds) if seconds > 0 else float("nan")


def span_shares(columns: Columns) -> pd.Series:
    """The share of each of ``TRAINING_SPANS`` in the training time of all ranks and iterations but the first.

    The first iteration warms up caches and connections. Of a log of statistics, the medians over the ranks count.
    """
    totals = pd.Series(span_totals(columns, slice(int(len(columns.steps) > 1), None)), index=list(TRAINING_SPANS))
    return (totals / totals.sum() if totals.sum() > 0 else totals * np.nan).rename("share")


def energy_per_sample(run: Run) -> tuple[float, str]:
    """Joules for a sample that was trained on, with all that was done meanwhile (evaluations, checkpoints, waits).

    Counters are read every ``log.utilisation_seconds``: of a run that lasts less than some of these, nothing is known.

    Returns:
        The joules, and who drew them: ``nodes`` (all that is in them), ``GPUs``, ``processors``, or ``GPUs and
        processors``; NaN and nothing where the log has none.
    """
    nodes = _drawn(run, "node_energy_joules", ["node"])
    cards = _drawn(run, "energy_joules", ["node", "device"])
    if run.provenance.get("node_energy") == "node" and nodes == nodes:
        return nodes, "nodes"
    known = {name: value for name, value in (("GPUs", cards), ("processors", nodes)) if value == value}
    return (sum(known.values()) if known else float("nan")), " and ".join(known)


def _drawn(run: Run, column: str, owner: list[str]) -> float:
    """Joules a sample by a column that counts from the start of each segment.

    Args:
        run: the log.
        column: of its iterations.
        owner: columns of ``ranks`` that tell apart what is counted: of ranks that share one, the first counts. Those
            that the log keeps stand for all.
    """
    columns, steps, firsts = run.columns, run.per_step, run.ranks.drop_duplicates(owner)["rank"]
    places = np.flatnonzero(np.isin(columns.labels, firsts)) if columns.axis == "rank" else np.array([MEDIAN])
    every = steps["mean_samples"].set_axis(steps["step"]) * len(run.ranks)
    joules, num_samples = 0.0, 0.0
    for segment in steps["segment"].unique():
        begun, ended, known = counted(columns, column, columns.column("segment") == segment, places)
        if len(known):
            joules += float(np.nanmean(ended - begun)) * len(firsts)
            num_samples += float(every[(every.index > known.min()) & (every.index <= known.max())].sum())
    return joules / num_samples if joules > 0 and num_samples > 0 else float("nan")
