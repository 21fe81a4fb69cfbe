"""Throughput, epochs and time to an accuracy, and utilisation, by run, setting and line: runs in, tidy tables out.

The accuracy of a run after an evaluation is the median of the last 5 evaluations up to it, as in Crossbow 2019; the run
reaches a target with the first evaluation whose median is at or above it. Seconds are of the training clock: maximum
over ranks, without evaluation, checkpoints and logging. The time to a target is epochs to it times samples of an epoch
over samples a second: statistical times hardware efficiency.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from hpcsgd.record.schema import TAKEN
from hpcsgd.record.summary import counted
from runs.logs import Entry, ranks_text
from runs.tasks import Setting, lines, num_learners, sync_period
from tables.errors import ERROR_SPLITS, LAST_EPOCHS, accuracy_rows, error_split, last_error
from tables.iterations import kept_iterations, record_iterations
from tables.timing import window_seconds

WINDOW = 5
"""Evaluations that a median is over."""
MOST = 0.75
"""The share of the settings that reach the target where none is given."""
GRAIN = 0.005
"""Targets that are not given are multiples of this."""
SPREADS = ("samples_per_second", "final_accuracy", "epochs_to_target", "seconds_to_target", "utilisation")
TO_TARGET = ("epochs_to_target", "seconds_to_target")


def throughput(item: Entry, skip: int) -> float:
    """Samples of all ranks a second of the training clock, without the first ``skip`` iterations of each segment."""
    record = record_iterations(item)
    record["window"] = np.where(record["skip_rank"] >= skip, 0, -1)
    kept = record[record["window"] == 0]
    if kept.empty:
        return math.nan
    return float(kept["num_samples"].sum() / window_seconds(item, record)[0])


def utilisation(item: Entry, skip: int) -> float:
    """Mean share of time that the devices were busy, over iterations and ranks; NaN where it was not sampled."""
    kept = kept_iterations(item, skip)
    kept = kept[kept["statistic"] == "median"] if item.summary else kept
    return float(kept["utilisation"].mean())


def engine(item: Entry) -> str:
    """The engine that took the passes, of those that ``auto`` may choose from."""
    return str(item.run.provenance.get("engine") or item.run.config.get("engine") or "unknown engine")


def accuracies(item: Entry) -> pd.DataFrame:
    """``epoch``, ``train_seconds``, ``accuracy`` and ``median_accuracy`` of each evaluation of the held-out split.

    The median is over the last 5 evaluations, and NaN while there are fewer.
    """
    table = accuracy_rows(item, error_split(item))
    return pd.DataFrame(
        {
            "epoch": table["epoch_fraction"],
            "train_seconds": table["train_seconds"],
            "accuracy": table["value"],
            "median_accuracy": table["value"].rolling(WINDOW).median(),
        }
    ).reset_index(drop=True)


def cost_of_target(item: Entry, target: float) -> dict[str, float]:
    """Epochs and seconds until a run reaches the target; inf: it never did; NaN: not known.

    Not known it is of a run without 5 evaluations, and of one that did not end and had not reached it yet.
    """
    table = accuracies(item)
    reached = table[table["median_accuracy"] >= target]
    if len(reached):
        first = reached.iloc[0]
        return {"epochs_to_target": float(first["epoch"]), "seconds_to_target": float(first["train_seconds"])}
    over = item.run.status == "diverged" or (item.finished and len(table) >= WINDOW)
    return dict.fromkeys(TO_TARGET, math.inf if over and not math.isnan(target) else math.nan)


def run_table(settings: Sequence[Setting], skip: int) -> pd.DataFrame:
    """One row a run: what it is, its throughput, utilisation and final accuracy, the median of its last 5 epochs."""
    rows = []
    for setting in settings:
        for item in setting.entries:
            split = error_split(item)
            error, count = last_error(item, split)
            rows.append(
                {
                    "setting": setting.name,
                    "run": item.name,
                    "seed": item.run.config.get("seed", 0),
                    "status": item.status,
                    "method": setting.method,
                    "sync_period": sync_period(item),
                    "num_ranks": item.world_size,
                    "learners_per_rank": item.learners_per_rank,
                    "num_learners": num_learners(item),
                    "local_batch_size": item.local_batch_size,
                    "global_batch_size": item.global_batch_size,
                    "learning_rate": float(item.run.per_step["learning_rate"].max()),
                    "engine": engine(item),
                    "samples_per_second": throughput(item, skip),
                    "utilisation": utilisation(item, skip),
                    "split": split or "",
                    "num_evaluations": len(accuracies(item)),
                    "final_evaluations": count,
                    "final_accuracy": 1 - error / 100 if item.finished else math.nan,
                    "best_median_accuracy": float(accuracies(item)["median_accuracy"].max()),
                }
            )
    return pd.DataFrame(rows)


def accuracy_label(runs: pd.DataFrame) -> str:
    """The label of an axis of accuracies, of rows of :func:`run_table`; it names no split where these differ."""
    splits = {split for split in runs["split"] if split}
    return f"{ERROR_SPLITS[splits.pop()]} accuracy (%)" if len(splits) == 1 else "Accuracy (%)"


def default_target(runs: pd.DataFrame, settings: Sequence[Setting]) -> float:
    """The highest accuracy that three quarters of the settings reach, in steps of 0.005; NaN where none is known.

    Args:
        runs: of :func:`run_table`.
        settings: those that count; a setting reaches what half of its runs reach.
    """
    known = runs[runs["setting"].isin([setting.name for setting in settings])]
    values = known.groupby("setting")["best_median_accuracy"].median().dropna().sort_values(ascending=False)
    if values.empty:
        return math.nan
    lowest = float(values.iloc[math.ceil(MOST * len(values)) - 1])
    return round(math.floor(lowest / GRAIN + 1e-9) * GRAIN, 9)


def with_target(runs: pd.DataFrame, entries: Sequence[Entry], target: float) -> pd.DataFrame:
    """Rows of :func:`run_table` with the target, and the epochs and seconds to it."""
    costs = pd.DataFrame([{"run": item.name, **cost_of_target(item, target)} for item in entries])
    return runs.assign(target_accuracy=target).merge(costs, on="run")


def spread(part: pd.DataFrame) -> dict[str, float]:
    """Median, lowest and highest of each measure over some runs, and how many of them reached the target.

    A run that never reached the target counts as inf in the median; the lowest and highest are of those that did.
    """
    row: dict[str, float] = {"num_runs": len(part), "num_diverged": int((part["status"] == "diverged").sum())}
    known = part["epochs_to_target"].dropna()
    row |= {"num_reached": int(np.isfinite(known).sum()), "num_known": len(known)}
    for name in SPREADS:
        values = part[name].dropna()
        finite = values[np.isfinite(values)]
        row |= {
            name: _median(values),
            f"{name}_min": float(finite.min()) if len(finite) else math.nan,
            f"{name}_max": float(finite.max()) if len(finite) else math.nan,
        }
    return row


def _median(values: pd.Series) -> float:
    """The median, of which inf may be a part; NaN without values."""
    return float(np.median(values)) if len(values) else math.nan


def setting_table(settings: Sequence[Setting], runs: pd.DataFrame) -> pd.DataFrame:
    """One row a setting: what it is, and the spread of its runs.

    Args:
        settings: of one task.
        runs: of :func:`with_target`.
    """
    shared = ["setting", "method", "sync_period", "num_ranks", "learners_per_rank", "num_learners"]
    shared += ["local_batch_size", "global_batch_size", "learning_rate"]
    rows = []
    for setting in settings:
        own = runs[runs["setting"] == setting.name]
        ended = own["status"].isin(("completed", "diverged"))
        counts = {"num_unfinished": int((~ended).sum())}
        rows.append(
            {**own.iloc[0][shared].to_dict(), "target_accuracy": own["target_accuracy"].iloc[0], **counts} | spread(own)
        )
    return pd.DataFrame(rows)


def sweep_table(runs: pd.DataFrame, entries: Sequence[Entry], x: str, leave: Collection[str]) -> pd.DataFrame:
    """One row a line and value of ``x``: the spread of its runs; lines of a single value are left out.

    Args:
        runs: of :func:`with_target`.
        entries: the same runs.
        x: the column that a figure is over.
        leave: the facts that follow from it or do not matter.
    """
    names = lines(entries, leave)
    line = runs["run"].map(names)
    rows = [
        {"line": name, x: value, **spread(part)}
        for name, own in runs.groupby(line, sort=False)
        if own[x].nunique() > 1
        for value, part in own.groupby(x)
    ]
    if not rows:
        return pd.DataFrame()
    # Only what tells these lines apart is in their names.
    shown = {row["line"] for row in rows}
    again = lines([item for item in entries if names[item.name] in shown], leave)
    short = {names[name]: text for name, text in again.items()}
    return pd.DataFrame(rows).assign(line=lambda table: table["line"].map(short))


def utilisation_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row an engine, number of learners and batch, over the runs that sampled their devices."""
    keys = ["engine", "num_ranks", "learners_per_rank", "local_batch_size", "global_batch_size"]
    known = runs[runs["utilisation"].notna()]
    rows = []
    for values, part in known.groupby(keys):
        row = dict(zip(keys, values, strict=True))
        text = f"{row['engine']}, m = {row['learners_per_rank']}, {ranks_text(int(row['num_ranks']))}"
        rows.append({"line": text, **row, **spread(part)})
    return pd.DataFrame(rows)


