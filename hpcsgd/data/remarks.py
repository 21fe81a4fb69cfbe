"""What users are told of their data: what was left out, and what was not kept of it. One line each, with counts."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

_SHOWN = 3


def tell(lines: Iterable[str]) -> None:
    """Lines for the user, on stderr."""
    for line in lines:
        print(f"hpcsgd: {line}", file=sys.stderr, flush=True)


def printable(name: object) -> str:
    """A name of a file or folder as it can be printed anywhere: bytes that are no UTF-8 as ``\\xe9``."""
    text = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def name_some(names: Sequence[object]) -> str:
    """How many there are, and the first few: ``5 (a, b, c, ...)``."""
    shown = [printable(name) for name in names[:_SHOWN]] + ["..."] * (len(names) > _SHOWN)
    return f"{len(names)} ({', '.join(shown)})"


def tell_changes(changes: Counter[str]) -> list[str]:
    """A line on what was lost or not applied of images; none where nothing was."""
    told = ", ".join(f"{count} with {change}" for change, count in sorted(changes.items()))
    return [f"images {told}"] if told else []


class LeftOut:
    """What is not taken of a source, by its kind."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._names: dict[str, list[str]] = {}
        self._endings: Counter[str] = Counter()

    def add(self, kind: str, path: str | Path) -> None:
        """Count a file or folder; ``kind`` follows "left out"."""
        self._names.setdefault(kind, []).append(os.path.relpath(path, self._source))

    def add_file(self, path: str) -> None:
        """Count a file of a class that has no ending of an image."""
        self._endings[os.path.splitext(path)[1].lower() or "no ending"] += 1

    def __str__(self) -> str:
        parts = [f"{kind}: {name_some(names)}" for kind, names in sorted(self._names.items())]
        if self._endings:
            endings = ", ".join(f"{count} {printable(ending)}" for ending, count in sorted(self._endings.items()))
            parts.append(f"files that are read as no image: {endings}")
        return "; ".join(parts)
