"""A run in a few parts, one after the other: how fast each was, and where its time went. Runs in, tidy tables out.

How far the parts of a run differ is the least that a difference between two runs must exceed to be one: a machine is
not equally fast at all times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hpcsgd.record.schema import EXPOSED_SPANS
from runs.logs import Entry
from tables.iterations import period_means, record_iterations
from tables.scaling import period_shares

NUM_PARTS = 5
COMPUTE = ("forward_seconds", "backward_seconds", "update_seconds")
SHARES = ("compute_share", "data_share", "exposed_share", "wait_share")


def part_table(entries: Sequence[Entry], skip: int) -> pd.DataFrame:
    """One row a run and part: at most 5 parts of whole synchronisation periods, the first ``skip`` iterations left out.

    Returns:
        ``run``, ``part``, ``samples_per_second`` (of all ranks, over the time of record) and shares of the time of
        record, means over the logged ranks: computing (forward, backward, update), waiting for data, exposed
        communication, and the wait for slower ranks, which is a part of it; NaN where the log cannot tell waits.
        Nothing of a run that has no whole period left.
    """
    tables = [_parts(item, skip) for item in entries]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _parts(item: Entry, skip: int) -> pd.DataFrame:
    """The rows of a run."""
    record = record_iterations(item)
    clock = period_means(item, record, skip)
    own = record.set_index("step").reindex(clock.index)
    turn, periods = pd.factorize(own["period"], sort=True)
    part = pd.Series(turn * min(NUM_PARTS, len(periods)) // max(1, len(periods)), index=clock.index, name="part")
    frame = item.run.iterations[item.run.iterations["step"].isin(clock.index)]
    if item.summary:
        frame = frame[frame["statistic"] == "median"]
    names = [*COMPUTE, *EXPOSED_SPANS, "data_seconds"]
    seconds = frame.groupby("step")[names].mean().reindex(clock.index)
    shares = pd.DataFrame(
        {
            "compute_share": seconds[list(COMPUTE)].sum(axis=1),
            "data_share": seconds["data_seconds"],
            "exposed_share": seconds[list(EXPOSED_SPANS)].sum(axis=1),
            "wait_share": period_shares(item, skip)["wait_share"].reindex(clock.index) * clock,
        }
    )
    of_part = clock.groupby(part).sum()
    table = shares.groupby(part).sum(min_count=1).div(of_part.replace(0, np.nan), axis=0)
    table.insert(0, "run", item.name)
    table.insert(1, "samples_per_second", own["num_samples"].groupby(part).sum() / of_part)
    return table.reset_index()