def curve_table(settings: Sequence[Setting]) -> pd.DataFrame:
    """One row a run and evaluation: epoch, seconds of the training clock, accuracy, and median of the last 5."""
    tables = []
    for setting in settings:
        for item in setting.entries:
            table = accuracies(item)
            table.insert(0, "setting", setting.name)
            table.insert(1, "run", item.name)
            table["diverged"] = item.run.status == "diverged"
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def bands(curves: pd.DataFrame, setting: str) -> pd.DataFrame:
    """The curve of a setting: by epoch, the median of seconds and accuracy over its runs, lowest and highest accuracy.

    Runs that diverged are left out.
    """
    own = curves[(curves["setting"] == setting) & ~curves["diverged"]]
    groups = own.groupby(own["epoch"].round(9))
    table = groups["accuracy"].agg(["median", "min", "max"])
    return table.assign(train_seconds=groups["train_seconds"].median()).reset_index()


def tuner_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a trial of the tuner, in order; ``chosen`` of the one that the run was trained with."""
    tables = []
    for item in entries:
        table = item.run.tuner.reset_index(drop=True)
        if table.empty:
            continue
        kept = table.index[table["decision"].isin(TAKEN)]
        table.insert(0, "run", item.name)
        table.insert(1, "trial", table.index + 1)
        table["chosen"] = table.index == (kept[-1] if len(kept) else -1)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def remarks(runs: pd.DataFrame) -> list[str]:
    """What a reader must know of the runs, one line each: diverged, unfinished, too short, alone, not sampled."""
    said = []
    for row in runs.itertuples():
        if row.status == "diverged":
            said.append(f"{row.run}: diverged; it has no final accuracy and does not reach the target.")
        elif row.status != "completed":
            said.append(f"{row.run}: {row.status}; it has no final accuracy.")
        if row.num_evaluations < WINDOW and row.status != "diverged":
            said.append(f"{row.run}: {row.num_evaluations} evaluations; a time to accuracy needs {WINDOW}.")
        elif row.final_evaluations < LAST_EPOCHS and row.status == "completed":
            said.append(f"{row.run}: its final accuracy is of {row.final_evaluations} evaluations.")
    sizes = runs.groupby("setting").size()
    if (sizes == 1).any():
        said.append(f"{(sizes == 1).sum()} of {counted(len(sizes), 'setting')} have a single run: no spread of seeds.")
    unsampled = list(runs.loc[runs["utilisation"].isna(), "run"])
    if unsampled and len(unsampled) < len(runs):
        said.append("Utilisation was not sampled of: " + ", ".join(unsampled) + ".")
    return said
