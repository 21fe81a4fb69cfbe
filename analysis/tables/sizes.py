"""Runs of several sizes against one another: time per iteration and epoch, ideal, speed-up, efficiency.

Runs that differ only in their size form a series, in one of three ways: *weak* scaling keeps the local batch and adds
ranks, *strong* scaling keeps the global batch and adds ranks, a *batch* series keeps the ranks and grows the
batch, with runs that are in no weak or strong series. One run may be in several.

The ideal is the smallest size's time for one sample on one rank, kept at every size: with K ranks and a global batch of
B, an iteration takes t_0·(B/K)/(B_0/K_0) and an epoch T_0·K_0/K. Efficiency is the ideal time over the measured one.
The smallest size is the fewest ranks, then the smallest batch; where it was run more than once, the median counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from runs.groups import LEARNED, split, work
from runs.logs import Entry, algorithm_text, ranks_text
from tables.iterations import period_means, quantiles, record_iterations
from tables.timing import epoch_table, steps_per_epoch

WEAK, STRONG, BATCH = "weak", "strong", "batch"
FIXED = {WEAK: "local_batch_size", STRONG: "global_batch_size", BATCH: "num_ranks"}
SAID = (
    *(f"algorithm.{name}" for name in ("name", "sync_period", "block_sync_period", "local_start")),
    *("model.name", "model.widths", "data.name", "dtype", "learners_per_rank", "comm.allreduce"),
)
"""Facts that :func:`kind_of_work` says in other words."""
VARIED = {WEAK: "num_ranks", STRONG: "num_ranks", BATCH: "global_batch_size"}


def measure(item: Entry, skip: int) -> dict[str, Any]:
    """A run's size and its times of record; the epoch's is the median over whole epochs, none left out.

    Without a whole epoch it is estimated: the mean iteration times the iterations of an epoch (NaN if unknown).
    """
    record = record_iterations(item)
    means = period_means(item, record, skip)
    iteration = quantiles(means)
    epochs = epoch_table([item])
    whole = epochs.loc[epochs["complete"], "train_seconds"]
    steps = steps_per_epoch(item)
    if len(whole):
        epoch, source = float(whole.median()), f"median of {len(whole)}"
    elif steps is not None and not math.isnan(iteration["mean_seconds"]):
        epoch, source = iteration["mean_seconds"] * steps, f"estimated from {len(means)} iterations"
    else:
        epoch, source = math.nan, "no whole epoch"
    return {
        "run": item.name,
        "num_ranks": item.world_size,
        "local_batch_size": item.local_batch_size,
        "global_batch_size": item.global_batch_size,
        "iteration_seconds": iteration["median_seconds"],
        "iteration_p5_seconds": iteration["p5_seconds"],
        "iteration_p95_seconds": iteration["p95_seconds"],
        "epoch_seconds": epoch,
        "epoch_source": source,
        "samples_per_second": record["num_samples"].mean() / iteration["median_seconds"],
    }


def kind_of_work(item: Entry) -> dict[str, str]:
    """What two runs must share to be compared by size, in words: all facts that may change how long a step takes."""
    config = item.run.config
    model, comm = config.get("model", {}), config.get("comm", {})
    settings = work(item, (*LEARNED, *SAID))
    settings |= {f"comm.{name}": str(value) for name, value in comm.items() if f"comm.{name}" not in SAID}
    return {
        "algorithm": algorithm_text(config),
        "model": f"{model.get('name', '')} {model.get('widths', '')}".strip(),
        "data": str(config.get("data", {}).get("name", "")),
        "dtype": str(config.get("dtype", "")),
        "learners": f"learners_per_rank: {item.learners_per_rank}",
        "allreduce": f"allreduce: {comm.get('allreduce', '')}",
        "accumulation": f"accumulation_steps: {split(item)['accumulation_steps']}",
        "device": ", ".join(sorted({"GPU" if is_gpu(d) else "CPU" for d in item.run.ranks["device"]})),
        **{key: f"{key}: {value}" for key, value in settings.items()},
    }


def is_gpu(device: str) -> bool:
    """Whether the device of a rank, as a log names it, is a GPU: a model's name and not ``cpu``."""
    return device not in ("", "cpu")


