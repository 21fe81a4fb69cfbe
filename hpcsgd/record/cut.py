"""Cut a run log back to the rows before a checkpoint, to go on from there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError, reason
from hpcsgd.record.older import read_rows
from hpcsgd.record.schema import INDEX, ITERATION_COLUMNS, RANK_COLUMNS, TABLES
from hpcsgd.record.sound import READ_ERRORS, ForeignFileError, check_log
from hpcsgd.record.writer import RunLogWriter

CONTINUED = ("epochs", "evaluations", "segments", "tuner")
"""The tables whose rows are taken over, beside the iterations."""


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
        UsageError: the old log cannot be read, has fewer rows than that, or other columns.
        OSError: the new one cannot be written.
    """
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as old:
            version = check_log(old)
            if rank_axis not in old["iterations"] or list(old["iterations"][rank_axis][:]) != list(rank_labels):
                raise UsageError("its iterations are of other ranks or statistics")
            tables = _read(old, version, num_rows)
    except (ForeignFileError, *READ_ERRORS) as error:
        raise UsageError(
            f"{path}: cannot go on with this log: {reason(error)}; move it away to go on with a log of the coming steps"
        ) from error
    beside = path.with_name(path.name + ".resumed")
    try:
        writer = RunLogWriter(beside, ranks=ranks, rank_labels=rank_labels, rank_axis=rank_axis, provenance=provenance)
        try:
            _write(writer, tables)
            os.replace(beside, path)
        except BaseException:
            writer.give_up()
            raise
    finally:
        beside.unlink(missing_ok=True)
    writer.path = path
    return writer


Tables = dict[str, Any]
"""The columns of ``iterations`` by name; of each other table, its rows."""


def _read(old: Any, version: int, num_rows: Mapping[str, int]) -> Tables:
    """The rows that count, as a log of today has them."""
    for name, count in num_rows.items():
        if count < 0:
            raise UsageError(f"the checkpoint counts {count} rows of {name}")
        group = old[name]
        short = [key for key, column in group.items() if key not in ("rank", "statistic") and len(column) < count]
        if short:
            raise UsageError(
                f"{name}/{short[0]} has lost rows: it has {len(group[short[0]])} of the checkpoint's {count}"
            )
    counts = _counts(old, num_rows)
    found = {name: read_rows(old[name], name, version, count) for name, count in counts.items()}
    return {name: columns if name == "iterations" else _rows(name, columns) for name, columns in found.items()}


def _counts(old: Any, num_rows: Mapping[str, int]) -> dict[str, int]:
    """How many rows of each table are taken over.

    Of the evaluations, those up to the last iteration that is: a log of an older version had fewer rows for the same.
    """
    iterations = num_rows["iterations"]
    steps_done = int(old["iterations"]["step"][iterations - 1]) + 1 if iterations else 0
    is_whole = old["evaluations"][INDEX["evaluations"]][:] >= 0
    evaluations = int(np.sum(is_whole & (old["evaluations"]["step"][: len(is_whole)] <= steps_done)))
    counts = {name: num_rows[name] for name in CONTINUED if num_rows.get(name)}
    return {"iterations": iterations, **counts} | ({"evaluations": evaluations} if evaluations else {})


def _write(writer: RunLogWriter, tables: Tables) -> None:
    """Write what was read."""
    columns = tables["iterations"]
    if len(columns["step"]):
        shared = {column.name: columns[column.name] for column in ITERATION_COLUMNS}
        writer.append_iterations(
            columns["step"], shared, {column.name: columns[column.name] for column in RANK_COLUMNS}
        )
    append = {"epochs": writer.append_epochs, "evaluations": writer.append_evaluations, "tuner": writer.append_tuner}
    for name, append_rows in append.items():
        if name in tables:
            append_rows(tables[name])
    for row in tables.get("segments", []):
        writer.append_segment(row)


def _rows(name: str, columns: Mapping[str, NDArray[Any]]) -> list[dict[str, object]]:
    """The rows of a table, as dictionaries of plain values."""
    names = [column.name for column in TABLES[name]]
    return [
        {key: value.decode() if isinstance(value, bytes) else np.asarray(value).item() for key, value in row.items()}
        for row in (dict(zip(names, values, strict=True)) for values in zip(*(columns[n] for n in names), strict=True))
    ]
