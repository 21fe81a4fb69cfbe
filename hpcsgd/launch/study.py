"""A study on disk: a directory with the scripts of its jobs, the runs, and ``jobs.json``, which says what was sent.

One job of ``hpcsgd submit`` is a study of one run: its directory is the run's own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsgd.config import RunConfig
from hpcsgd.errors import UsageError
from hpcsgd.recipe import to_dict
from hpcsgd.record import load_run
from hpcsgd.record.reader import FILE_NAME as LOG_NAME
from hpcsgd.run_dir import write_atomically

FILE_NAME = "jobs.json"
VERSION = 1
CONDUCT = ("run_dir", "resume", "overwrite", "progress")
"""Keys of a configuration that do not change what a run is."""


@dataclass(frozen=True)
class Entry:
    """One run of a study.

    Attributes:
        run: its directory, from the study's.
        script: its script, likewise.
        task: its element of the script's array; None where the script is for this run alone.
        ids: the jobs that were sent for it, the last one last: ``12``, or ``12_3`` for an element of an array.
    """

    run: str
    script: str
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
        write_atomically(self.path / FILE_NAME, (json.dumps(content, indent=1) + "\n").encode())

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


@contextmanager
def undone_on_failure(directory: Path) -> Iterator[list[Path]]:
    """Make a directory; if the body fails, remove the files that it has listed and the directories made here.

    Raises:
        UsageError: the directory cannot be made or written.
    """
    made = [parent for parent in (directory, *directory.parents) if not parent.exists()]
    files: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield files
    except BaseException as error:
        for path in files:
            path.unlink(missing_ok=True)
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if isinstance(error, OSError):
            raise UsageError(f"cannot write {error.filename or directory}: {error.strerror}") from error
        raise


def is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Whether a directory holds the finished run of this configuration.

    Raises:
        UsageError: it holds a run of another one.
    """
    if not (run_dir / LOG_NAME).exists():
        return False
    run = load_run(run_dir)
    found = dict(_dotted(run.config))
    for key, value in _dotted(to_dict(config)):
        if key not in CONDUCT and found.get(key, value) != value:
            raise UsageError(
                f"{run_dir} holds a run of another configuration ({key} is {found[key]!r} there, {value!r} here): "
                "choose another -o"
            )
    return run.status in ("completed", "diverged")


def _dotted(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of nested mappings with the values that are no mappings."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
