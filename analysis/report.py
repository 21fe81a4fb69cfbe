"""One HTML page with every figure that some runs and studies support, which opens from a file and needs no network.

    python analysis/report.py DIR... [-o report.html]

DIRs hold runs and studies at any depth; packed archives of studies are taken too. Figures, the tables behind them, how
to read them, and where everything comes from are in the page itself. What cannot be drawn is said, with the runs that
are missing. Exit code 0; 1 where nothing could be read; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from chapters.every import CHAPTERS
from chapters.figure import Chapter
from hpcsgd.config.paths import argument
from hpcsgd.errors import UsageError
from hpcsgd.files import Finder, write_whole
from hpcsgd.record.reader import FILE_NAME
from hpcsgd.run import streams
from runs import logs as run_logs
from runs import workloads
from runs.emulated import emulated_caption
from runs.logs import Entry
from runs.workloads import Workload
from tables.write import cell

PROGRAM = "report.py"
MOST_ROWS = 200
"""Rows of a table in the page; the scripts write all of them."""

FACTS = (
    "argv",
    "started",
    "emulated",
    "git_commit",
    "world_size",
    "num_nodes",
    "global_batch_size",
    "total_steps",
    "num_parameters",
    "gradient_allreduce",
    "mpi_library",
    "versions",
    "job",
)
"""What is shown of a run's provenance, where the log has it."""


@dataclass(frozen=True)
class Part:
    """A chapter as drawn: figures with their bytes, tables, remarks."""

    name: str
    title: str
    intro: str
    figures: list[dict[str, str]]
    tables: list[dict[str, Any]]
    remarks: list[str]


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


def draw(chapter: Chapter, entries: Sequence[Entry], studies: Sequence[Workload], directory: Path) -> Part:
    """Draw a chapter into ``directory`` and take it from there."""
    loaded: Sequence[Any] = studies if chapter.of_studies else entries
    if not loaded:
        what = "batch-size studies (hpcsgd study run)" if chapter.of_studies else "runs"
        return Part(chapter.name, chapter.title, chapter.intro, [], [], [f"There are no {what} to draw it from."])
    own = directory / chapter.name
    own.mkdir()
    files, remarks = chapter.draw(loaded, [], own)
    figures = [
        {
            "name": file.stem,
            "alt": f"{chapter.title}: {file.stem.replace('_', ' ')}. {chapter.reading(file.stem)}".strip(),
            "data": base64.b64encode(file.read_bytes()).decode(),
            "reading": chapter.reading(file.stem),
        }
        for file in files
        if file.suffix == ".png"
    ]
    shown = [table(file) for file in files if file.suffix == ".csv"]
    return Part(chapter.name, chapter.title, chapter.intro, figures, shown, list(dict.fromkeys(remarks)))


def table(file: Path) -> dict[str, Any]:
    """The first rows of a table, as text."""
    frame = pd.read_csv(file)
    rows = [[cell(value) for value in row] for row in frame.head(MOST_ROWS).itertuples(index=False, name=None)]
    return {"name": file.stem, "header": list(frame.columns), "rows": rows, "total": len(frame)}


def provenance(item: Entry) -> dict[str, Any]:
    """Where a run comes from."""
    known = item.run.provenance
    facts = [(key, as_text(known[key])) for key in FACTS if known.get(key) not in (None, "", [])]
    nodes = ", ".join(dict.fromkeys(str(node) for node in item.run.ranks["node"]))
    devices = ", ".join(dict.fromkeys(str(device) for device in item.run.ranks["device"]))
    facts += [("nodes", nodes), ("devices", devices), ("status", item.status), ("path", str(item.run.path.parent))]
    recipe = json.dumps(item.run.config, indent=1)
    return {"name": item.name, "description": item.description, "facts": facts, "recipe": recipe}


def as_text(value: Any) -> str:
    """A value of the provenance in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def study_facts(workload: Workload) -> dict[str, str]:
    """What a study is made of."""
    trials = sum(len(study.trials) for study in workload.studies)
    evaluations = sum(len(trial.measurements["step"]) for study in workload.studies for trial in study.trials)
    sizes = ", ".join(map(str, workload.batch_sizes))
    text = f"{trials} trials with {evaluations} evaluations at batch sizes {sizes}; from {workload.source}"
    return {"name": workload.name, "description": text}


def render(
    parts: Sequence[Part], entries: Sequence[Entry], studies: Sequence[Workload], problems: Sequence[str]
) -> str:
    """The page."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        title="hpcsgd report",
        emulated=emulated_caption(entries),
        made=f"Made {time.strftime('%Y-%m-%d %H:%M %Z')} of {len(entries)} runs and {len(studies)} studies.",
        parts=parts,
        problems=problems,
        runs=[provenance(item) for item in entries],
        studies=[study_facts(item) for item in studies],
    )


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
        with tempfile.TemporaryDirectory() as directory:
            for chapter in CHAPTERS:
                print(f"{PROGRAM}: {chapter.title} ...", file=sys.stderr, flush=True)
                parts.append(draw(chapter, entries, studies, Path(directory)))
        write(output, render(parts, entries, studies, problems))
    except UsageError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {output}")
    return 0


def write(path: Path, text: str) -> None:
    """Write the page, whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise UsageError(f"-o {path}: cannot write it ({error.strerror or error})") from error


if __name__ == "__main__":
    sys.exit(streams.command(main))
