"""What local SGD reaches, and what it communicates for it, over sizes and along the training: runs in, tidy tables out.

Rounds, bytes and accuracies are those of :mod:`tables.scenarios`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from runs.logs import ranks_text
from runs.scenarios import HIERARCHICAL, LOCAL, SYNCHRONOUS, periods, synchronisations
from runs.tasks import Setting
from tables.errors import accuracy_rows, error_split
from tables.scenarios import moments
from tables.targets import spread
from tables.timing import steps_per_epoch

SPLITS = ("train", "held_out")
TELLING = ("method", "sync_period", "block_sync_period", "start", "num_learners", "local_batch_size", "wire", "variant")
"""Columns by which the settings of a figure are called, where they differ."""
WORDS = {
    "method": "{}",
    "sync_period": "H = {}",
    "block_sync_period": "H_b = {}",
    "num_learners": "k = {}",
    "local_batch_size": "n = {:g}",
    "rank_batch_size": "{:g} samples a rank",
    "global_batch_size": "kn = {}",
    "start": "{}",
    "wire": "{}",
    "variant": "{}",
}
"""How a line is called by the columns that tell it from others."""
MOST_CORNERS = 400


def with_period_one(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of local SGD, with those of synchronous SGD at the same kn as their H = 1, whatever splits kn there."""
    local, synchronous = (runs[runs["algorithm"] == name] for name in (LOCAL, SYNCHRONOUS))
    sizes = ["num_ranks", "num_learners", "local_batch_size", "rank_batch_size", "global_batch_size"]
    lines = local[[*sizes, "method", "wire", "variant"]].drop_duplicates()
    ones = local.loc[local["sync_period"] == 1, sizes].drop_duplicates()
    merged = lines.merge(ones, on=sizes, how="left", indicator=True)
    missing = merged.loc[merged["_merge"] == "left_only", [*lines]]
    keys = ["num_ranks", "global_batch_size"]
    own = synchronous.drop(columns=[name for name in missing if name not in keys])
    return pd.concat([own.merge(missing, on=keys).assign(sync_period=1), local], ignore_index=True)


def sweep(runs: pd.DataFrame, over: str, by: Sequence[str]) -> pd.DataFrame:
    """One row a line and value of a column: the spread of its runs, and mean accuracies; no lines of one value.

    Args:
        runs: one row a run.
        over: the column.
        by: columns that tell lines apart; those that do name them.
    """
    groups = [own for _, own in runs.groupby(list(by), sort=True) if own[over].nunique() > 1]
    firsts = pd.DataFrame([own.iloc[0] for own in groups])
    rows = [
        {"line": line_name(own.iloc[0], firsts, by), over: value, **spread(part), **moments(part)}
        | {"sync_bytes": float(part["sync_bytes"].median())}
        for own in groups
        for value, part in own.groupby(over)
    ]
    return pd.DataFrame(rows)


def line_name(row: pd.Series, lines: pd.DataFrame, by: Sequence[str]) -> str:
    """What tells a line from others, in words; of a single line, its first column."""
    said = [key for key in by if lines[key].nunique() > 1] or list(by[:1])
    texts = [ranks_text(row[key]) if key == "num_ranks" else WORDS[key].format(row[key]) for key in said]
    return ", ".join(filter(None, texts)) or "local SGD"


