"""Run logs for tests: every value follows from its column, row and rank, so that any part of a log can be checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hpcsgd.record.reader import Run
from hpcsgd.record.schema import (
    ACTIONS,
    INDEX,
    ITERATION_COLUMNS,
    RANK_COLUMNS,
    RANK_TABLE,
    STATISTICS,
    TABLES,
    Column,
)
from hpcsgd.record.writer import RunLogWriter

PROVENANCE = {"config": {"epochs": 2}, "argv": ["hpcsgd", "train"]}


def value(column: Column, place: int, row: int, rank: int = 0) -> Any:
    """The value of a column, the ``place``-th of its table."""
    if column.dtype.startswith("S"):
        return f"{column.name[:4]}{row % 1000}"
    if column.name == "action":
        return row % len(ACTIONS)
    number = 1000 * row + 10 * place + rank
    return number + 0.25 if column.dtype == "f8" else number


def table_rows(name: str, first: int, num_rows: int) -> list[dict[str, Any]]:
    """Rows of a table of ``TABLES``; the index column counts rows."""
    return [
        {c.name: row if c.name == INDEX[name] else value(c, place, row) for place, c in enumerate(TABLES[name])}
        for row in range(first, first + num_rows)
    ]


def iterations(
    first: int, num_rows: int, width: int
) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Arguments of ``append_iterations``: steps from ``first`` on."""
    steps = range(first, first + num_rows)
    shared = {c.name: np.array([value(c, i, s) for s in steps], c.dtype) for i, c in enumerate(ITERATION_COLUMNS)}
    per_rank = {
        c.name: np.array([[value(c, i, s, r) for r in range(width)] for s in steps], c.dtype)
        for i, c in enumerate(RANK_COLUMNS)
    }
    return np.array(steps), shared, per_rank


def tiny_chunks(column: Column, width: tuple[int, ...], *sizes: int) -> tuple[int, ...]:
    """In place of ``layout.chunk_shape``: chunks of one row, so that index nodes are soon full."""
    return (1, *width)


def make_writer(path: Path, world_size: int = 2, chunk_rows: int = 100, axis: Any = "rank") -> RunLogWriter:
    """A writer of a run of ``world_size`` ranks."""
    labels: Sequence[int] = range(world_size if axis == "rank" else len(STATISTICS))
    return RunLogWriter(
        path,
        ranks=table_rows("ranks", 0, world_size),
        rank_labels=list(labels),
        rank_axis=axis,
        provenance=PROVENANCE,
        chunk_rows=chunk_rows,
    )


def check_table(frame: pd.DataFrame, name: str) -> None:
    """Every row of a table is what :func:`table_rows` made."""
    expected = pd.DataFrame(table_rows(name, 0, len(frame)), columns=[c.name for c in TABLES[name]])
    for column in TABLES[name]:
        assert frame[column.name].tolist() == expected[column.name].tolist(), (name, column.name)


def check_run(run: Run, world_size: int = 2) -> None:
    """Every row of the log is what this module made."""
    num_steps = len(run.iterations) // world_size
    steps, shared, per_rank = iterations(0, num_steps, world_size)
    frame = run.iterations
    np.testing.assert_array_equal(frame["step"], np.repeat(steps, world_size))
    np.testing.assert_array_equal(frame["rank"], np.tile(np.arange(world_size), num_steps))
    for name, values in shared.items():
        expected = np.array(ACTIONS)[values] if name == "action" else values
        np.testing.assert_array_equal(frame[name], np.repeat(expected, world_size), err_msg=name)
    for name, values in per_rank.items():
        np.testing.assert_array_equal(frame[name], values.reshape(-1), err_msg=name)
    for table in TABLES:
        check_table(getattr(run, table), table)
    assert len(run.ranks) == world_size
    assert list(run.ranks.columns) == [c.name for c in RANK_TABLE]
