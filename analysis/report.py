"""One HTML page with every figure that some runs and studies support, which opens from a file and needs no network.

    python analysis/report.py DIR... [-o report.html]

DIRs hold runs and studies at any depth; packed archives of studies are taken too. Figures, the tables behind them, how
to read them, and where everything comes from are in the page itself, which opens with what they say in three
sentences; these are printed too. What cannot be drawn is said, with the runs that are missing. Exit code 0; 1 where
nothing could be read; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chapters.every import CHAPTERS
from draw.script import DEFAULT_SKIP
from hpcsgd.config.paths import argument
from hpcsgd.errors import UsageError
from hpcsgd.files import Finder, write_whole
from hpcsgd.record.reader import FILE_NAME
from hpcsgd.run import streams
from page.parts import draw
from page.render import render
from runs import logs as run_logs
from runs import workloads
from runs.logs import Entry
from runs.workloads import Workload
from verdict.every import MOST, verdict

PROGRAM = "report.py"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Make one HTML page of runs and studies.")
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="DIR",
        type=argument,
        help="run, study, packed archive, or directory that holds some",
    )
    what = "the page (default: report.html in the first directory)"
    parser.add_argument("-o", "--output", type=argument, metavar="FILE", help=what)
    return parser.parse_args(argv)


def load(paths: Sequence[str]) -> tuple[list[Entry], list[Workload], list[str]]:
    """The runs and workloads in ``paths``, and one line for each of these that holds neither, or a broken one."""
    entries: list[Entry] = []
    found: list[Workload] = []
    problems: list[str] = []
    with_runs, with_studies = [], []
    for text in dict.fromkeys(paths):
        path = Path(text)
        is_run = path.name == FILE_NAME or (path.is_dir() and bool(Finder().files(path, {FILE_NAME})))
        is_study = path.is_dir() and bool(Finder().files(path, {"study.json"}))
        if is_run:
            with_runs.append(text)
        if is_study or (path.is_file() and not is_run):
            with_studies.append(text)
        if not path.exists():
            problems.append(f"{text}: no such file or directory")
        elif not (is_run or is_study or path.is_file()):
            problems.append(f"{text}: neither a run ({FILE_NAME}) nor a study (study.json) in it or below")
    if with_runs:
        entries, unread = run_logs.load(with_runs)
        problems += unread
    if with_studies:
        found, unread = workloads.load(with_studies)
        problems += unread
    return entries, found, problems


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    options = arguments(argv)
    output: Path = options.output or Path(options.paths[0]) / "report.html"
    entries, studies, problems = load(options.paths)
    for line in problems:
        print(f"{PROGRAM}: {line}", file=sys.stderr)
    if not entries and not studies:
        print(f"{PROGRAM}: error: neither a run nor a study can be read", file=sys.stderr)
        return 1
    parts = []
    try:
        # Not only after minutes of drawing.
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as directory:
            for chapter in CHAPTERS:
                print(f"{PROGRAM}: {chapter.title} ...", file=sys.stderr, flush=True)
                parts.append(draw(chapter, entries, studies, Path(directory)))
        tables = {name: frame for part in parts for name, frame in part.frames.items()}
        sentences = verdict(entries, tables, DEFAULT_SKIP)
        page = render(parts, entries, studies, problems, sentences)
        with writing(output):
            write_whole(output, page.encode())
    except UsageError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {output}")
    for sentence in sentences[:MOST]:
        print(f"- {sentence}")
    return 0


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, what fails is that the page cannot be written.

    Raises:
        UsageError: so.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"-o {path}: cannot write it ({error.strerror or error})") from error


if __name__ == "__main__":
    sys.exit(streams.command(main))
