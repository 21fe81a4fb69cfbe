"""Tables behind the figures: the same rows as CSV (every digit) and as Markdown (to read).

A column's name ends in its unit (``_seconds``, ``_bytes``), as everywhere in hpcsgd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

MISSING = "–"


def write_table(
    frame: pd.DataFrame, directory: Path, name: str, *, title: str, notes: Sequence[str] = (), digits: int = 4
) -> list[Path]:
    """Write ``frame`` as ``name.csv`` and ``name.md`` in ``directory``; returns both paths.

    Args:
        frame: the table; its index is not written.
        directory: where to; it exists.
        name: the files' name without ending.
        title: headline of the Markdown file.
        notes: remarks below the Markdown table, one a list item.
        digits: significant digits of numbers with a fraction in Markdown.
    """
    files = [directory / f"{name}.csv", directory / f"{name}.md"]
    frame.to_csv(files[0], index=False, lineterminator="\n")
    files[1].write_text(markdown(frame, title=title, notes=notes, digits=digits), encoding="utf-8")
    return files


def markdown(frame: pd.DataFrame, *, title: str, notes: Sequence[str] = (), digits: int = 4) -> str:
    """The Markdown text of a table, columns padded so that it reads as plain text too."""
    header = [str(column) for column in frame.columns]
    rows = [[cell(value, digits) for value in row] for row in frame.itertuples(index=False, name=None)]
    widths = [max(3, len(name), *(len(row[i]) for row in rows)) for i, name in enumerate(header)]
    numeric = [pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind) for kind in frame.dtypes]
    rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, numeric, strict=True)]
    padded = [
        [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        for row in (header, *rows)
    ]
    lines = [f"# {title}", "", _line(padded[0]), _line(rule), *map(_line, padded[1:])]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def cell(value: object, digits: int = 4) -> str:
    """One value as text: ``digits`` significant digits for fractions, a dash for what is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        whole = value.is_integer() or 10**digits <= abs(value)
        return f"{value:.0f}" if whole and abs(value) < 1e15 else f"{value:.{digits}g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _line(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
