"""A study on disk: a directory with the scripts of its jobs, the runs, and ``jobs.json``, which says what was sent.

One job of ``hpcsgd submit`` is a study of one run: its directory is the run's own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcsgd.config import RunConfig
from hpcsgd.config.recipe import dotted, to_dict
from hpcsgd.errors import UsageError
from hpcsgd.launch.planned import PlannedRun
from hpcsgd.record import load_run
from hpcsgd.record.reader import FILE_NAME as LOG_NAME
from hpcsgd.record.study_file import load_study

CONDUCT = ("run_dir", "resume", "overwrite", "progress")
"""Keys of a configuration that do not change what a run is."""


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


def named_as_before(directory: Path, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Runs of a sweep, by their names of before where they are in its directory already.

    Names of sweeps once began with the place in the grid.
    """
    before = load_study(directory)
    numbered = [] if before is None else [entry.run for entry in before.entries if re.match(r"\d+_", entry.run)]
    found = {}
    for name in numbered:
        with suppress(UsageError):
            found[name] = dict(dotted(load_run(directory / name).config))

    def name_of(run: PlannedRun) -> str:
        wanted = {key: value for key, value in dotted(to_dict(run.config)) if key not in CONDUCT}
        same = (name for name, own in found.items() if all(own.get(key, v) == v for key, v in wanted.items()))
        return run.name if (directory / run.name).exists() else next(same, run.name)

    return [dataclasses.replace(run, name=name_of(run)) for run in runs]


def is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Whether a directory holds the finished run of this configuration; a log that cannot be read is of none.

    Raises:
        UsageError: it holds a run of another one.
    """
    if not (run_dir / LOG_NAME).exists():
        return False
    try:
        run = load_run(run_dir)
    except UsageError:
        # Killed while it was made: the run begins anew, and compares its recipe with the one there.
        return False
    found = dict(dotted(run.config))
    for key, value in dotted(to_dict(config)):
        if key not in CONDUCT and found.get(key, value) != value:
            raise UsageError(
                f"{run_dir} holds a run of another configuration ({key} is {found[key]!r} there, {value!r} here): "
                "choose another -o"
            )
    return run.status in ("completed", "diverged")
