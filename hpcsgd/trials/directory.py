"""The directory of a study: its record of trials, whole or not at all, and who trains what.

::

    study.yaml  provenance.json  plan.json    what it is, its starts, and what was settled once
    archive/DATASET/MODEL/OPTIMIZER/BATCH/... the trials, in the public layout
    groups/BATCH-INDEX.json                   a finished group: its times; written last
    .work/TOKEN/                              claims and unfinished work of one start
    .committed/BATCH-INDEX/                   a finished group on its way into the archive

A group is written aside, and finished by one rename into ``.committed``. From there its trials are moved into the
archive; where that was cut short, the next start does the rest. So at any moment a group is finished or it is not, and
no trial is in the archive that would be trained again. A claim is a file that can be made only once. It belongs to one
start: those of a start that died count for nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hpcsgd.errors import UsageError, reason, told_as
from hpcsgd.files import sync, write_whole
from hpcsgd.trials.groups import Group, SizePlan

T = TypeVar("T")

RECIPE, PROVENANCE, PLAN = "study.yaml", "provenance.json", "plan.json"
ARCHIVE, GROUPS, WORK, COMMITTED = "archive", "groups", ".work", ".committed"
ENGINES = ("loop", "fused", "dense")
AGAIN = "bring it back from a copy, or set overwrite: true to begin the study again"


class StudyDirectory:
    """The files of a study; :meth:`recover` once a start, by the one rank that has locked the directory."""

    def __init__(self, path: Path, studies: str) -> None:
        """
        Args:
            path: the directory.
            studies: ``DATASET/MODEL/OPTIMIZER``, below which the archive has one directory a batch size.
        """
        self.path = path
        self.studies = path / ARCHIVE / studies

    def recover(self) -> None:
        """Move what was finished into the archive, and clear what was not."""
        with told_as(self.path):
            for part in (GROUPS, COMMITTED):
                (self.path / part).mkdir(exist_ok=True)
            for staged in sorted((self.path / COMMITTED).iterdir()):
                self._publish(staged)
            shutil.rmtree(self.path / WORK, ignore_errors=True)

    def read_plan(self) -> list[SizePlan] | None:
        """What was settled at the first start; None before that.

        Raises:
            UsageError: it cannot be read.
        """
        entries = read_json(self.path / PLAN, list)
        if entries is None:
            return None
        names = {field.name for field in dataclasses.fields(SizePlan)}
        for entry in entries:
            sound = isinstance(entry, dict) and entry.keys() == names and entry["engine"] in ENGINES
            if not (sound and all(type(entry[key]) is int and entry[key] >= 1 for key in names - {"engine"})):
                raise UsageError(f"{self.path / PLAN} is damaged: {AGAIN}")
        return [SizePlan(**entry) for entry in entries]

    def read_data(self) -> dict[str, Any] | None:
        """What the data was at the first start that says so; None: none does.

        Raises:
            UsageError: the starts cannot be read.
        """
        starts = read_json(self.path / PROVENANCE, list) or []
        return next((start["data"] for start in starts if isinstance(start, dict) and "data" in start), None)

    def write_plan(self, plans: Sequence[SizePlan]) -> None:
        """Keep what was settled."""
        with told_as(self.path / PLAN):
            content = json.dumps([plan.to_json() for plan in plans], indent=1)
            write_whole(self.path / PLAN, f"{content}\n".encode())

    def add_start(self, provenance: dict[str, object]) -> None:
        """Note a start of the study."""
        path = self.path / PROVENANCE
        starts = read_json(path, list) or []
        with told_as(path):
            write_whole(path, f"{json.dumps([*starts, provenance], indent=1)}\n".encode())

    def finished(self) -> set[str]:
        """The names of all finished groups."""
        with contextlib.suppress(FileNotFoundError):
            return {name.removesuffix(".json") for name in os.listdir(self.path / GROUPS) if name.endswith(".json")}
        return set()

    def read_group(self, name: str) -> dict[str, Any]:
        """What is kept of a finished group beside its trials.

        Raises:
            UsageError: it cannot be read.
        """
        path = self.path / GROUPS / f"{name}.json"
        content: dict[str, Any] = read_json(path, dict) or {}
        if not isinstance(content.get("wall_seconds"), float | int):
            raise UsageError(f"{path} is damaged: {AGAIN}")
        return content

    def _publish(self, staged: Path) -> None:
        """Move the trials of a finished group into the archive, and last its own file, which says that all are."""
        batch_size = staged.name.partition("-")[0]
        for trial in sorted(path for path in staged.iterdir() if path.is_dir()):
            place = self.studies / batch_size / trial.name
            if place.exists():
                # Another start had the same group, and made the same trials.
                shutil.rmtree(trial)
            else:
                trial.rename(place)
        group = staged / "group.json"
        if group.exists():
            group.replace(self.path / GROUPS / f"{staged.name}.json")
        staged.rmdir()

    def commit(self, group: Group, work: Path) -> None:
        """Finish a group: ``work`` has one directory a trial and ``group.json``, and is moved away."""
        staged = self.path / COMMITTED / group.name
        if group.name in self.finished() or staged.exists():
            shutil.rmtree(work)
            return
        _sync(work)
        work.rename(staged)
        self._publish(staged)


class Claims:
    """Who trains what, among the ranks of one start."""

    def __init__(self, directory: StudyDirectory, token: str, rank: int) -> None:
        """
        Args:
            directory: the study's.
            token: of this start, the same on all ranks.
            rank: this one, for those who look into the files.
        """
        self.directory = directory
        self.folder = directory.path / WORK / token
        self.rank = rank

    def open(self) -> None:
        """Make the folder of this start; before any rank takes a group."""
        with told_as(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def take(self, groups: list[Group]) -> Group | None:
        """Claim the first group that nobody has yet, and remove it and those before it from ``groups``."""
        while groups:
            group = groups.pop(0)
            with told_as(self.folder), contextlib.suppress(FileExistsError):
                descriptor = os.open(self.folder / group.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                os.write(descriptor, f"rank {self.rank}\n".encode())
                os.close(descriptor)
                return group
        return None

    def keep(self, group: Group, write: Callable[[Path], None]) -> None:
        """Finish a group that this rank has claimed.

        Args:
            group: the group.
            write: called with an empty directory, makes one directory a trial and ``group.json`` in it.

        Raises:
            DiskError: something cannot be written; the group is not finished then, and nothing is half there.
        """
        work = self.folder / f"{group.name}.files"
        with told_as(self.directory.path):
            work.mkdir()
            write(work)
            self.directory.commit(group, work)

    def times(self) -> dict[str, float]:
        """The groups that this start has taken, and when, in seconds since the epoch."""
        found = {}
        for entry in os.scandir(self.folder):
            if entry.is_file() and entry.name != "stop":
                found[entry.name] = entry.stat().st_mtime
        return found

    def ask_all_to_stop(self) -> None:
        """Tell the other ranks of this start to stop, too."""
        with told_as(self.folder):
            (self.folder / "stop").touch()

    def close(self) -> None:
        """Remove the folder of this start; when no rank needs it any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop_is_asked(self) -> bool:
        """Whether any rank of this start was told to stop."""
        return (self.folder / "stop").exists()


def read_json(path: Path, kind: type[T]) -> T | None:
    """The content of a JSON file of a study; None where there is none.

    Raises:
        UsageError: it cannot be read, or is no ``kind``.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}; {AGAIN}") from error
    if not isinstance(content, kind):
        raise UsageError(f"{path} is damaged: {AGAIN}")
    return content


def _sync(work: Path) -> None:
    """Wait until the files below ``work`` are on the disk."""
    for path in work.rglob("*"):
        if path.is_file():
            sync(path)
