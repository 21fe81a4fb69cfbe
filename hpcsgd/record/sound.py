"""Whether a file is a run log at all: what is looked at before its tables are read."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from hpcsgd.record.schema import INDEX, ITERATION_COLUMNS, RANK_COLUMNS, SCHEMA_VERSION, TABLES, Column

if TYPE_CHECKING:
    import h5py

READ_ERRORS = (
    *(OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError, ArithmeticError),
    *(AssertionError, SystemError),
)
"""What h5py and NumPy raise where a file is damaged."""

SINCE = {"utilisation": 2, "tuner": 2}
"""The schema version from which on a column or table is there."""


class ForeignFileError(Exception):
    """The file is no run log: reading it again will not help."""


def check_log(log: h5py.File) -> None:
    """Look at the shape of an open log: its version, its tables, and the kind of every column.

    Raises:
        ForeignFileError: it is none of ours, or of a newer hpcsgd.
        KeyError: a table or a column is missing.
    """
    version = _version(log)
    axes = [name for name in ("rank", "statistic") if name in log["iterations"]]
    if not axes:
        raise ForeignFileError("its iterations have neither rank nor statistic")
    width = num_stored(log["iterations"][axes[0]])
    if len(log["iterations"][axes[0]]) != width:
        raise ForeignFileError(f"its iterations are of {len(log['iterations'][axes[0]])} ranks, more than it holds")
    _check_columns(log["iterations"], version, ITERATION_COLUMNS, ())
    _check_columns(log["iterations"], version, RANK_COLUMNS, (width,))
    for name, columns in TABLES.items():
        if version >= SINCE.get(name, 1):
            _check_columns(log[name], version, columns, ())
    for name, index in INDEX.items():
        if version >= SINCE.get(name, 1):
            _check_columns(log[name], version, [Column(index, "i8", "", "")], ())


def _version(log: h5py.File) -> int:
    """The schema version of a log."""
    import numpy as np

    version = log.attrs.get("schema_version")
    if version is None or "provenance" not in log.attrs:
        raise ForeignFileError("it has no schema_version and provenance")
    if not isinstance(version, np.integer) or version < 1:
        raise ForeignFileError(f"its schema_version is {version!r}, no number from 1 to {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise ForeignFileError(f"its schema version is {version}, this hpcsgd reads up to {SCHEMA_VERSION}")
    return int(version)


def _check_columns(group: Any, version: int, columns: Any, width: tuple[int, ...]) -> None:
    """Refuse columns of another kind or shape than the schema's."""
    for column in columns:
        if version < SINCE.get(column.name, 1):
            continue
        dataset = group[column.name]
        kind = getattr(getattr(dataset, "dtype", None), "kind", "none")
        if kind != column.dtype[0] or dataset.shape[1:] != width:
            raise ForeignFileError(f"{dataset.name} is no column of type {column.dtype} and width {width or 1}")


def num_stored(dataset: Any) -> int:
    """Rows of a column of one dimension, as far as they are in the file: a damaged length may say any number."""
    return min(len(dataset), int(dataset.id.get_storage_size()) // dataset.dtype.itemsize)


def read_provenance(log: h5py.File) -> dict[str, Any]:
    """The provenance, with a recipe in which every section is one.

    Raises:
        ForeignFileError: it is no such thing.
    """
    from hpcsgd.config import RunConfig

    try:
        provenance = json.loads(log.attrs["provenance"])
    except (TypeError, ValueError) as error:
        raise ForeignFileError(f"its provenance is no JSON ({error})") from error
    config = provenance.get("config", {}) if isinstance(provenance, dict) else None
    if not isinstance(config, dict):
        raise ForeignFileError("its provenance has no recipe")
    sections = [
        field.name for field in dataclasses.fields(RunConfig) if dataclasses.is_dataclass(field.default_factory)
    ]
    wrong = [name for name in sections if not isinstance(config.get(name, {}), dict)]
    if wrong:
        raise ForeignFileError(f"{wrong[0]} of its recipe is {config[wrong[0]]!r}, no section")
    found: dict[str, Any] = provenance
    return found
