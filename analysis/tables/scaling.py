"""Strong and weak scaling: speed-up, efficiency and communication over sizes. Runs in, tidy tables out.

What runs of several sizes share and where they differ, and their times, is said in size_tables.py; here the shares of
communication are added, and repeats (runs that differ in nothing but their seed) are brought together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hpcsgd.record.frames import energy_per_sample
from hpcsgd.record.schema import EXPOSED_SPANS
from runs.logs import Entry, ranks_text
from tables.iterations import period_means, record_iterations
from tables.sizes import STRONG, WEAK, is_gpu, size_table
from tables.timing import synchronisation_calls, untold_actions

PERCENTILES = {"p5": 5, "p95": 95}
SHARES = ("exposed_share", "wait_share")
MEASURES = (
    *("samples_per_second", "speedup", "iteration_efficiency", "iteration_seconds", "epoch_seconds"),
    *SHARES,
)
"""Of each size: the median over its runs."""
ENERGY = "joules_per_sample"
"""Likewise, where a log has any."""


def period_shares(item: Entry, skip: int) -> pd.DataFrame:
    """Exposed communication and wait as shares of the time of record, of each synchronisation period.

    Both are means over the logged ranks (of a log of statistics: the median over the ranks) of the sum over the period,
    over the period's time of record. The wait is a part of the exposed communication.

    Returns:
        ``exposed_share`` and ``wait_share``, one row a kept iteration, as in ``period_means``; indexed by step.
        ``wait_share`` is NaN where the log cannot tell waits.
    """
    record = record_iterations(item)
    clock = period_means(item, record, skip)
    period = record.set_index("step")["period"].reindex(clock.index)
    frame = item.run.iterations[item.run.iterations["step"].isin(clock.index)]
    seconds = pd.DataFrame(
        {"exposed_share": frame[list(EXPOSED_SPANS)].sum(axis=1), "wait_share": 0.0, "step": frame["step"]}
    )
    calls = synchronisation_calls(item, frame)
    seconds.loc[calls.index, "wait_share"] = calls["wait_seconds"]
    if item.summary:
        seconds = seconds[frame["statistic"] == "median"]
    # Mean over ranks in each step, mean over the steps of the period: over the mean time of record of these steps.
    means = seconds.groupby("step").mean().reindex(clock.index).groupby(period).transform("mean")
    shares = means.div(clock, axis=0)
    if untold_actions(item)[0]:
        shares["wait_share"] = math.nan
    return shares


def run_table(entries: Sequence[Entry], skip: int) -> pd.DataFrame:
    """One row a run and series of strong or weak scaling, ordered by size; empty where there is no such series.

    To the columns of ``size_table`` come the shares (median over iterations) and, of speed-up, efficiency and shares,
    the 5th and 95th percentile over iterations; and where a log has any, joules a sample.
    """
    sizes = size_table(entries, skip)
    if sizes.empty or not sizes["scaling"].isin((STRONG, WEAK)).any():
        return pd.DataFrame()
    sizes = sizes[sizes["scaling"].isin((STRONG, WEAK))]
    for low, high in (("p5", "p95"), ("p95", "p5")):
        ratio = sizes["iteration_seconds"] / sizes[f"iteration_{high}_seconds"]
        sizes = sizes.assign(
            **{f"speedup_{low}": sizes["speedup"] * ratio},
            **{f"iteration_efficiency_{low}": sizes["iteration_efficiency"] * ratio},
        )
    rows = []
    for item in entries:
        if item.name in set(sizes["run"]):
            shares = period_shares(item, skip)
            row: dict[str, object] = {"run": item.name, ENERGY: energy_per_sample(item.run)[0]}
            for name in SHARES:
                row[name] = float(shares[name].median())
                row |= {f"{name}_{key}": float(np.percentile(shares[name], q)) for key, q in PERCENTILES.items()}
            rows.append(row)
    found = pd.DataFrame(rows)
    return sizes.merge(found.drop(columns=ENERGY) if found[ENERGY].isna().all() else found, on="run", how="left")


def scaling_table(runs: pd.DataFrame, scaling: str) -> pd.DataFrame:
    """One row a series and size of strong or weak scaling: medians over the runs of the size.

    Where a size was run more than once, ``_lowest`` and ``_highest`` say how far its runs differ.
    """
    part = runs[runs["scaling"] == scaling]
    repeated = bool(part.groupby(["series", "num_ranks"]).size().gt(1).any())
    rows = []
    for (series, ranks), same in part.groupby(["series", "num_ranks"], sort=False):
        first = same.iloc[0]
        row = {
            "series": series,
            "num_ranks": ranks,
            "local_batch_size": first["local_batch_size"],
            "global_batch_size": first["global_batch_size"],
            "num_runs": len(same),
            "reference_ranks": first["reference_ranks"],
            "ideal_speedup": first["ideal_speedup"],
        }
        for name in (*MEASURES, *([ENERGY] if ENERGY in same else [])):
            row[name] = same[name].median()
            if repeated:
                row |= {_named(name, "lowest"): same[name].min(), _named(name, "highest"): same[name].max()}
        row["epoch_source"] = ", ".join(dict.fromkeys(same["epoch_source"]))
        rows.append(row)
    return pd.DataFrame(rows)


def _named(name: str, statistic: str) -> str:
    """The column of a statistic; a unit stays at the end."""
    unit = "_seconds" if name.endswith("_seconds") else ""
    return f"{name.removesuffix(unit)}_{statistic}{unit}"


def core_remarks(entries: Sequence[Entry], runs: pd.DataFrame) -> list[str]:
    """What makes the times of ranks on CPUs no measure of scaling: more threads than cores, and uneven threads."""
    lines = []
    names = set(runs["run"])
    shown = [item for item in entries if item.name in names and not any(map(is_gpu, item.run.ranks["device"]))]
    # Ranks that wait in the place of computing share cores without harm.
    shown = [item for item in shown if "compute" not in item.run.emulated]
    for item in shown:
        for node, ranks in item.run.ranks.groupby("node"):
            cores = set().union(*(_cores(text) for text in ranks["cores"]))
            if cores and ranks["threads"].sum() > len(cores):
                lines.append(
                    f"{item.name}: its {ranks_text(len(ranks))} on {node} share {len(cores)} cores "
                    f"({ranks['threads'].sum()} threads): its times say nothing about as many devices."
                )
    threads = {item.name: int(item.run.ranks["threads"].max()) for item in shown}
    if len(set(threads.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in threads.items())
        lines.append(f"Threads of a rank differ, so speed-up is not over cores: {said}.")
    return lines


def _cores(text: str) -> set[int]:
    """The cores of ``0-3,8``; none where the log does not say."""
    found = re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text)
    ranges = [part.split("-") for part in text.split(",")] if found else []
    return {core for ends in ranges for core in range(int(ends[0]), int(ends[-1]) + 1)}
