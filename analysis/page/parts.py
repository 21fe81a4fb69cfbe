"""A chapter as drawn: its figures, the tables behind them, and what is missing, as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from chapters.figure import Chapter
from page.pictures import Picture, picture
from runs.logs import Entry
from runs.workloads import Workload
from tables.write import cell

MOST_ROWS = 200
"""Rows of a table in the page; the scripts write all of them."""


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        name: of its files.
        question: what it answers.
        reading: how to read it.
        picture: as it stands in the page.
    """

    name: str
    question: str
    reading: str
    picture: Picture


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and the number in full where the text has it rounded; both as HTML may have them escaped."""

    text: str
    number: str = ""


@dataclass(frozen=True)
class Table:
    """The first rows of a table.

    Attributes:
        name: of its files.
        header: names of the columns.
        numeric: whether the column has numbers.
        rows: cells.
        total: rows that there are.
    """

    name: str
    header: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: int


@dataclass(frozen=True)
class Part:
    """A chapter as drawn.

    Attributes:
        name, title, intro: of the chapter.
        figures, tables: in order.
        remarks: what was not drawn, and what must be known.
        frames: the tables by name, with all rows.
    """

    name: str
    title: str
    intro: str
    figures: Sequence[Drawn] = ()
    tables: Sequence[Table] = ()
    remarks: Sequence[str] = ()
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def draw(chapter: Chapter, entries: Sequence[Entry], studies: Sequence[Workload], directory: Path) -> Part:
    """Draw a chapter into ``directory`` and take it from there."""
    loaded: Sequence[Any] = studies if chapter.of_studies else entries
    if not loaded:
        what = "batch-size studies (hpcsgd study run)" if chapter.of_studies else "runs"
        remark = f"There are no {what} to draw it from."
        return Part(chapter.name, chapter.title, chapter.intro, remarks=[remark])
    own = directory / chapter.name
    own.mkdir()
    files, remarks = chapter.draw(loaded, [], own)
    # A table without a row may have no columns either, and then no line.
    filled = [file for file in files if file.suffix == ".csv" and file.read_text(encoding="utf-8").strip()]
    frames = {file.stem: pd.read_csv(file) for file in filled}
    return Part(
        chapter.name,
        chapter.title,
        chapter.intro,
        [drawn(chapter, file) for file in files if file.suffix == ".svg"],
        [table(name, frame) for name, frame in frames.items()],
        list(dict.fromkeys(remarks)),
        frames,
    )


def drawn(chapter: Chapter, file: Path) -> Drawn:
    """A figure of a chapter, from its SVG."""
    figure = chapter.figure_of(file.stem)
    question, reading = (figure.question, figure.how_to_read) if figure else ("", "")
    alt = escape(f"{chapter.title}: {file.stem.replace('_', ' ')}. {reading}".strip())
    return Drawn(file.stem, question, reading, picture(file, file.with_suffix(".png"), alt))


def table(name: str, frame: pd.DataFrame) -> Table:
    """The first rows of a table, as text."""
    numeric = tuple(
        pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind) for kind in frame.dtypes
    )
    rows = [
        tuple(number(value) if is_number else Cell(cell(value)) for value, is_number in zip(row, numeric, strict=True))
        for row in frame.head(MOST_ROWS).itertuples(index=False, name=None)
    ]
    return Table(name, tuple(map(str, frame.columns)), numeric, tuple(rows), len(frame))


def number(value: Any) -> Cell:
    """A number as text, which is sorted by all its digits."""
    text = cell(value)
    if pd.isna(value):
        return Cell(text)
    return Cell(text, repr(float(value)).replace("inf", "Infinity"))
