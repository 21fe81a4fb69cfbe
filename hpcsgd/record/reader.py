"""The run log's reader: ``run.h5`` as pandas tables, also while the run is writing or after it was killed.

Importing this module imports neither h5py nor pandas.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpcsgd.errors import UsageError, reason
from hpcsgd.files import Finder
from hpcsgd.record.columns import Columns, open_columns, settled
from hpcsgd.record.older import columns_of, read_rows
from hpcsgd.record.schema import INDEX, STATUS, TABLES
from hpcsgd.record.sound import READ_ERRORS, check_log, num_stored, read_provenance

if TYPE_CHECKING:
    import h5py
    import pandas as pd

FILE_NAME = "run.h5"


@dataclass(frozen=True, eq=False)
class Run:
    """One run's log.

    Attributes:
        path: its ``run.h5``.
        config: the resolved recipe.
        provenance: where, when and with what it ran; ``config`` is in it too.
        status: one of ``schema.STATUS``; a killed run still says ``running``.
        columns: those of the iterations, as arrays that may be read in blocks: a log can be larger than the memory.
        epochs: one row an epoch.
        evaluations: one row a metric of an evaluation of a split, whatever the log's version;
            :func:`hpcsgd.record.frames.by_metric` gives a column a metric.
        ranks: one row a rank.
        segments: one row a start or resume.
        tuner: one row a number of learners that the tuner tried.
    """

    path: Path
    config: dict[str, Any]
    provenance: dict[str, Any]
    status: str
    columns: Columns
    epochs: pd.DataFrame
    evaluations: pd.DataFrame
    ranks: pd.DataFrame
    segments: pd.DataFrame
    tuner: pd.DataFrame

    @property
    def rank_axis(self) -> Literal["rank", "statistic"]:
        """Name of the second axis of the iterations."""
        return self.columns.axis

    @cached_property
    def iterations(self) -> pd.DataFrame:
        """One row a step and rank (or statistic: ``min``, ``median``, ``max``), ordered by both.

        Columns ``step``, ``rank`` (or ``statistic``), then all of ``ITERATION_COLUMNS`` and ``RANK_COLUMNS``;
        ``action`` as a name of ``ACTIONS``. A rank that was lost has no rows from then on. It takes 270 bytes a row: of
        many ranks and iterations, go through :attr:`columns`.

        Raises:
            UsageError: the log cannot be read any more.
        """
        return self.columns.table()

    @cached_property
    def per_step(self) -> pd.DataFrame:
        """One row a step, with numbers over its ranks: see :func:`hpcsgd.record.reduce.per_step`.

        Raises:
            UsageError: the log cannot be read any more.
        """
        from hpcsgd.record.reduce import per_step

        return per_step(self.columns)

    @property
    def emulated(self) -> str:
        """What of its machine was emulated, in words: its times are none of this machine; empty: nothing was."""
        return str(self.provenance.get("emulated", ""))


def load_run(path: str | Path) -> Run:
    """Read a run's log: every row that was complete when the reading began, perhaps later ones too.

    Args:
        path: the run's directory or its ``run.h5``.

    Raises:
        UsageError: there is no such file, or it is no readable run log.
    """
    import h5py

    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    if not file.exists():
        raise UsageError(f"{path}: no run log here ({file} does not exist); give a run's directory or its {FILE_NAME}")
    if not h5py.is_hdf5(file):
        raise UsageError(f"{file}: not a run log of hpcsgd: no HDF5 file, or one that may not be read")

    def read() -> Run:
        # What a reader can reach is settled when it opens the file; so count the rows first, then open it anew.
        with h5py.File(file, "r", locking=False) as log:
            version, num_rows = check_log(log), _num_rows(log)
        with h5py.File(file, "r", locking=False) as log:
            return _read(file, log, version, num_rows)

    return settled(file, read)


def read_status(directory: str | Path) -> str:
    """What the log of a run says of it, one of ``schema.STATUS``; ``none`` where there is no log.

    Raises:
        UsageError: the log cannot be opened.
    """
    return read_outcome(directory)[0]


def read_outcome(directory: str | Path) -> tuple[str, dict[str, Any]]:
    """What the log of a run says of it, as :func:`read_status` does, and its provenance; empty where there is no log.

    Raises:
        UsageError: the log cannot be opened.
    """
    import h5py

    file = Path(directory) / FILE_NAME
    if not file.exists():
        return "none", {}
    try:
        with h5py.File(file, "r", locking=False) as log:
            status = log["status"][()].decode("utf-8", "replace")
            provenance = json.loads(log.attrs["provenance"])
    except READ_ERRORS as error:
        raise UsageError(f"{file}: cannot be read as a run log: {reason(error)}") from error
    # A status that is half written is not yet set.
    return status if status in STATUS else STATUS[0], provenance if isinstance(provenance, dict) else {}


def _num_rows(log: h5py.File) -> dict[str, int]:
    """Rows of each table so far."""
    return {name: num_stored(log[name][index]) if name in log else 0 for name, index in INDEX.items()}


def _read(file: Path, log: h5py.File, version: int, num_rows: dict[str, int]) -> Run:
    """Read an open log, up to so many rows of each table."""
    provenance = read_provenance(log)
    status = log["status"][()].decode("utf-8", "replace")
    group, rows = log["iterations"], num_rows["iterations"]
    axis: Literal["rank", "statistic"] = "rank" if "rank" in group else "statistic"
    return Run(
        path=file,
        config=provenance.get("config", {}),
        provenance=provenance,
        # A status that is half written is not yet set.
        status=status if status in STATUS else STATUS[0],
        columns=open_columns(file, group, axis, version, _complete_rows(group, "iterations", version, rows)),
        **{name: _table(log.get(name), name, version, num_rows[name]) for name in TABLES},
    )


def _complete_rows(group: h5py.Group, name: str, version: int, num_rows: int) -> int:
    """How many rows of a table are complete: as many as have an index from 0 up, as far as all columns reach."""
    import numpy as np

    index = INDEX[name]
    missing = np.flatnonzero(group[index][:num_rows] < 0)
    num_indexed = int(missing[0]) if len(missing) else num_rows
    return min(num_indexed, *(len(group[c.name]) for c in columns_of(name, version)))


def _table(group: h5py.Group | None, name: str, version: int, num_rows: int) -> pd.DataFrame:
    """A table of one-dimensional columns, in the schema's order, texts decoded; None: of a log without it."""
    import numpy as np
    import pandas as pd

    if group is None:
        return pd.DataFrame({column.name: np.empty(0, column.dtype) for column in TABLES[name]})
    found = read_rows(group, name, version, _complete_rows(group, name, version, num_rows))
    columns = {}
    for column in TABLES[name]:
        values = found[column.name]
        columns[column.name] = np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values
    return pd.DataFrame(columns)


def find_runs(paths: Iterable[str | Path]) -> tuple[list[Run], list[str]]:
    """Read the runs found in files and directories.

    Args:
        paths: run logs, run directories, or directories with run directories one or more levels down. Links are
            followed.

    Returns:
        The runs, in the order of ``paths`` and by path inside a directory, each once; and one line for each log or
        path that could not be read.
    """
    runs: list[Run] = []
    finder = Finder()
    problems = finder.problems
    seen: set[Path] = set()
    for path in map(Path, paths):
        files = finder.files(path, {FILE_NAME}) if path.is_dir() else [path]
        if not files:
            problems.append(f"{path}: no {FILE_NAME} in it or below")
        for file in files:
            real = file.resolve()
            if real in seen:
                continue
            seen.add(real)
            try:
                runs.append(load_run(file))
            except UsageError as error:
                problems.append(str(error))
    return runs, list(dict.fromkeys(problems))
