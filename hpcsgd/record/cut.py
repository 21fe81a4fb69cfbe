"""Cut a run log back to the rows before a checkpoint, to go on from there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hpcsgd.errors import UsageError
from hpcsgd.record.schema import (
    EPOCH_COLUMNS,
    EVALUATION_COLUMNS,
    ITERATION_COLUMNS,
    RANK_COLUMNS,
    SEGMENT_COLUMNS,
    TUNER_COLUMNS,
)
from hpcsgd.record.writer import RunLogWriter

COLUMNS = {
    "epochs": EPOCH_COLUMNS,
    "evaluations": EVALUATION_COLUMNS,
    "segments": SEGMENT_COLUMNS,
    "tuner": TUNER_COLUMNS,
}


def continue_log(
    path: Path,
    num_rows: Mapping[str, int],
    *,
    ranks: Sequence[Mapping[str, object]],
    rank_labels: Sequence[int],
    rank_axis: Literal["rank", "statistic"],
    provenance: Mapping[str, object],
) -> RunLogWriter:
    """A writer of a log that begins with the first ``num_rows`` rows of each table of the log at ``path``.

    The new log takes the old one's place only when it has those rows: a crash in between leaves the old one.

    Raises:
        UsageError: the old log cannot be read, or has fewer rows than that.
    """
    import h5py

    beside = path.with_name(path.name + ".resumed")
    try:
        with h5py.File(path, "r", locking=False) as old:
            writer = RunLogWriter(
                beside, ranks=ranks, rank_labels=rank_labels, rank_axis=rank_axis, provenance=provenance
            )
            _copy(old, writer, num_rows, path)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        beside.unlink(missing_ok=True)
        raise UsageError(
            f"{path}: cannot go on with this log: {error}; move it away to go on with a log of the coming steps"
        ) from error
    os.replace(beside, path)
    writer.path = path
    return writer


def _copy(old: Any, writer: RunLogWriter, num_rows: Mapping[str, int], path: Path) -> None:
    """Copy the rows that count."""
    for name, count in num_rows.items():
        group = old[name]
        short = [key for key, column in group.items() if key not in ("rank", "statistic") and len(column) < count]
        if short:
            raise UsageError(
                f"{path}: {name}/{short[0]} has lost rows: it has {len(group[short[0]])} of the checkpoint's {count}; "
                "move the log away to go on with a log of the coming steps"
            )
    count = num_rows["iterations"]
    if count:
        rows = old["iterations"]
        writer.append_iterations(
            rows["step"][:count],
            {column.name: rows[column.name][:count] for column in ITERATION_COLUMNS},
            {column.name: rows[column.name][:count] for column in RANK_COLUMNS},
        )
    append = {
        "epochs": writer.append_epochs,
        "evaluations": writer.append_evaluations,
        "tuner": writer.append_tuner,
    }
    for name, append_rows in append.items():
        if num_rows[name]:
            append_rows(_rows(old[name], name, num_rows[name]))
    for row in _rows(old["segments"], "segments", num_rows["segments"]):
        writer.append_segment(row)


def _rows(group: Any, name: str, count: int) -> list[dict[str, object]]:
    """The first rows of a table, as dictionaries of plain values."""
    columns = {column.name: group[column.name][:count] for column in COLUMNS[name]}
    return [
        {key: value.decode() if isinstance(value, bytes) else np.asarray(value).item() for key, value in row.items()}
        for row in (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    ]
