"""``hpcsgd export``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hpcsgd.config import paths
from hpcsgd.errors import UsageError, told_as
from hpcsgd.export import chrome, extrap, hta, mllog, tables, tensorboard
from hpcsgd.export.excerpt import Excerpt, excerpt, parse_ranks, parse_steps
from hpcsgd.record.reader import load_run


class Format(NamedTuple):
    """A format.

    Attributes:
        write: takes what is exported of the runs, and the file; gives the files that it has written.
        file: the file's name, with ``RUN`` for the name of the run's directory.
        meaning: a line of help.
        most_steps, most_ranks: how many are taken where none are asked for; None: all.
        has_window: whether steps and ranks can be asked for.
        takes_several: whether it is of several runs.
    """

    write: Callable[[list[Excerpt], Path], list[Path]]
    file: str
    meaning: str
    most_steps: int | None = None
    most_ranks: int | None = None
    has_window: bool = True
    takes_several: bool = False


FORMATS = {
    "chrome": Format(chrome.write, "RUN.trace.json.gz", "a trace for ui.perfetto.dev; 100 steps, 64 ranks", 100, 64),
    "hta": Format(hta.write, "RUN.hta", "a folder of traces for Holistic Trace Analysis; 100 steps, 64 ranks", 100, 64),
    "csv": Format(tables.write_csv, "RUN.csv", "the tables of iterations, epochs and evaluations"),
    "parquet": Format(tables.write_parquet, "RUN.parquet", "the same tables as Parquet"),
    "tensorboard": Format(tensorboard.write, "RUN.tensorboard/events.out.tfevents", "scalars for TensorBoard"),
    "mllog": Format(mllog.write, "RUN.mllog", ":::MLLOG lines of MLPerf", has_window=False),
    "extrap": Format(extrap.write, "extrap.jsonl", "measurements of several runs for Extra-P", takes_several=True),
}
"""By name, in the order of the help."""


def export(words: list[str]) -> int:
    """``hpcsgd export RUN ... --to FORMAT``; gives the exit code."""
    asked = _parser().parse_args(words)
    kind = FORMATS[asked.to]
    if len(asked.run) > 1 and not kind.takes_several:
        raise UsageError(f"--to {asked.to} takes one run, not {len(asked.run)}: export them one by one")
    if not kind.has_window and (asked.steps or asked.ranks):
        raise UsageError(f"--to {asked.to} is of a whole run: leave out --steps and --ranks")
    steps = parse_steps(asked.steps) if asked.steps is not None else None
    ranks = parse_ranks(asked.ranks) if asked.ranks is not None else None
    excerpts = [excerpt(load_run(run), steps, ranks, kind.most_steps, kind.most_ranks) for run in asked.run]
    for note in (note for one in excerpts for note in one.notes):
        print(f"hpcsgd export: {note}", file=sys.stderr)
    name = excerpts[0].run.path.resolve().parent.name or "run"
    file = asked.output or Path(kind.file.replace("RUN", name))
    with told_as(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        for written in kind.write(excerpts, file):
            print(written)
    return 0


def _parser() -> argparse.ArgumentParser:
    meanings = "\n".join(f"  {name:12} {kind.meaning} (-o {kind.file})" for name, kind in FORMATS.items())
    parser = argparse.ArgumentParser(
        prog="hpcsgd export",
        description="Write a run's log in the format of another tool.",
        epilog=f"formats, and the file unless -o says another:\n{meanings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", type=paths.argument, nargs="+", help="a run's directory or its run.h5")
    parser.add_argument("--to", required=True, choices=FORMATS, help="the format")
    parser.add_argument("--steps", metavar="FIRST:END", help="steps, without END: 100:120, 100:, :20, or one: 100")
    parser.add_argument("--ranks", metavar="RANKS", help="ranks with commas, or FIRST:END without END: 0,17 or 0:16")
    parser.add_argument("-o", dest="output", metavar="FILE", type=paths.argument, help="the file to write")
    return parser
