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
from hpcsgd.files import write_whole

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
        entries = tuple(Entry(e["run"], e["script"], e["task"], tuple(e["ids"])) for e in content["jobs"])
        return Study(directory, tuple(content["command"]), content["cwd"], entries, content["max_running"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise (
            error if isinstance(error, UsageError) else UsageError(f"{path} is no record of jobs: {error!r}")
        ) from error


def find_studies(directory: Path) -> list[Study]:
    """The studies in a directory and below."""
    studies = (load_study(path.parent) for path in sorted(directory.rglob(FILE_NAME)))
    return [study for study in studies if study is not None]
