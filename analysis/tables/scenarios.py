"""What local SGD reaches and communicates by run, and Lin's scenarios A1 to A5: runs in, tidy tables out.

A *round* is a synchronisation, of gradients or of models, of all ranks or of the ranks of a block; its bytes are as in
the log. The accuracy of a run is the median over its last 5 epochs, that of a setting the mean and the standard
deviation (n - 1) over its runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from runs.logs import Entry
from runs.scenarios import POST_LOCAL, SCENARIOS, facts, first_local_step, scenario, synchronisations, variants
from runs.tasks import algorithm
from tables.errors import last_error
from tables.timing import steps_per_epoch


def run_facts(entries: Sequence[Entry], reference: int | None) -> pd.DataFrame:
    """One row a run of a workload: sizes, rounds, bytes, samples a round, and accuracy on the training set."""
    others = variants(entries)
    rows = []
    for item in entries:
        rounds = synchronisations(item)
        samples = item.global_batch_size * item.run.per_step["step"].nunique()
        epoch = steps_per_epoch(item) or math.nan
        train = last_error(item, "train")[0]
        rows.append(
            {
                "run": item.name,
                "scenario": scenario(item, reference),
                **facts(item),
                "variant": others[item.name],
                "num_rounds": len(rounds),
                "num_global_rounds": int((rounds["action"] != "block").sum()),
                "sync_bytes": int(rounds["sync_bytes"].sum()),
                "is_at_drop": item.run.config.get("algorithm", {}).get("local_start") == "first_lr_drop",
                "samples_per_round": samples / len(rounds) if len(rounds) else math.nan,
                "local_from_epoch": (start := first_local_step(item) / epoch),
                "start": f"from epoch {start:g}" if algorithm(item) == POST_LOCAL else "",
                "num_epochs": item.run.per_step["step"].nunique() / epoch,
                "train_accuracy": 1 - train / 100 if item.finished else math.nan,
            }
        )
    return pd.DataFrame(rows)


def moments(part: pd.DataFrame) -> dict[str, float]:
    """Mean and standard deviation of both accuracies of some runs, in per cent; how many they are, and diverged."""
    row: dict[str, float] = {
        "num_runs": int(part["final_accuracy"].notna().sum()),
        "num_diverged": int((part["status"] == "diverged").sum()),
    }
    for name, column in (("train", "train_accuracy"), ("test", "final_accuracy")):
        values = 100 * part[column].dropna()
        row |= {f"{name}_percent": values.mean(), f"{name}_std_percent": values.std(ddof=1)}
    return row


def scenario_table(runs: pd.DataFrame, reference: int | None) -> pd.DataFrame:
    """One row a scenario and setting, A1 to A5: accuracies, and parallelism and communication relative to A1.

    Of post-local SGD, runs whose local steps begin at the first drop of the rate, as in the paper, where there are any.
    Parallelism is samples that may be worked on at once, kn; of post-local SGD and local SGD, that of all learners'
    steps. Communication is rounds, and bytes a rank, of the whole training. Both are relative to the row of A1, of
    several the smallest batch; NaN without one.

    Args:
        runs: rows of :func:`run_facts` with the results of ``targets.run_table``.
        reference: kn that the scenarios are held against.
    """
    rows = []
    for name in SCENARIOS:
        own = runs[runs["scenario"] == name]
        if own["is_at_drop"].any():
            own = own[own["is_at_drop"]]
        for _, part in own.groupby(["global_batch_size", "sync_period", "setting"], sort=True):
            first = part.iloc[0]
            period = first["global_batch_size"] / reference if name == "A3" else first["sync_period"]
            row = {
                "scenario": name,
                "method": SCENARIOS[name],
                **{key: first[key] for key in ("setting", "start", "variant", "wire")},
                **{key: first[key] for key in ("num_learners", "local_batch_size")},
                **{key: first[key] for key in ("global_batch_size", "learning_rate")},
                "sync_period": float(period) if name != "A1" else 1.0,
                **moments(part),
                **{key: float(part[key].median()) for key in ("num_rounds", "sync_bytes")},
            }
            rows.append(row)
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    names = ["start", "wire", "variant"]
    alike = table.groupby(["scenario", "global_batch_size", "sync_period"])
    apart = alike[names].transform("nunique") > 1
    table["apart"] = [
        ", ".join(str(row[name]) for name in names if own[name] and row[name])
        for row, own in zip(table.to_dict("records"), apart.to_dict("records"), strict=True)
    ]
    small = table[table["scenario"] == "A1"]
    base = small.iloc[0] if len(small) else dict.fromkeys(("global_batch_size", "num_rounds", "sync_bytes"), math.nan)
    return table.assign(
        parallelism=table["global_batch_size"] / base["global_batch_size"],
        rounds_percent=100 * table["num_rounds"] / base["num_rounds"],
        bytes_percent=100 * table["sync_bytes"] / (base["sync_bytes"] or math.nan),
    )


def scenario_label(row: pd.Series | Mapping[str, object]) -> str:
    """What a figure calls a row of :func:`scenario_table`: ``A4, H = 16``, and what tells it from others of that H."""
    period = float(row["sync_period"])  # type: ignore[arg-type]
    parts = [str(row["scenario"]), f"kn = {row['global_batch_size']}" if row["scenario"] == "A1" else ""]
    parts += [f"H = {period:g}" if row["scenario"] in ("A3", "A4", "A5") else ""]
    parts.append(str(row["apart"]))
    return ", ".join(filter(None, parts))
