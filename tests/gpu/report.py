"""What the check has found, kept as it is found: a file of lines, and at the end a table and a JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["", "ok", "slow", "left out", "wrong", "failed"]
"""Nothing where there is nothing to be held against; ``wrong`` are numbers, ``failed`` what did not come to its end."""

BAD = ("wrong", "failed")
LINES = "lines"
"""The file that a worker appends to."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        stage: where it comes from.
        what: is looked at.
        figures: by name, each with its unit.
        verdict: what they mean.
        note: why.
    """

    stage: str
    what: str
    figures: Mapping[str, float | str] = field(default_factory=dict)
    verdict: Verdict = ""
    note: str = ""

    def cells(self) -> tuple[str, str, str, str]:
        """As a table shows it."""
        figures = ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in self.figures.items())
        return self.stage, self.what, figures, ": ".join(filter(None, (self.verdict, self.note)))


@dataclass(frozen=True)
class Mark:
    """The begin or the end of a stage; a worker that is past ``seconds`` in one hangs."""

    mark: Literal["begin", "end"]
    stage: str
    seconds: float


class Report:
    """Appends rows and marks to the file that who started this process reads; nothing is lost by a kill."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is there."""
        self._path = folder / LINES

    def add(self, entry: Row | Mark) -> None:
        """Keep one."""
        with self._path.open("a") as lines:
            lines.write(json.dumps(asdict(entry)) + "\n")


def read_entry(line: str) -> Row | Mark:
    """What a line of the file says."""
    values = json.loads(line)
    return Mark(**values) if "mark" in values else Row(**values)


def shown(value: float | str) -> str:
    """A figure with as many digits as one reads."""
    if isinstance(value, str):
        return value
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def as_table(rows: Iterable[Row]) -> str:
    """The rows as a table in Markdown, with columns of one width where they are short."""
    cells = [("stage", "what", "figures", "verdict"), *(row.cells() for row in rows)]
    escaped = [tuple(cell.replace("|", "/") for cell in row) for row in cells]
    widths = [min(60, max(len(row[column]) for row in escaped)) for column in range(4)]
    lines = [
        "| " + " | ".join(f"{cell:{width}s}" for cell, width in zip(row, widths, strict=True)) + " |" for row in escaped
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def card_of(rows: Sequence[Row]) -> str:
    """The card that the environment names, as part of a file's name; ``unknown`` where the check did not get there."""
    found = next((row.figures["card"] for row in rows if "card" in row.figures), "unknown")
    return re.sub(r"[^A-Za-z0-9]+", "_", str(found)).strip("_")


def summary(rows: Sequence[Row], seconds: float) -> str:
    """How many rows there are of each verdict."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("ok", "slow", "left out", *BAD)}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{len(rows)} rows: {told}; {seconds:.0f} s"


def write_results(folder: Path, rows: Sequence[Row], seconds: float, facts: Mapping[str, Any]) -> Path:
    """Write ``CARD.md`` and ``CARD.json``, and give the former; ``facts`` are kept beside the rows."""
    card, day = card_of(rows), time.strftime("%Y-%m-%d")
    content = {"card": card, "date": day, "seconds": round(seconds, 1), **facts, "rows": [asdict(row) for row in rows]}
    (folder / f"{card}.json").write_text(json.dumps(content, indent=1) + "\n")
    table = folder / f"{card}.md"
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    table.write_text(f"# {card}, {day}\n\n{summary(rows, seconds)}; {told}.\n\n{as_table(rows)}\n")
    return table