def points(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a setting, its algorithm as its line: the spread of its runs, and what they sent."""
    rows = [
        {"line": part["method"].iloc[0], "setting": name, **spread(part), **moments(part)}
        | {key: float(part[key].median()) for key in ("num_rounds", "sync_bytes")}
        for name, part in runs.groupby("setting", sort=False)
    ]
    return pd.DataFrame(rows)


def setting_labels(runs: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """What tells some settings from one another, in words, by their runs."""
    firsts = runs.drop_duplicates("setting").set_index("setting", drop=False).loc[list(names)]
    return [line_name(row, firsts, TELLING) for _, row in firsts.iterrows()]


def pair_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Local SGD beside mini-batch SGD of as many samples between two synchronisations: accuracies and difference.

    At equal samples of training these are as many rounds, and with whole numbers on the wire as many bytes.
    """
    synchronous = runs[runs["algorithm"] == SYNCHRONOUS]
    rows = []
    facts_of = ["num_learners", "local_batch_size", "sync_period", "wire", "variant"]
    for keys, part in runs[runs["algorithm"] == LOCAL].groupby(facts_of):
        size = round(math.prod(keys[:3]))
        other = synchronous[synchronous["global_batch_size"] == size]
        if other["final_accuracy"].notna().any() and part["final_accuracy"].notna().any():
            ours, theirs = moments(part), moments(other)
            names = ("test_percent", "test_std_percent", "num_runs")
            rows.append(
                dict(zip(facts_of, keys, strict=True))
                | {"samples_per_round": size}
                | {f"local_{name}": ours[name] for name in names}
                | {f"minibatch_{name}": theirs[name] for name in names}
                | {"difference_points": ours["test_percent"] - theirs["test_percent"]}
            )
    return pd.DataFrame(rows)


def speedups(table: pd.DataFrame, over: str = "num_ranks") -> pd.DataFrame:
    """Rows of a sweep of times with ``speedup``, lowest and highest: over the line with H = 1 at the fewest ranks.

    Where that has no such time, a line is held against its own fewest ranks; ``speedup_base`` says which.
    """
    fewest = table[over].min()
    one = table[(table[over] == fewest) & table["line"].str.contains(r"H = 1(?!\d)")]
    known = one.loc[np.isfinite(one["seconds_to_target"]), "seconds_to_target"]
    parts = []
    for _, own in table.groupby("line", sort=False):
        first = own.loc[own[over].idxmin()]
        base = float(known.iloc[0]) if len(known) else float(first["seconds_to_target"])
        parts.append(
            own.assign(
                speedup=base / own["seconds_to_target"],
                speedup_min=base / own["seconds_to_target_max"],
                speedup_max=base / own["seconds_to_target_min"],
                speedup_base=f"H = 1, {ranks_text(fewest)}" if len(known) else ranks_text(int(first[over])),
                ideal=own[over] / (fewest if len(known) else first[over]),
            )
        )
    return pd.concat(parts, ignore_index=True)


def curve_table(settings: Sequence[Setting]) -> pd.DataFrame:
    """One row a run, split and evaluation: epoch, costs and accuracy of the consensus model."""
    tables = []
    for setting in settings:
        for item in setting.entries:
            steps = synchronisations(item)["step"].to_numpy()
            for split, name in zip(SPLITS, ("train", error_split(item)), strict=True):
                rows = accuracy_rows(item, name)
                table = rows[["epoch_fraction", "train_seconds", "sync_bytes", "value"]].rename(
                    columns={"epoch_fraction": "epoch", "value": "accuracy"}
                )
                table.insert(3, "num_rounds", np.searchsorted(steps, rows["step"].to_numpy(), side="right"))
                table.insert(0, "setting", setting.name)
                table.insert(1, "run", item.name)
                table.insert(2, "split", split)
                tables.append(table.assign(diverged=item.run.status == "diverged"))
    return pd.concat(tables, ignore_index=True)


def schedule_table(settings: Sequence[Setting]) -> pd.DataFrame:
    """H as run, of the longest run of each setting, where it changes: ``setting``, ``epoch``, ``step``, ``period``.

    Of more than 400 such places as many are kept.
    """
    tables = []
    for setting in settings:
        item = max(setting.entries, key=lambda entry: int(entry.run.per_step["step"].max()))
        table = periods(item)
        if table.empty:
            continue
        changes = table["period"].diff().fillna(1).ne(0)
        table = table[changes | changes.shift(-1, fill_value=True)]
        if len(table) > MOST_CORNERS:
            table = table.iloc[np.unique(np.linspace(0, len(table) - 1, MOST_CORNERS).astype(int))]
        table = table.assign(setting=setting.name, epoch=table["step"] / (steps_per_epoch(item) or math.nan))
        tables.append(table[["setting", "epoch", "step", "period"]])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def changing(schedules: pd.DataFrame) -> list[str]:
    """The settings whose H is not constant; the last period may be cut short by the end of the training."""
    if schedules.empty:
        return []
    counts = schedules.groupby("setting", sort=False)["period"].apply(lambda own: own.iloc[:-1].nunique())
    return [str(name) for name in counts.index[counts > 1]]


def grid_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a cell (H, H_b) of hierarchical local SGD, with local SGD as H_b = 1: accuracies and rounds.

    Of several numbers of ranks, learners or batches, that with most cells.
    """
    own = runs[runs["algorithm"].isin((HIERARCHICAL, LOCAL))]
    if (own["block_sync_period"] > 1).sum() == 0:
        return pd.DataFrame()
    keys = ["num_ranks", "num_learners", "local_batch_size"]
    cells = ["sync_period", "block_sync_period"]
    _, most = max(own.groupby(keys), key=lambda found: len(found[1][cells].drop_duplicates()))
    rows = [
        dict(zip(cells, at, strict=True))
        | moments(part)
        | {name: float(part[name].median()) for name in ("num_rounds", "num_global_rounds", "sync_bytes")}
        for at, part in most.groupby(cells)
    ]
    return pd.DataFrame(rows) if len(rows) > 1 else pd.DataFrame()
