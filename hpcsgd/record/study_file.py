"""What a study keeps of itself on disk: ``jobs.json``, with its runs and what was sent for each.

It stands here, beside the run log, for those who read what is on disk and start nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsgd.errors import UsageError
from hpcsgd.files import Finder, write_whole

FILE_NAME = "jobs.json"
VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One run of a study.

    Attributes:
        run: its directory, from the study's.
        script: its script, likewise; None where ``hpcsgd scale`` runs it here, without Slurm.
        task: its element of the script's array; None where the script is for this run alone.
        ids: the jobs that were sent for it, the last one last: ``12``, or ``12_3`` for an element of an array.
    """

    run: str
    script: str | None
    task: int | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """What ``jobs.json`` holds.

    Attributes:
        path: the study's directory.
        command: the command that made it.
        cwd: where that was called: the scripts' paths are relative to it.
        entries: the runs.
        max_running: elements of an array that may run at a time.
    """

    path: Path
    command: tuple[str, ...]
    cwd: str
    entries: tuple[Entry, ...]
    max_running: int | None = None

    def run_dir(self, entry: Entry) -> Path:
        """The directory of a run."""
        return self.path / entry.run

    def save(self) -> None:
        """Write ``jobs.json``, whole or not at all."""

        content = {
            "version": VERSION,
            "command": list(self.command),
            "cwd": self.cwd,
            "max_running": self.max_running,
            "jobs": [dataclasses.asdict(entry) for entry in self.entries],
        }
        write_whole(self.path / FILE_NAME, (json.dumps(content, indent=1) + "\n").encode())

    def with_ids(self, new_ids: Mapping[str, tuple[str, ...]]) -> Study:
        """The study with these jobs added, by the run's name."""
        entries = (dataclasses.replace(entry, ids=entry.ids + new_ids.get(entry.run, ())) for entry in self.entries)
        return dataclasses.replace(self, entries=tuple(entries))


def load_study(directory: Path) -> Study | None:
    """The study of a directory; None where it holds none.

    Raises:
        UsageError: its ``jobs.json`` cannot be read.
    """
    path = directory / FILE_NAME
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise UsageError(f"{path} is of version {content['version']}, this hpcsgd reads {VERSION}")
        entries = tuple(_entry(element) for element in content["jobs"])
        most = content["max_running"]
        return Study(
            directory,
            tuple(_text(word) for word in content["command"]),
            _text(content["cwd"]),
            entries,
            None if most is None else int(most),
        )
    except FileNotFoundError:
        return None
    except UsageError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is no record of jobs: {error!r}") from error


def _entry(element: Mapping[str, Any]) -> Entry:
    """A run as it is written."""
    script, task = element["script"], element["task"]
    return Entry(
        _text(element["run"]),
        None if script is None else _text(script),
        None if task is None else int(task),
        tuple(_text(job) for job in element["ids"]),
    )


def _text(value: object) -> str:
    """A text.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def find_studies(directory: Path) -> tuple[list[Study], list[str]]:
    """The studies in a directory and below, and one line for each whose ``jobs.json`` cannot be read."""
    studies, problems = [], []
    for path in Finder().files(directory, {FILE_NAME}):
        try:
            study = load_study(path.parent)
        except UsageError as error:
            problems.append(str(error))
            continue
        if study is not None:
            studies.append(study)
    return studies, problems
