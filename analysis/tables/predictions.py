"""Kept predictions beside the runs that they are of: predictions and runs in, a tidy table out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpcsgd.errors import UsageError, reason
from hpcsgd.scaling.kept import FORMAT
from hpcsgd.scaling.methods import method_of
from runs.logs import Entry
from tables.sizes import measure

MEASURES = ("iteration_seconds", "samples_per_second")
FITTED, SEEN = "fitted", "seen"
"""A run that the prediction was made from, and one that it was not."""


def read(path: Path) -> dict[str, Any]:
    """A prediction that ``hpcsgd predict`` has kept.

    Raises:
        UsageError: it is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] == FORMAT:
            return dict(found)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(f"{path}: not a prediction of hpcsgd predict: {reason(error)}") from error
    raise UsageError(f"{path}: a prediction of format {found['format']}, not {FORMAT}: predict anew")


def predicted(prediction: dict[str, Any]) -> pd.DataFrame:
    """One row an algorithm and size: median, ``_low`` and ``_high`` of each measure."""
    rows = []
    for one in prediction["predictions"]:
        row = {"algorithm": one["algorithm"], "num_ranks": one["gpus"], "local_batch_size": one["local_batch"]}
        for name in MEASURES:
            row |= {name: one[name]["median"], f"{name}_low": one[name]["low"], f"{name}_high": one[name]["high"]}
        rows.append(row)
    return pd.DataFrame(rows)


def beside(entries: Sequence[Entry], prediction: dict[str, Any], skip: int) -> pd.DataFrame:
    """One row a run: its measures, whether the prediction was made from it, and what was predicted (NaN: nothing).

    ``error`` is the predicted median over the measured seconds of an iteration less 1; ``inside``, whether these are
    within the interval.
    """
    made_from = {log["sha256"] for log in prediction["logs"]}
    rows = []
    for item in entries:
        method = method_of(item.run.config)
        if method is None:
            continue
        times = measure(item, skip)
        # The mean over the run is predicted, and not the median.
        is_fitted = hashlib.sha256(item.run.path.read_bytes()).hexdigest() in made_from
        row = {name: times[name] for name in ("run", "num_ranks", "local_batch_size", *MEASURES)}
        rows.append(row | {"algorithm": method.text, "kind": FITTED if is_fitted else SEEN})
    key = ["algorithm", "num_ranks", "local_batch_size"]
    table = pd.DataFrame(rows, columns=["run", *key, *MEASURES, "kind"])
    other = predicted(prediction).rename(columns={name: f"{name}_predicted" for name in MEASURES})
    table = table.merge(other, on=key, how="left")
    seconds = table["iteration_seconds"]
    table["error"] = table["iteration_seconds_predicted"] / seconds - 1
    is_inside = (table["iteration_seconds_low"] <= seconds) & (seconds <= table["iteration_seconds_high"])
    table["inside"] = is_inside.where(np.isfinite(table["error"]), None)
    return table
