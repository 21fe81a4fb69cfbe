"""Errors, curves and schedules by setting, as Goyal 2017 reports them: runs in, tidy tables out.

A run's error is the median over its last 5 epochs, a setting's the mean and the standard deviation (n - 1) over its
runs. A run that diverged has no error: it is counted beside the mean, never in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from runs.logs import Entry
from runs.settings import Setting
from tables.learning import ACCURACY, costs_before
from tables.timing import steps_per_epoch

LAST_EPOCHS = 5
ERROR_SPLITS = {"test": "Test", "val": "Validation"}
"""The split that errors are of, the first of these that a run has evaluated; and its name on an axis."""
TRAINING = {"train_error_percent": "Training error (%)", "train_loss": "Training loss (nats)"}
"""What a training curve may show, the better first, and the label of its axis."""
MOST_POINTS = 400


def error_split(item: Entry) -> str | None:
    """The split that the run's error is of; None where it knows no accuracy of any."""
    table = item.run.evaluations
    known = set(table.loc[table["metric"] == ACCURACY, "split"])
    return next((split for split in ERROR_SPLITS if split in known), None)


def error_label(runs: pd.DataFrame) -> str:
    """The label of an axis of errors, of rows of :func:`run_table`; it names no split where these differ."""
    splits = {split for split in runs["split"] if split}
    return f"{ERROR_SPLITS[splits.pop()]} error (%)" if len(splits) == 1 else "Error (%)"


def accuracy_rows(item: Entry, split: str | None) -> pd.DataFrame:
    """The rows of a run's evaluations that have a known accuracy on a split, as ``value``; ordered by step."""
    table = item.run.evaluations
    return table[(table["split"] == split) & (table["metric"] == ACCURACY) & table["value"].notna()].sort_values("step")


def errors(item: Entry, split: str | None) -> pd.DataFrame:
    """``epoch`` and ``error`` in per cent of all evaluations of a split, ordered by epoch."""
    table = accuracy_rows(item, split)
    return pd.DataFrame({"epoch": table["epoch_fraction"], "error": 100 * (1 - table["value"])})


def last_error(item: Entry, split: str | None) -> tuple[float, int]:
    """The median error in per cent over the last 5 epochs of a run, and how many evaluations it is of.

    NaN and 0 without an evaluation. Evaluations rarer than one an epoch count as far as they fall in these epochs.
    """
    table = errors(item, split)
    if table.empty:
        return math.nan, 0
    last = table[table["epoch"] > table["epoch"].iloc[-1] - LAST_EPOCHS + 1e-9]
    return float(last["error"].median()), len(last)


def run_table(settings: Sequence[Setting]) -> pd.DataFrame:
    """One row a run: setting, seed, status, its errors and of how many epochs they are; NaN of one that diverged."""
    rows = []
    for setting in settings:
        for item in setting.entries:
            split = error_split(item)
            diverged = item.run.status == "diverged"
            error, count = last_error(item, split)
            train_error = last_error(item, "train")[0]
            rows.append(
                {
                    "setting": setting.name,
                    "run": item.name,
                    "seed": item.run.config.get("seed", 0),
                    "status": item.status,
                    "num_epochs": float(errors(item, split)["epoch"].max()) if count else math.nan,
                    "split": split or "",
                    "error_percent": math.nan if diverged else error,
                    "train_error_percent": math.nan if diverged else train_error,
                    "num_evaluations": count,
                    "last_train_loss": float(item.run.epochs["train_loss"].iloc[-1])
                    if len(item.run.epochs)
                    else math.nan,
                }
            )
    return pd.DataFrame(rows)


def setting_table(settings: Sequence[Setting], runs: pd.DataFrame) -> pd.DataFrame:
    """One row a setting: mean and standard deviation of the errors of its completed runs, and how many ended otherwise.

    Args:
        settings: all settings.
        runs: of :func:`run_table`.
    """
    rows = []
    for setting in settings:
        own = runs[runs["run"].isin([item.name for item in setting.entries])]
        whole = own[own["status"] == "completed"]
        row: dict[str, Any] = {
            "setting": setting.name,
            "series": setting.series,
            "warmup": setting.warmup,
            "scaling_rule": setting.rule,
            "num_ranks": setting.entries[0].world_size,
            "global_batch_size": setting.global_batch_size,
            "learning_rate": setting.learning_rate,
            "num_runs": len(own),
            "num_seeds": own["seed"].nunique(),
            "num_diverged": int((own["status"] == "diverged").sum()),
            "num_unfinished": int((~own["status"].isin(("completed", "diverged"))).sum()),
        }
        for name in ("error_percent", "train_error_percent"):
            row |= {name: whole[name].mean(), name.replace("percent", "std_percent"): whole[name].std(ddof=1)}
        rows.append(row | {"num_evaluations": whole["num_evaluations"].min()})
    return pd.DataFrame(rows)


