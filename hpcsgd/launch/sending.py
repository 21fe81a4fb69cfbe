"""From a study on disk to a scheduler: write its scripts, ask about them, send them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hpcsgd.errors import UsageError
from hpcsgd.files import write_whole
from hpcsgd.launch.scheduler import Scheduler
from hpcsgd.launch.schedulers import SCHEDULERS, scheduler_of
from hpcsgd.launch.study import undone_on_failure
from hpcsgd.record.study_file import FILE_NAME, Entry, Study, load_study


def write_study(study: Study, scripts: dict[str, str], to_send: Sequence[Entry] = (), *, chain: bool = False) -> None:
    """Write a study's scripts, by name, and its ``jobs.json``, and send the jobs of some of its runs.

    Raises:
        UsageError: the directory cannot be written, or the scheduler refused; if nothing was sent, no new file is left.
    """
    with undone_on_failure(study.path) as files:
        for name, text in scripts.items():
            path = study.path / name
            if not path.exists():
                files.append(path)
            write_whole(path, text.encode())
        if not (study.path / FILE_NAME).exists():
            files.append(study.path / FILE_NAME)
        study.save()
        send(study, to_send, chain=chain, on_sent=files.clear)


def send(
    study: Study, entries: Sequence[Entry], *, chain: bool = False, on_sent: Callable[[], None] = lambda: None
) -> Study:
    """Send the jobs of some runs of a written study; what was sent is in its ``jobs.json`` at once.

    The runs of one array go in one job, or in as few as the scheduler can take them in. Says on stdout what it sent.

    Args:
        study: the study.
        entries: the runs.
        chain: each job waits for the end of the one before.
        on_sent: called after each job that was sent.

    Raises:
        UsageError: the scheduler refused; jobs that were sent before that are named.
    """
    previous: str | None = None
    for script, runs in _jobs(entries):
        scheduler = scheduler_of(script)
        options = scheduler.after(previous) if chain and previous else []
        tasks = [entry.task for entry in runs if entry.task is not None]
        if tasks:
            whole = len(tasks) == sum(1 for entry in study.entries if entry.script == script)
            options += scheduler.elements(tasks, whole=whole, limit=study.max_running)
        try:
            # The path as the script's own paths: from where the study was made.
            path = Path(os.path.relpath(study.path.absolute() / script, study.cwd))
            job = scheduler.submit(path, options, Path(study.cwd))
        except UsageError as error:
            already = f" (job {previous} and those before it are sent)" if previous else ""
            raise UsageError(f"{script}: {error}{already}") from error
        previous = job
        study = study.with_ids({e.run: (job if e.task is None else scheduler.element(job, e.task),) for e in runs})
        study.save()
        on_sent()
        what = runs[0].run if len(runs) == 1 else f"{len(runs)} runs"
        print(f"sent job {job}: {what if what != '.' else study.path}")
    return study


def _jobs(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """Scripts, each with the runs that one job of it is for."""
    for script in dict.fromkeys(entry.script for entry in entries):
        assert script is not None, "a run that is run here has no script"
        runs = {entry.task: entry for entry in entries if entry.script == script}
        tasks = sorted(task for task in runs if task is not None)
        if not tasks:
            yield script, list(runs.values())
        else:
            for part in scheduler_of(script).parts(tasks):
                yield script, [runs[task] for task in part]


def send_text(scheduler: Scheduler, script: str) -> None:
    """Send a script of which nothing is kept, from here. Says on stdout what it sent.

    Raises:
        UsageError: the scheduler refused.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"job{scheduler.suffix}"
        path.write_text(script)
        print(f"sent job {scheduler.submit(path)}")


def check(scheduler: Scheduler, scripts: Mapping[str, str]) -> None:
    """Ask a scheduler about scripts, by name, and print what it says.

    Raises:
        UsageError: it would refuse one.
    """
    with tempfile.TemporaryDirectory() as directory:
        for name, text in scripts.items():
            path = Path(directory) / f"{name}{scheduler.suffix}"
            path.write_text(text)
            print(f"{path.name}: {scheduler.check(path)}")


def continued(study: Study) -> Study:
    """The study with the jobs that were sent for its runs before."""
    before = load_study(study.path)
    return study if before is None else study.with_ids({entry.run: entry.ids for entry in before.entries})


def queued(entries: Sequence[Entry]) -> set[str]:
    """The runs of which a job is still in the queue."""
    active: set[str] = set()
    for scheduler in SCHEDULERS.values():
        sent = [e.ids[-1] for e in entries if e.ids and e.script is not None and scheduler_of(e.script) is scheduler]
        queue = scheduler.queue(sent) if sent else None
        active |= {job for job, state in (queue or {}).items() if state.is_active}
    return {entry.run for entry in entries if entry.ids and entry.ids[-1] in active}
