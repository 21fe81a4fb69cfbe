"""What the scripts of analysis/ share as commands: arguments, the directory for figures, messages and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from hpcsgd.config.paths import argument
from hpcsgd.errors import UsageError
from runs import logs as run_logs
from runs.emulated import emulated_caption, emulated_notes
from runs.logs import Entry
from tables.write import write_table

T = TypeVar("T")
DEFAULT_SKIP = 5
RECORD_NOTE = "The time of record is the maximum over ranks. Percentiles are linear between the two nearest values."


def parser(program: str, description: str, default_output: str | None = None) -> argparse.ArgumentParser:
    """The arguments that all scripts of analysis/ share; ``-o`` must be given where nothing is said of its default."""
    result = argparse.ArgumentParser(prog=program, description=description)
    result.add_argument(
        "runs", nargs="+", metavar="RUN", type=argument, help="run directory, run.h5, or a directory that holds runs"
    )
    what = "where figures and tables are written" + (f" (default: {default_output})" if default_output else "")
    result.add_argument("-o", "--output", required=default_output is None, metavar="DIR", type=argument, help=what)
    return result


def parse_with_skip(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line of a script that has ``--skip`` too."""
    what = "leave the first N iterations of each segment out of medians and percentiles (default: %(default)s)"
    parser.add_argument("--skip", type=int, default=DEFAULT_SKIP, metavar="N", help=what)
    options = parser.parse_args(argv)
    if options.skip < 0:
        parser.error(f"argument --skip: {options.skip} is negative: give 0 or more")
    return options


def parse_with_target(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line of a script that has ``--skip`` and ``--target_accuracy`` too."""
    what = "the accuracy to be reached, a fraction (default: what three quarters of the settings shown reach)"
    parser.add_argument("--target_accuracy", type=float, metavar="X", help=what)
    options = parse_with_skip(parser, argv)
    target = options.target_accuracy
    if target is not None and not 0 < target < 1:
        parser.error(f"argument --target_accuracy: {target:g} is not between 0 and 1: give a fraction, as 0.88")
    return options


def skip_text(skip: int) -> str:
    """What the figures' captions and the tables' notes say of the iterations left out."""
    if skip == 0:
        return f"No iteration is left out (--skip 0; the default is {DEFAULT_SKIP})."
    default = "the default" if skip == DEFAULT_SKIP else f"the default is {DEFAULT_SKIP}"
    return f"The first {skip} iterations after each start of a run are left out (--skip {skip}, {default})."


def output_directory(text: str) -> Path:
    """Make the directory for figures; ``UsageError`` where that cannot be."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o {text}: cannot make this directory ({error.strerror or error})") from error
    if not os.access(path, os.W_OK):
        raise UsageError(f"-o {text}: no permission to write in this directory")
    return path


class Output:
    """Figures and tables on their way to a directory: the files written and the remarks that go with all of them."""

    def __init__(self, directory: Path, notes: Sequence[str] = (), caption: str = "") -> None:
        """``notes``: what goes with each table; ``caption``: with each figure."""
        self.directory = directory
        self.files: list[Path] = []
        self.notes = list(notes)
        self.caption = caption

    @classmethod
    def of_runs(cls, directory: Path, entries: Sequence[Entry], problems: Sequence[str]) -> Output:
        """With what is to be known of the logs; ``problems``: one line for each run that could not be read."""
        notes = [*emulated_notes(entries), *run_logs.log_notes(entries, problems)]
        caption = " ".join(filter(None, (emulated_caption(entries), run_logs.caption(entries, problems))))
        return cls(directory, notes, caption)

    def table(self, frame: pd.DataFrame, name: str, title: str, *notes: str, digits: int = 4) -> None:
        """Write a table with its own notes and those that go with each."""
        notes = (*notes, *self.notes)
        self.files += write_table(frame, self.directory, name, title=title, notes=notes, digits=digits)


Draw = Callable[[Sequence[Entry], Sequence[str], Path], tuple[list[Path], list[str]]]


def run_script(program: str, options: argparse.Namespace, draw: Draw) -> int:
    """Load, draw, and say on stdout what was written and on stderr what is missing.

    Args:
        program: name of the script, for its messages.
        options: parsed arguments of :func:`parser`.
        draw: from runs, problems and directory to the files written and the remarks.

    Returns:
        The exit code: 0; 1 where no run could be read or nothing could be drawn; 2 where the directory for figures
        cannot be used.
    """
    return run(program, options.output, lambda: run_logs.load(options.runs), draw, "none of the runs can be read")


def run(
    program: str,
    output: str,
    load: Callable[[], tuple[list[T], list[str]]],
    draw: Callable[[Sequence[T], Sequence[str], Path], tuple[list[Path], list[str]]],
    nothing: str,
) -> int:
    """Load, draw and say what happened, as :func:`run_script` does for runs.

    Args:
        program: name of the script, for its messages.
        output: the directory for figures.
        load: gives what is drawn, and one line for each part that could not be read.
        draw: from both and the directory to the files written and the remarks.
        nothing: the error where nothing could be read.
    """
    try:
        directory = output_directory(output)
        loaded, problems = load()
        if not loaded:
            for line in problems:
                print(f"{program}: {line}", file=sys.stderr)
            print(f"{program}: error: {nothing}", file=sys.stderr)
            return 1
        files, remarks = draw(loaded, problems, directory)
    except UsageError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    for line in remarks:
        print(f"{program}: {line}", file=sys.stderr)
    for path in files:
        print(f"wrote {path}")
    return 0 if files else 1
