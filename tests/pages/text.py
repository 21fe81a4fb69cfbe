"""What a page says to type, and what it shows of the answer.

Commands stand in blocks of ``sh``; a block without a language right behind one is its output, with ``...`` where lines
are left out. A file is a block of ``python`` or ``yaml`` whose first line is a comment with its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = re.compile(r"^```sh\n(?P<commands>.*?)^```\n(?:\n```\n(?P<output>.*?)^```)?", re.M | re.S)
FILE = re.compile(r"^```(?:python|yaml)\n(?P<text># (?P<name>[\w/]+\.\w+)\n.*?)^```", re.M | re.S)
NUMBER = re.compile(
    r"(?<![\w.])-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?= ?(?:%|s\b|ms\b|µs\b|[kMG]?B\b|samples/s))|-?\b\d+\.\d+(e[+-]?\d+)?"
)
"""Times, rates, sizes of files, shares and all that has a point: what another machine gives in other digits."""


@dataclass(frozen=True)
class Block:
    """The commands of a block, without comments, and the lines that the page shows of their output."""

    commands: tuple[str, ...]
    output: tuple[str, ...]


def blocks(text: str) -> Iterator[Block]:
    """The blocks of commands of a page, in order."""
    for found in BLOCK.finditer(text):
        yield Block(tuple(commands(found["commands"])), tuple((found["output"] or "").splitlines()))


def commands(block: str) -> Iterator[str]:
    """The commands of a block of shell, one each, whole: lines that go on behind a backslash are joined."""
    for line in re.sub(r" *\\\n *", " ", block).splitlines():
        command = re.sub(r"(^|\s+)#.*$", "", line).strip()
        if command:
            yield command


def files(text: str) -> dict[str, str]:
    """The files that a page shows whole, by name; the line with the name is none of them."""
    return {found["name"]: found["text"].partition("\n")[2] for found in FILE.finditer(text)}