def on_gpus(entries: Sequence[Entry]) -> bool:
    """Whether all ranks of all runs had GPUs."""
    return all(is_gpu(device) for item in entries for device in item.run.ranks["device"])


def size_table(entries: Sequence[Entry], skip: int) -> pd.DataFrame:
    """One row a run and series, ordered by size; empty where no two runs differ only in their size."""
    of_one_size = [item for item in entries if not item.lost_ranks]
    usable = [item for item in of_one_size if len(period_means(item, record_iterations(item), skip))]
    if not usable:
        return pd.DataFrame()
    works = [kind_of_work(item) for item in usable]
    named = dict.fromkeys(key for work in works for key in work)
    differing = [key for key in named if key == "algorithm" or len({work.get(key) for work in works}) > 1]
    measured = pd.DataFrame([measure(item, skip) for item in usable])
    measured["work"] = ["; ".join(work[key] for key in differing if key in work) for work in works]
    keys = pd.Series([tuple(sorted(work.items())) for work in works])
    tables: list[pd.DataFrame] = []
    for kind, fixed in FIXED.items():
        for (_, value), part in measured.groupby([keys, fixed], sort=False):
            # Ranks that happen to meet at two batches are no batch series: their runs are shown already.
            shown = kind == BATCH and set(part["run"]) <= {run for table in tables for run in table["run"]}
            if part[VARIED[kind]].nunique() > 1 and not shown:
                tables.append(_against_ideal(part, kind, _describe(kind, value)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _describe(kind: str, value: float) -> str:
    """What a series keeps, in words."""
    if kind == BATCH:
        return ranks_text(int(value))
    return f"{'local' if kind == WEAK else 'global'} batch {value:g}"


def _against_ideal(part: pd.DataFrame, kind: str, fixed: str) -> pd.DataFrame:
    """A series with its ideal times, speed-up and efficiency."""
    table = part.sort_values(["num_ranks", "global_batch_size", "run"]).copy()
    first = table.iloc[0]
    smallest = table[
        (table["num_ranks"] == first["num_ranks"]) & (table["global_batch_size"] == first["global_batch_size"])
    ]
    ranks = table["num_ranks"] / first["num_ranks"]
    share = table["global_batch_size"] / first["global_batch_size"] / ranks
    table["ideal_iteration_seconds"] = smallest["iteration_seconds"].median() * share
    table["ideal_epoch_seconds"] = smallest["epoch_seconds"].median() / ranks
    table["ideal_samples_per_second"] = smallest["samples_per_second"].median() * ranks
    table["speedup"] = table["samples_per_second"] / smallest["samples_per_second"].median()
    table["ideal_speedup"] = ranks
    table["reference_ranks"] = first["num_ranks"]
    table["iteration_efficiency"] = table["ideal_iteration_seconds"] / table["iteration_seconds"]
    table["epoch_efficiency"] = table["ideal_epoch_seconds"] / table["epoch_seconds"]
    table.insert(0, "series", table.pop("work") + f"; {fixed}")
    table.insert(0, "scaling", kind)
    return table


def rough_epochs(sizes: pd.DataFrame) -> list[str]:
    """One line for each run whose time per epoch is no median over whole epochs."""
    rough = sizes[~sizes["epoch_source"].str.startswith("median")].drop_duplicates("run")
    return [f"{row.run}: time per epoch: {row.epoch_source}." for row in rough.itertuples()]


def not_in_a_series(entries: Sequence[Entry], sizes: pd.DataFrame, skip: int) -> list[str]:
    """One line for each run that the figures over sizes do not show."""
    if sizes.empty:
        return ["No two runs differ only in their ranks or batch: no figures over sizes."]
    shown = set(sizes["run"])
    return [
        f"{item.name}: not in the figures over sizes: {_why_not(item, skip)}."
        for item in entries
        if item.name not in shown
    ]


def _why_not(item: Entry, skip: int) -> str:
    """Why a run is in no series."""
    if period_means(item, record_iterations(item), skip).empty:
        return f"no whole synchronisation period is left after --skip {skip}"
    return "no other run differs from it only in ranks or batch"