def percent_text(mean: float, deviation: float) -> str:
    """``11.50 ± 0.12 %``, which no line break parts; without a deviation where that is NaN."""
    spread = "" if math.isnan(deviation) else f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{deviation:.2f}"
    return f"{mean:.2f}{spread}\N{NO-BREAK SPACE}%"


def curve_table(settings: Sequence[Setting]) -> pd.DataFrame:
    """One row a run and epoch: ``error_percent``, ``train_error_percent`` and ``train_loss``, NaN where there is none.

    The loss is the mean over the samples of the epoch, each before its update; errors are the consensus model's on the
    whole split.
    """
    tables = []
    for setting in settings:
        for item in setting.entries:
            steps = steps_per_epoch(item)
            epochs = item.run.epochs
            # An epoch that is cut short ends between two whole ones.
            ends = epochs["step"] / steps if steps else epochs["epoch"] + 1.0
            parts = [pd.DataFrame({"epoch": ends.round(9), "train_loss": epochs["train_loss"]})]
            for name, split in (("error_percent", error_split(item)), ("train_error_percent", "train")):
                table = errors(item, split)
                parts.append(pd.DataFrame({"epoch": table["epoch"].round(9), name: table["error"]}))
            table = pd.concat([part.set_index("epoch") for part in parts], axis=1).sort_index().reset_index()
            table.insert(0, "setting", setting.name)
            table.insert(1, "run", item.name)
            table["diverged"] = item.run.status == "diverged"
            tables.append(table[["setting", "run", "epoch", "error_percent", *TRAINING, "diverged"]])
    return pd.concat(tables, ignore_index=True)


def training_quantity(curves: pd.DataFrame) -> str:
    """What training curves show: the error on the training set where every run has it, else the loss."""
    whole = curves.groupby("run")["train_error_percent"].apply(lambda values: values.notna().any())
    return "train_error_percent" if len(whole) and bool(whole.all()) else "train_loss"


def schedule_table(settings: Sequence[Setting]) -> pd.DataFrame:
    """The learning rate as run: of each setting, that of its longest run, at the steps where its slope changes.

    Between two rows the rate is linear in the step, but for a schedule of more than 400 such steps, of which as many
    are kept.
    """
    tables = []
    for setting in settings:
        item = max(setting.entries, key=lambda entry: int(entry.run.per_step["step"].max()))
        table = costs_before(item)[["epoch", "step"]].reset_index(drop=True)
        table["learning_rate"] = item.run.per_step["learning_rate"].to_numpy()
        table = table.iloc[_corners(table["learning_rate"].to_numpy())]
        table.insert(0, "setting", setting.name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _corners(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where a sequence is not linear, its ends among them; at most ``MOST_POINTS`` places, evenly chosen."""
    turns = np.abs(np.diff(values, 2)) > 1e-9 * np.abs(values).max()
    places = np.unique([0, *(np.flatnonzero(turns) + 1), len(values) - 1])
    if len(places) > MOST_POINTS:
        places = places[np.unique(np.linspace(0, len(places) - 1, MOST_POINTS).astype(int))]
    return places


def remarks(runs: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """What a reader must know of the errors, one line each: diverged, unfinished, too short, alone."""
    lines = []
    for row in runs.itertuples():
        if row.status == "diverged":
            lines.append(f"{row.run}: diverged; it is counted beside the mean of its setting, not in it.")
        elif row.status != "completed":
            lines.append(f"{row.run}: {row.status}; it is not in the mean of its setting.")
        elif row.num_evaluations == 0:
            lines.append(f"{row.run}: no evaluation of {' or '.join(ERROR_SPLITS)}: no error.")
        elif row.num_evaluations < LAST_EPOCHS:
            lines.append(
                f"{row.run}: its error is the median of {row.num_evaluations} evaluations, not of the last "
                f"{LAST_EPOCHS} epochs."
            )
    for row in table.itertuples():
        if row.num_runs - row.num_diverged - row.num_unfinished == 1:
            lines.append(f"{row.setting}: a single run: no standard deviation.")
    splits = sorted({split for split in runs["split"] if split})
    if len(splits) > 1:
        lines.append(f"Errors are of different splits ({', '.join(splits)}): the table of runs says which.")
    return lines
