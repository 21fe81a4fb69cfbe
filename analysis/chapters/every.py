"""All chapters: what a report may have in it, and what analysis/README.md says of the figures."""

from __future__ import annotations

from collections.abc import Iterator

from chapters import crossbow, goyal, learning, lin, scaling, shallue, timing
from chapters.figure import Chapter

CHAPTERS: tuple[Chapter, ...] = (
    timing.CHAPTER,
    learning.CHAPTER,
    scaling.CHAPTER,
    goyal.CHAPTER,
    crossbow.CHAPTER,
    lin.CHAPTER,
    shallue.CHAPTER,
)


def document() -> str:
    """The figures in Markdown, a section for each script."""
    return "\n".join(line for chapter in CHAPTERS for line in _section(chapter)).rstrip() + "\n"


def _section(chapter: Chapter) -> Iterator[str]:
    """The lines of a chapter."""
    what = "STUDY" if chapter.of_studies else "RUN"
    yield from (f"### {chapter.title}", "", chapter.intro, "", "```sh")
    yield from (f"python analysis/{chapter.script} {what}... -o DIR", "```", "")
    yield from ("| figure | what it answers | how to read it | table |", "|---|---|---|---|")
    for figure in chapter.figures:
        yield f"| `{figure.name}` | {figure.question} | {figure.how_to_read} | `{figure.table}` |"
    yield ""
    makes = [figure for figure in chapter.figures if figure.command]
    if makes:
        yield from ("What makes the runs that a figure lacks, which the script says too:", "", "```sh")
        for command in dict.fromkeys(figure.command for figure in makes):
            yield f"{command}   # {', '.join(figure.name for figure in makes if figure.command == command)}"
        yield from ("```", "")
