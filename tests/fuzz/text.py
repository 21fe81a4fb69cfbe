"""Odd things that can happen to a text file, of whatever language."""

from __future__ import annotations

from collections.abc import Callable
from random import Random


def lines_moved(rng: Random, text: str) -> str:
    """A line is gone, twice there, moved, indented, cut, or has a tab."""
    lines = text.splitlines()
    place = rng.randrange(len(lines))
    line = lines.pop(place)
    changed = rng.choice(
        [[], [line, line], [f"  {line}"], [f"\t{line}"], [line.strip()], [line[: rng.randrange(len(line) + 1)]], None]
    )
    if changed is None:
        lines.insert(rng.randrange(len(lines) + 1), line)
    else:
        lines[place:place] = changed
    return "\n".join(lines) + "\n"


ENCODINGS: tuple[Callable[[str], bytes], ...] = (
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.encode("utf-16"),
    lambda text: text.encode("utf-32-be"),
    lambda text: f"# größe\n{text}".encode("latin1", "replace"),
    lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.replace("\n", "\r").encode(),
    lambda text: text.replace(" ", "\u00a0").encode(),
    lambda text: text.replace(": ", "：").replace(" = ", "＝").encode(),
    lambda text: text.encode() + b"\0",
    lambda text: text.encode() + b"\x0c\n",
    lambda text: text.encode() + b"\x80\n",
    lambda text: text.encode() + b"\x1a",
    lambda text: f"# \u2028\u0085\ud7ff\n{text}".encode(),
    lambda text: text.rstrip("\n").encode(),
    lambda text: b"\n" * 3 + text.encode(),
    lambda text: b"",
    lambda text: b"\n",
    lambda text: b"# only a comment\n",
    lambda text: b"\0" * 100,
)


def encoded(rng: Random, text: str) -> bytes:
    """Other bytes than UTF-8 with line feeds."""
    return rng.choice(ENCODINGS)(text)
