"""The run log's writer: one HDF5 file, made whole at the start and only ever extended.

A row counts once its value in the index column of its table (``step``, ``epoch``, ...) is in the file. That column
is filled with -1, and it is written only after all other columns of the row have been. So a reader, or a crash, at any
moment sees whole rows.
"""

from __future__ import annotations

import atexit
import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.disk import OrderedFile
from hpcsgd.record.layout import PAGE_BYTES, make_log, table_columns
from hpcsgd.record.schema import INDEX, ITERATION_COLUMNS, RANK_COLUMNS, STATISTICS, STATUS

_SHARED = frozenset(column.name for column in ITERATION_COLUMNS)
_PER_RANK = frozenset(column.name for column in RANK_COLUMNS)


class RunLogWriter:
    """Writes one run log; only rank 0 has one. Every append is in the file when it returns.

    Args:
        path: file to make; one that is there already is replaced.
        ranks: rows of ``/ranks``, every column of ``RANK_TABLE`` given.
        rank_labels: label of each entry of the second axis: ranks, or 0, 1, 2 for ``STATISTICS``.
        rank_axis: what the second axis is: ``rank`` or ``statistic``.
        provenance: kept as JSON at the root.
        chunk_rows: rows of one chunk, at least: best the number of rows that one append brings.

    Raises:
        OSError: the file cannot be made or written; from every method that writes.
    """

    def __init__(
        self,
        path: Path,
        *,
        ranks: Sequence[Mapping[str, object]],
        rank_labels: Sequence[int],
        rank_axis: Literal["rank", "statistic"],
        provenance: Mapping[str, object],
        chunk_rows: int = 100,
    ) -> None:
        assert rank_axis == "rank" or list(rank_labels) == list(range(len(STATISTICS))), rank_labels
        self.path = Path(path)
        make_log(
            self.path,
            ranks=ranks,
            rank_axis=rank_axis,
            rank_labels=rank_labels,
            provenance=provenance,
            chunk_rows=chunk_rows,
        )
        self._disk = OrderedFile(self.path)
        # Opened anew, HDF5 knows of no holes in the file, and what it aligns fits in none of those that it makes: all
        # that it adds, it adds at the end. No chunk cache: rows go to their place in the chunk, the rest of which is
        # neither read nor written again.
        self._file = h5py.File(self._disk, "r+", rdcc_nbytes=0, alignment_threshold=1, alignment_interval=PAGE_BYTES)
        # HDF5 closes open files after Python's end and would then call the dead OrderedFile.
        atexit.register(self.close)
        self._columns = {
            name: {key: (column.id, column.shape[1:]) for key, column in self._file[name].items()} for name in INDEX
        }
        self._status = self._file["status"]
        self.num_rows = dict.fromkeys(INDEX, 0)

    def _append(self, name: str, index: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> None:
        """Append rows to a table: its columns first, then the index that makes them count."""
        assert np.all(index >= 0), (name, index)
        datasets = self._columns[name]
        start = self.num_rows[name]
        stop = start + len(index)
        scale, _ = datasets[INDEX[name]]
        scale.set_extent((stop,))
        # h5py's own indexing takes several times as long as a write with the places made once for all columns.
        places = {width: _place(start, stop, width) for width in {width for _, width in datasets.values()}}
        for key, values in columns.items():
            dataset, width = datasets[key]
            assert values.shape == (len(index), *width), (name, key, values.shape, len(index), width)
            dataset.set_extent((stop, *width))
            dataset.write(*places[width], np.ascontiguousarray(values, dataset.dtype))
        self._commit()
        scale.write(*places[()], index)
        self._commit()
        self.num_rows[name] = stop

    def _commit(self) -> None:
        """Bring everything written so far into the file."""
        self._file.flush()
        self._disk.commit()

    def append_iterations(
        self, step: NDArray[np.int64], shared: Mapping[str, NDArray[Any]], per_rank: Mapping[str, NDArray[Any]]
    ) -> None:
        """Append iterations.

        Args:
            step: step numbers ``[rows]``, 0 or more.
            shared: every column of ``ITERATION_COLUMNS``, each ``[rows]``.
            per_rank: every column of ``RANK_COLUMNS``, each ``[rows, labels]``.
        """
        assert shared.keys() == _SHARED, sorted(shared)
        assert per_rank.keys() == _PER_RANK, sorted(per_rank)
        self._append("iterations", np.asarray(step, "i8"), {**shared, **per_rank})

    def _append_rows(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Append rows, given as dictionaries, to a table."""
        columns = table_columns(name, rows)
        start = self.num_rows[name]
        counter = np.arange(start, start + len(rows))
        self._append(name, columns.pop(INDEX[name], counter), columns)

    def append_epochs(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Append rows to ``/epochs``, every column of ``EPOCH_COLUMNS`` given."""
        self._append_rows("epochs", rows)

    def append_evaluations(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Append rows to ``/evaluations``, every column of ``EVALUATION_COLUMNS`` given."""
        self._append_rows("evaluations", rows)

    def append_segment(self, row: Mapping[str, object]) -> None:
        """Append a row to ``/segments``, every column of ``SEGMENT_COLUMNS`` given."""
        self._append_rows("segments", [row])

    def append_tuner(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Append rows to ``/tuner``, every column of ``TUNER_COLUMNS`` given."""
        self._append_rows("tuner", rows)

    def set_status(self, name: str) -> None:
        """Set ``/status`` to one of ``STATUS``."""
        assert name in STATUS, name
        self._status[()] = np.bytes_(name)
        self._commit()

    def set_peak_memory(self, num_bytes: Mapping[int, float]) -> None:
        """Set ``peak_memory_bytes`` of ``/ranks`` by row, and of the last row of ``/segments``."""
        for row, value in num_bytes.items():
            self._file["ranks/peak_memory_bytes"][row] = value
        self._file["segments/peak_memory_bytes"][self.num_rows["segments"] - 1] = max(num_bytes.values())
        self._commit()

    def amend_provenance(self, **changes: object) -> None:
        """Give entries of the provenance other values, or add some."""
        provenance = json.loads(self._file.attrs["provenance"]) | changes
        self._file.attrs.modify("provenance", json.dumps(provenance))
        self._commit()

    def sync(self) -> None:
        """Wait until all rows are on the disk itself."""
        self._disk.sync()

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        atexit.unregister(self.close)
        try:
            self._file.close()
        finally:
            self._disk.close()

    def give_up(self) -> None:
        """Close the file without what is not in it yet; raises nothing."""
        atexit.unregister(self.close)
        self._disk.give_up()
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._disk.close()

    def __enter__(self) -> RunLogWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _place(start: int, stop: int, width: tuple[int, ...]) -> tuple[h5py.h5s.SpaceID, h5py.h5s.SpaceID]:
    """Rows from ``start`` to ``stop``, in memory and in a column that ends there."""
    shape = (stop - start, *width)
    column = h5py.h5s.create_simple((stop, *width))
    column.select_hyperslab((start, *(0 for _ in width)), shape)
    return h5py.h5s.create_simple(shape), column
