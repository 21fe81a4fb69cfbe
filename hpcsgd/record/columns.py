"""The columns of a run log's ``/iterations``, read when they are asked for: whole, or in blocks of rows.

A log may have more ranks and iterations than fit in memory as a table. Its columns are arrays, ``[step]`` and ``[step,
rank]``; who goes through them in blocks needs as much memory as one block. Those of a step, and all of a small log,
are read with it and kept.

Importing this module imports neither h5py nor NumPy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hpcsgd.errors import UsageError, reason
from hpcsgd.record.older import SINCE
from hpcsgd.record.schema import ACTIONS, ITERATION_COLUMNS, RANK_COLUMNS, SCHEMA_VERSION, STATISTICS
from hpcsgd.record.sound import READ_ERRORS, ForeignFileError

if TYPE_CHECKING:
    import h5py
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

T = TypeVar("T")

NAMES = tuple(column.name for column in ITERATION_COLUMNS + RANK_COLUMNS)
PER_STEP = frozenset(column.name for column in ITERATION_COLUMNS)
PER_RANK = frozenset(column.name for column in RANK_COLUMNS)

BLOCK_BYTES = 64 * 2**20
"""About what the arrays of one block take."""

HELD_BYTES = 16 * 2**20
"""Columns that take no more than this in all are read when the log is opened."""

ITEM_BYTES = 8

ATTEMPTS = 10
UNQUIET_READS = 3
PAUSE_SECONDS = 0.02


@dataclass(frozen=True, eq=False)
class Columns:
    """The rows of ``/iterations`` that were complete when the log was opened: T steps of K ranks, or statistics.

    What is asked for is read from the file then, which the run may be writing all the while.

    Attributes:
        path: the log.
        axis: what the second axis is: ``rank``, or ``statistic``, of ``schema.STATISTICS``.
        labels: rank of each place of the second axis, or 0, 1, 2; ``[K]``.
        steps: ``[T]``, as they were logged.
        version: schema version of the log. Of columns that are newer, all values are NaN.
        chunk_rows: rows that lie together in the file.
        held: the columns that were read with the log: those of a step, and of a small log all.
    """

    path: Path
    axis: Literal["rank", "statistic"]
    labels: NDArray[np.int64]
    steps: NDArray[np.int64]
    version: int = SCHEMA_VERSION
    chunk_rows: int = 1
    held: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """T, K."""
        return len(self.steps), len(self.labels)

    def column(self, name: str, rows: slice = slice(None)) -> NDArray[Any]:
        """Some rows of a column: ``[t]``, or ``[t, K]`` of those that each rank has its own of; by place, not by step.

        A rank that was lost has NaN from then on, and 0 samples. ``action`` is a place in ``schema.ACTIONS``.

        Raises:
            UsageError: the file cannot be read, or has lost rows since it was opened.
        """
        return self.read([name], rows)[name]

    def read(self, names: Sequence[str], rows: slice = slice(None)) -> dict[str, NDArray[Any]]:
        """Some rows of several columns, as :meth:`column` gives one."""
        start, stop, stride = rows.indices(len(self.steps))
        assert stride == 1 and all(name in PER_STEP or name in PER_RANK for name in names), (rows, names)
        rows = slice(start, max(start, stop))
        missing = [name for name in names if name not in self.held]
        found = settled(self.path, lambda: self._read(missing, rows)) if missing else {}
        return {name: found[name] if name in found else self.held[name][rows] for name in names}

    def blocks(
        self, names: Sequence[str], rows: slice = slice(None), num_bytes: int = BLOCK_BYTES
    ) -> Iterator[tuple[slice, dict[str, NDArray[Any]]]]:
        """Go through some rows of several columns.

        Args:
            names: the columns.
            rows: by place.
            num_bytes: that a block may take, at least those of one row (in a file: of the rows that lie together).

        Yields:
            the places of the rows of a block, and its columns by name, as :meth:`column` gives them.

        Raises:
            UsageError: as from :meth:`column`.
        """
        start, stop, _ = rows.indices(len(self.steps))
        size = max(1, num_bytes // row_bytes(names, len(self.labels)) // self.chunk_rows) * self.chunk_rows
        while start < stop:
            # A block ends where a chunk does: no chunk is read twice.
            end = min(stop, (start // size + 1) * size)
            yield slice(start, end), self.read(names, slice(start, end))
            start = end

    def table(
        self,
        rows: slice = slice(None),
        places: Sequence[int] | None = None,
        names: Sequence[str] = NAMES,
    ) -> pd.DataFrame:
        """Columns in long form, as :attr:`hpcsgd.record.reader.Run.iterations` has them.

        Args:
            rows: by place.
            places: of the second axis; None: all.
            names: the columns, ``start_seconds`` among them.

        Raises:
            UsageError: as from :meth:`column`.
        """
        import numpy as np
        import pandas as pd

        def in_words(texts: tuple[str, ...], numbers: NDArray[np.integer[Any]]) -> Any:
            return pd.Series(texts).take(numbers).array

        every = slice(None) if places is None else [*places]
        labels, steps = self.labels[every], self.steps[rows]
        tiled = np.tile(labels, len(steps))
        table: dict[str, Any] = {
            "step": np.repeat(steps, len(labels)),
            self.axis: in_words(STATISTICS, tiled) if self.axis == "statistic" else tiled,
        }
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        none = slice(0, 0)
        for _, block in self.blocks(names, rows) if len(steps) else [(none, self.read(names, none))]:
            for name, values in block.items():
                own = values[:, every].reshape(-1) if name in PER_RANK else np.repeat(values, len(labels))
                parts[name].append(own)
        table |= {name: np.concatenate(parts.pop(name)) for name in names}
        if "action" in table:
            table["action"] = in_words(ACTIONS, table["action"])
        frame = pd.DataFrame(table)
        return frame[frame["start_seconds"].notna()].reset_index(drop=True)

    def _read(self, names: Sequence[str], rows: slice) -> dict[str, NDArray[Any]]:
        """Those of the file."""
        import h5py
        import numpy as np

        with h5py.File(self.path, "r", locking=False) as log:
            group = log["iterations"]
            if not np.array_equal(group["step"][rows], self.steps[rows]):
                raise ValueError("it has other rows than when it was opened; was the run begun anew?")
            return read_columns(group, names, rows, self.version)


def row_bytes(names: Sequence[str], width: int) -> int:
    """What a row of some columns takes in memory, at most."""
    return ITEM_BYTES * sum(width if name in PER_RANK else 1 for name in names) or 1


def read_columns(group: h5py.Group, names: Sequence[str], rows: slice, version: int) -> dict[str, NDArray[Any]]:
    """Some rows of columns of ``/iterations`` in an open log; of those that its version does not have, NaN."""
    import numpy as np

    width = group["loss"].shape[1:]
    found = {}
    for name in names:
        if SINCE.get(name, 1) <= version:
            found[name] = group[name][rows]
        else:
            found[name] = np.full((rows.stop - rows.start, *(width if name in PER_RANK else ())), np.nan)
    if np.any(found.get("action", 0) >= len(ACTIONS)):
        raise ValueError(f"an action is none of {', '.join(ACTIONS)}")
    return found


def open_columns(
    file: Path, group: h5py.Group, axis: Literal["rank", "statistic"], version: int, num_rows: int
) -> Columns:
    """The first so many rows of ``/iterations`` in an open log."""
    rows, labels = slice(0, num_rows), group[axis][:]
    if axis == "statistic" and labels.tolist() != [*range(len(STATISTICS))]:
        raise ValueError(f"its statistics are {labels.tolist()}, not {', '.join(STATISTICS)}")
    is_small = num_rows * row_bytes(NAMES, len(labels)) <= HELD_BYTES
    held = read_columns(group, NAMES if is_small else [*PER_STEP], rows, version)
    return Columns(file, axis, labels, group["step"][rows], version, (group["loss"].chunks or (1,))[0], held)


def settled(file: Path, read: Callable[[], T]) -> T:
    """What ``read`` gives of a log that may be written meanwhile: called again where it fails or the file changes.

    Raises:
        UsageError: it fails each time, or the file is no run log.
    """
    num_reads = 0
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE_SECONDS * attempt)
        try:
            before = _stamp(file)
            found = read()
            after = _stamp(file)
        except ForeignFileError as error:
            raise UsageError(f"{file}: not a run log of hpcsgd: {error}") from error
        except READ_ERRORS as error:
            # The run may be writing: what was read first does not fit what was read later.
            problem = error
            continue
        num_reads += 1
        if after == before or num_reads == UNQUIET_READS:
            return found
    raise UsageError(f"{file}: cannot be read as a run log: {reason(problem)}") from problem


def _stamp(file: Path) -> tuple[int, int, int]:
    """What changes when the file does."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
