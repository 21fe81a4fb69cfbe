"""What logs of older schema versions have in place of today's columns, and how that reads as today's.

Importing this module imports neither h5py nor NumPy.
"""

from __future__ import annotations

from typing import Any

from hpcsgd.record.schema import INDEX, ITERATION_COLUMNS, RANK_COLUMNS, SCHEMA_VERSION, TABLES, Column

SINCE = {
    "utilisation": 2,
    "tuner": 2,
    "gradient_norm": 3,
    "loss_weight": 4,
    "loss_scale": 4,
    "compile_seconds": 4,
    "sync_period": 5,
    "divergence": 5,
    "peak_memory_bytes": 5,
    "gradient_square": 5,
    "gradient_variance": 5,
    "learner_gradient_norm": 5,
    "hidden_seconds": 5,
    "energy_joules": 6,
    "node_energy_joules": 6,
    "clock_hertz": 6,
    "memory_bytes": 6,
}
"""The schema version from which on a column or table is there."""

METRIC_ROWS_SINCE = 3
"""From this version on, an evaluation of a split is a row a metric; before, it was one row with a column each."""

METRIC_COLUMNS = (
    Column("loss", "f8", "1", "mean loss of the consensus model over the split"),
    Column("accuracy", "f8", "1", "fraction of the split that the consensus model gets right"),
)
"""What those columns were."""


def columns_of(table: str, version: int = SCHEMA_VERSION) -> tuple[Column, ...]:
    """The columns of ``iterations`` or of a table of ``TABLES`` in logs of a schema version, without the index."""
    columns = ITERATION_COLUMNS + RANK_COLUMNS if table == "iterations" else TABLES[table]
    if table == "evaluations" and version < METRIC_ROWS_SINCE:
        columns = (*(c for c in columns if c.name not in ("metric", "value")), *METRIC_COLUMNS)
    return tuple(c for c in columns if SINCE.get(c.name, 1) <= version)


def read_rows(group: Any, table: str, version: int, count: int) -> dict[str, Any]:
    """The first rows of a table, as a log of today has them.

    Args:
        group: the HDF5 group of the table.
        table: ``iterations`` or one of ``TABLES``.
        version: schema version of the log.
        count: rows to read.

    Returns:
        Arrays by the names of today's columns, and the index. Of evaluations with a column a metric, a row
        becomes one for each metric: loss, then accuracy.
    """
    import numpy as np

    names = [INDEX[table], *(column.name for column in columns_of(table, version))]
    found = {name: group[name][:count] for name in dict.fromkeys(names)}
    if table == "evaluations" and "metric" not in found:
        values = [found.pop(column.name) for column in METRIC_COLUMNS]
        found = {name: np.repeat(column, len(values)) for name, column in found.items()}
        found["metric"] = np.tile(np.array([c.name.encode() for c in METRIC_COLUMNS]), len(values[0]))
        found["value"] = np.stack(values, axis=1).reshape(-1)
        found[INDEX[table]] = np.arange(len(found["value"]))
    for column in columns_of(table):
        if column.name not in found:
            like = found["loss" if column in RANK_COLUMNS else INDEX[table]]
            found[column.name] = np.full(like.shape, np.nan)
    return found
