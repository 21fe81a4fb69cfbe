"""A figure as a value: what is said of it is said here, and the scripts, the report and the documentation take it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from draw.script import Output

M = TypeVar("M")
Draw = Callable[[Sequence[Any], Sequence[str], Path], tuple[list[Path], list[str]]]
"""From runs (or workloads), one line for each that could not be read, and a directory: files written, and remarks."""


@dataclass(frozen=True)
class Figure(Generic[M]):
    """One figure.

    Attributes:
        name: of its files; where it is drawn several times, of the first.
        question: what it answers.
        how_to_read: what its marks mean, and what to look for.
        table: the name of the table behind it.
        drawing: from the figure, the material of its chapter and the output to remarks; it writes the files.
        missing: why it cannot be drawn, where runs are missing.
        command: the command that makes these; empty where no single one does.
    """

    name: str
    question: str
    how_to_read: str
    table: str
    drawing: Callable[[Figure[M], M, Output], list[str]]
    missing: str = ""
    command: str = ""

    def draw(self, material: M, output: Output) -> list[str]:
        """Write its files; returns remarks."""
        return self.drawing(self, material, output)

    @property
    def lacks(self) -> str:
        """What is missing, with the command that makes it."""
        return ": ".join(filter(None, (self.missing, self.command)))

    def not_drawn(self, why: str = "", name: str = "") -> list[str]:
        """The remark that it, or what is called ``name`` of several, is not drawn: for what is missing, or ``why``."""
        return [f"{name or self.name} is not drawn: {why or self.lacks}."]


@dataclass(frozen=True)
class Chapter:
    """The figures of one script.

    Attributes:
        name: of its anchor in a report.
        title: headline.
        intro: what question it answers.
        script: the script's file in analysis/.
        figures: all of them, in order.
        draw: draws them all.
        of_studies: whether it is drawn from batch-size studies, not from runs.
    """

    name: str
    title: str
    intro: str
    script: str
    figures: tuple[Figure[Any], ...]
    draw: Draw
    of_studies: bool = False

    def figure_of(self, file: str) -> Figure[Any] | None:
        """The figure that a file is of, by the name that fits best."""
        fitting = [figure for figure in self.figures if file.startswith(figure.name)]
        return max(fitting, key=lambda figure: len(figure.name), default=None)


def numbered(name: str, place: int) -> str:
    """The name of the first, second, ... figure of one kind."""
    return name if place == 0 else f"{name}_{place + 1}"
