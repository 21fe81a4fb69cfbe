"""Whether a file is a run log at all: what is looked at before its tables are read."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from typing import TYPE_CHECKING, Any

from hpcsgd.config import RunConfig
from hpcsgd.record.older import SINCE, columns_of
from hpcsgd.record.schema import INDEX, RANK_COLUMNS, SCHEMA_VERSION, TABLES, Column

if TYPE_CHECKING:
    import h5py

READ_ERRORS = (
    *(OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError, ArithmeticError),
    *(AssertionError, SystemError),
)
"""What h5py and NumPy raise where a file is damaged."""

NUMBERS = ("steps_per_epoch", "total_steps", "num_learners", "learners_per_rank", "local_batch_size", "world_size")
"""What the provenance says in numbers that tables are worked out with."""

CHOICES = ("learning_rate.scaling_rule", "learning_rate.warmup")
"""Keys of which figures know every choice; of others a later hpcsgd may have more."""


class ForeignFileError(Exception):
    """The file is no run log: reading it again will not help."""


def check_log(log: h5py.File) -> int:
    """The schema version of an open log, after a look at its tables and the kind of every column.

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
    for column in columns_of("iterations", version):
        _check_column(log["iterations"], column, (width,) if column in RANK_COLUMNS else ())
    for name in TABLES:
        for column in columns_of(name, version) if version >= SINCE.get(name, 1) else ():
            _check_column(log[name], column, ())
    for name, index in INDEX.items():
        if version >= SINCE.get(name, 1):
            _check_column(log[name], Column(index, "i8", "", ""), ())
    return version


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


def _check_column(group: Any, column: Column, width: tuple[int, ...]) -> None:
    """Refuse a column of another kind or shape than the schema's."""
    dataset = group[column.name]
    kind = getattr(getattr(dataset, "dtype", None), "kind", "none")
    if kind != column.dtype[0] or dataset.shape[1:] != width:
        raise ForeignFileError(f"{dataset.name} is no column of type {column.dtype} and width {width or 1}")


def num_stored(dataset: Any) -> int:
    """Rows of a column of one dimension, as far as they are in the file: a damaged length may say any number."""
    return min(len(dataset), int(dataset.id.get_storage_size() // dataset.dtype.itemsize))


def read_provenance(log: h5py.File) -> dict[str, Any]:
    """The provenance, with a recipe whose values are of the kinds that those of a recipe are.

    Raises:
        ForeignFileError: it is no such thing.
    """
    try:
        provenance = json.loads(log.attrs["provenance"])
    except (TypeError, ValueError, RecursionError) as error:
        raise ForeignFileError(f"its provenance is no JSON ({error})") from error
    if not isinstance(provenance, dict) or not isinstance(provenance.get("config", {}), dict):
        raise ForeignFileError("its provenance has no recipe")
    for name in NUMBERS:
        number = provenance.get(name)
        if number is not None and (not _is(number, float) or not 0 < number < math.inf):
            raise ForeignFileError(f"{name} of its provenance is {number!r}, no positive number")
    if not isinstance(provenance.get("argv", []), list):
        raise ForeignFileError(f"argv of its provenance is {provenance['argv']!r}, no list of words")
    _check_section(provenance.get("config", {}), RunConfig, "")
    found: dict[str, Any] = provenance
    return found


def _check_section(section: Any, cls: type, prefix: str) -> None:
    """Refuse values of a recipe that are of another kind than the dataclass says; other keys are passed over."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, key = hints[field.name], prefix + field.name
        if field.name not in section:
            continue
        value = section[field.name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise ForeignFileError(f"{key} of its recipe is {value!r}, no section")
            assert isinstance(hint, type)
            _check_section(value, hint, f"{key}.")
        elif not _is(value, hint) or (key in CHOICES and value not in typing.get_args(hint)):
            raise ForeignFileError(f"{key} of its recipe is {value!r}, which no recipe can have")


def _is(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a type as a recipe has it; of a choice, whether it is of the choices' type."""
    if hint is typing.Any:
        return True
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, part) for part in parts)
    if origin is typing.Literal:
        return any(isinstance(value, type(part)) for part in parts)
    if origin is not None:
        return isinstance(value, (dict,) if origin is dict else (list, tuple))
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)
