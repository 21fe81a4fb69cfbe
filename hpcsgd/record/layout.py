"""Makes an empty run log: every group, column, scale and attribute that it will ever have."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcsgd.files import write_whole
from hpcsgd.record.schema import (
    INDEX,
    ITERATION_COLUMNS,
    RANK_COLUMNS,
    SCHEMA_VERSION,
    STATISTICS,
    STATUS,
    TABLES,
    Column,
)

RANK_CHUNK = 1024
"""Ranks of one chunk of a ``[step, rank]`` column, at most."""

CHUNK_BYTES = 16384
"""Chunks of few ranks hold more rows, up to about this size: fewer chunks to look up when reading."""

PAGE_BYTES = 4096
NODE_BYTES = 2048
"""Size from which a piece of the file starts on a page. Index nodes are larger, so each lies in one page: a write
that is cut at a page's end leaves a node either old or new."""

_INDEX_MEANING = {
    "step": "optimizer step, from 0",
    "evaluation": "number of the evaluation, from 0",
    "segment": "number of the segment, from 0",
    "trial": "number of the trial of the tuner, from 0",
    "rank": "rank",
    "statistic": "statistic over the ranks: 0 min, 1 median, 2 max",
}


def make_log(
    path: Path,
    *,
    ranks: Sequence[Mapping[str, object]],
    rank_axis: Literal["rank", "statistic"],
    rank_labels: Sequence[int],
    provenance: Mapping[str, object],
    chunk_rows: int,
) -> None:
    """Make a log with no rows but those of ``/ranks``; one that is there already is replaced.

    Arguments as for :class:`hpcsgd.record.writer.RunLogWriter`.

    Raises:
        OSError: the file cannot be made.
    """
    # In memory: HDF5 that meets a full disk itself may crash the process.
    made = io.BytesIO()
    with h5py.File(made, "w", alignment_threshold=NODE_BYTES, alignment_interval=PAGE_BYTES) as log:
        log.attrs["schema_version"] = SCHEMA_VERSION
        log.attrs["provenance"] = json.dumps(provenance)
        log.create_dataset("status", dtype="S16", data=np.bytes_(STATUS[0]), track_times=False)
        _make_iterations(log.create_group("iterations"), rank_axis, np.asarray(rank_labels, "i8"), chunk_rows)
        for name, columns in TABLES.items():
            _make_table(log.create_group(name), INDEX[name], columns)
        for name, values in table_columns("ranks", ranks).items():
            log["ranks"][name].resize(len(values), axis=0)
            log["ranks"][name][:] = values
    write_whole(path, made.getvalue())


def _make_column(group: h5py.Group, column: Column, chunk: tuple[int, ...], width: tuple[int, ...]) -> h5py.Dataset:
    """Make a column without rows, ``[rows]`` or ``[rows, width]``."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(chunk)
    # Else a header would change in its time of modification too.
    plist.set_obj_track_times(False)
    # Chunks are made when a column is extended, not when they are written.
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    if column.name == INDEX[group.name.strip("/")]:
        plist.set_fill_value(np.array(-1, column.dtype))
    else:
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((0, *width), (h5py.h5s.UNLIMITED, *width))
    kind = h5py.h5t.py_create(np.dtype(column.dtype), logical=True)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, column.name.encode(), kind, space, plist))
    # A row that comes and goes leaves the index node of the chunks: later, headers change in nothing but the number of
    # rows, which no cut at a page's end can halve.
    dataset.id.set_extent((1, *width))
    dataset.id.set_extent((0, *width))
    if column.unit:
        dataset.attrs["units"] = column.unit
    dataset.attrs["long_name"] = column.meaning
    return dataset


def _make_iterations(group: h5py.Group, rank_axis: str, labels: NDArray[np.int64], chunk_rows: int) -> None:
    """Make ``/iterations``."""
    width = len(labels)
    step_column = Column("step", "i8", "1", _INDEX_MEANING["step"])
    step = _make_column(group, step_column, chunk_shape(step_column, (), chunk_rows), ())
    step.make_scale("step")
    scale = group.create_dataset(rank_axis, data=labels, track_times=False)
    scale.attrs["long_name"] = _INDEX_MEANING[rank_axis]
    if rank_axis == "statistic":
        scale.attrs["labels"] = list(STATISTICS)
    scale.make_scale(rank_axis)
    for column in ITERATION_COLUMNS:
        _make_column(group, column, chunk_shape(column, (), chunk_rows), ()).dims[0].attach_scale(step)
    for column in RANK_COLUMNS:
        dataset = _make_column(group, column, chunk_shape(column, (width,), chunk_rows), (width,))
        dataset.dims[0].attach_scale(step)
        dataset.dims[1].attach_scale(scale)


def _make_table(group: h5py.Group, index: str, columns: Sequence[Column]) -> None:
    """Make a table of one-dimensional columns, in chunks as small as may be."""
    columns_by_name = {column.name: column for column in columns}
    index_column = columns_by_name.pop(index, Column(index, "i8", "1", _INDEX_MEANING.get(index, "")))
    scale = _make_column(group, index_column, chunk_shape(index_column, (), 1, 1), ())
    scale.make_scale(index)
    for column in columns_by_name.values():
        _make_column(group, column, chunk_shape(column, (), 1, 1), ()).dims[0].attach_scale(scale)


def chunk_shape(column: Column, width: tuple[int, ...], num_rows: int, num_bytes: int = CHUNK_BYTES) -> tuple[int, ...]:
    """The shape of a column's chunks: of at least so many rows and about so many bytes, and a whole number of pages.

    Chunks that end amid a page leave holes, and HDF5 looks through all of them at each chunk that it adds.
    """
    tail = tuple(min(ranks, RANK_CHUNK) for ranks in width)
    row_bytes = np.dtype(column.dtype).itemsize * math.prod(tail)
    page_rows = PAGE_BYTES // math.gcd(PAGE_BYTES, row_bytes)
    wanted = max(num_rows, num_bytes // row_bytes)
    return (-(-wanted // page_rows) * page_rows, *tail)


def table_columns(name: str, rows: Sequence[Mapping[str, object]]) -> dict[str, NDArray[Any]]:
    """The columns of rows of a table, every column of ``TABLES[name]`` given. Texts are cut off at a column's width."""
    names = {column.name for column in TABLES[name]}
    assert all(row.keys() == names for row in rows), (name, sorted(names), [sorted(row) for row in rows[:1]])
    return {c.name: np.array([_encoded(row[c.name]) for row in rows], dtype=c.dtype) for c in TABLES[name]}


def _encoded(value: object) -> object:
    """Texts as UTF-8, other values as they are."""
    return value.encode() if isinstance(value, str) else value
