"""The tables of a log as CSV or Parquet: ``iterations``, tidy, and ``epochs`` and ``evaluations`` beside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcsgd.export.excerpt import Excerpt
from hpcsgd.files import whole

if TYPE_CHECKING:
    import pandas as pd


def write_csv(excerpts: list[Excerpt], path: Path) -> list[Path]:
    """Write the tables of one run as CSV, compressed if the name ends in ``.gz``.

    Returns:
        ``path``, of one row a step and rank, and two beside it: of ``x.csv``, ``x.epochs.csv`` and
        ``x.evaluations.csv``, which are of the whole run.

    Raises:
        OSError: they cannot be written.
    """
    how = {"method": "gzip", "mtime": 0} if path.name.endswith(".gz") else None
    return _write(excerpts, path, lambda table, file: table.to_csv(file, index=False, compression=how))


def write_parquet(excerpts: list[Excerpt], path: Path) -> list[Path]:
    """Write the tables of one run as Parquet; which files, as :func:`write_csv` says.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        OSError: they cannot be written.
    """
    import pyarrow  # noqa: F401  pandas would say in words of its own that it is not there

    return _write(excerpts, path, lambda table, file: table.to_parquet(file, engine="pyarrow", index=False))


def _write(excerpts: list[Excerpt], path: Path, write: Callable[[pd.DataFrame, Path], object]) -> list[Path]:
    """Write each table whole."""
    (excerpt,) = excerpts
    tables = {
        path: excerpt.iterations,
        _beside(path, "epochs"): excerpt.run.epochs,
        _beside(path, "evaluations"): excerpt.run.evaluations,
    }
    for file, table in tables.items():
        with whole(file) as unfinished:
            write(table, unfinished)
    return list(tables)


def _beside(path: Path, name: str) -> Path:
    """``x.name.csv.gz`` of ``x.csv.gz``."""
    packed = path.suffix if path.suffix == ".gz" else ""
    plain = Path(path.name.removesuffix(packed))
    return path.with_name(f"{plain.stem}.{name}{plain.suffix}{packed}")
