"""What became of the runs of a directory: from their logs, the jobs that were sent, and the schedulers' queues."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsgd.errors import UsageError
from hpcsgd.files import Finder
from hpcsgd.launch.scheduler import QueuedJob, Scheduler
from hpcsgd.launch.schedulers import SCHEDULERS, scheduler_of
from hpcsgd.record import Run, load_run
from hpcsgd.record.reader import FILE_NAME
from hpcsgd.record.study_file import Entry, Study, find_studies
from hpcsgd.record.summary import main_metrics, metric_text

RESUBMITTED = ("failed", "killed", "preempted")
"""States of a run that ``resubmit --failed`` sends again. One that diverged would diverge again; one that was
cancelled was not wanted."""


@dataclass(frozen=True)
class RunState:
    """One run.

    Attributes:
        path: its directory.
        state: ``completed``, ``diverged``, ``failed``, ``preempted`` (stopped and saved, and not in the queue),
            ``killed`` (it did not come to its end), ``cancelled``, ``running``, ``pending``, ``not sent``, ``not
            begun`` (of a study that is run here), ``running or killed`` (its scheduler cannot be asked),
            ``unreadable``.
        job: its last job; empty outside of a scheduler.
        ranks, progress, result: for the table.
        note: what else there is to say.
        study: the study that it is of, and its entry there; None where it was not sent by hpcsgd.
    """

    path: Path
    state: str
    job: str = ""
    ranks: str = ""
    progress: str = ""
    result: str = ""
    note: str = ""
    study: Study | None = None
    entry: Entry | None = None


def run_states(directory: Path) -> list[RunState]:
    """The states of all runs in a directory and below, by path; links are followed, and each real run is there once.

    What cannot be looked into, and each study whose ``jobs.json`` cannot be read, is said on stderr.

    Raises:
        UsageError: there is no such directory, or there are no runs in it.
    """
    if not directory.is_dir():
        raise UsageError(f"there is no directory {directory}")
    finder = Finder()
    logs = {path.parent.resolve() for path in finder.files(directory, {FILE_NAME})}
    studies, broken = find_studies(directory)
    problems = list(dict.fromkeys([*finder.problems, *broken]))
    planned = {study.run_dir(entry).resolve(): (study, entry) for study in studies for entry in study.entries}
    if not planned and not logs:
        raise UsageError("; ".join(problems) or f"{directory}: no runs in it or below")
    for line in problems:
        print(f"hpcsgd: {line}", file=sys.stderr)
    runs: dict[Path, Run | str | None] = {path: _load(path) for path in {*planned, *logs}}
    jobs = {path: _last_job(runs[path], planned[path][1] if path in planned else None) for path in runs}
    scheduled = {path: _scheduler(planned[path][1]) if path in planned else None for path in runs}
    answers = _answers(jobs, scheduled)
    states = []
    for path in sorted(runs):
        study, entry = planned.get(path, (None, None))
        told = [answers[found] for found in SCHEDULERS.values() if scheduled[path] in (found, None)]
        queued = next((known[jobs[path]] for known, _ in told if jobs[path] in known), None)
        can_be_asked = any(answered for _, answered in told)
        states.append(_state(path, runs[path], jobs[path], queued, can_be_asked, study, entry))
    return states


def _scheduler(entry: Entry) -> Scheduler | None:
    """The scheduler that a run was sent to, or will be; None where it is run here."""
    return scheduler_of(entry.script) if entry.script is not None else None


def _answers(
    jobs: Mapping[Path, str], scheduled: Mapping[Path, Scheduler | None]
) -> dict[Scheduler, tuple[dict[str, QueuedJob], bool]]:
    """What each scheduler says of the jobs of runs, and whether its queue could be asked.

    Args:
        jobs: the last job of each run; empty where it has none.
        scheduled: the scheduler that it was sent to; None where nobody knows, and any of them may know it.
    """
    answers = {}
    for scheduler in SCHEDULERS.values():
        wanted = sorted({job for path, job in jobs.items() if job and scheduled[path] in (scheduler, None)})
        queue = scheduler.queue(wanted)
        ended = scheduler.finished(job for job in wanted if queue is None or job not in queue)
        answers[scheduler] = ({**ended, **(queue or {})}, queue is not None)
    return answers


def _load(path: Path) -> Run | str | None:
    """A run; None where it has no log yet; what is wrong with it where it cannot be read."""
    if not (path / FILE_NAME).exists():
        return None
    try:
        return load_run(path)
    except UsageError as error:
        return str(error)


def _last_job(run: Run | str | None, entry: Entry | None) -> str:
    """The last job of a run: that was sent for it, or that its log names."""
    if entry is not None and entry.ids:
        return entry.ids[-1]
    if isinstance(run, Run) and len(run.segments):
        return str(run.segments["job"].iloc[-1])
    return ""


def _state(
    path: Path,
    run: Run | str | None,
    job: str,
    queued: QueuedJob | None,
    queue_answers: bool,
    study: Study | None,
    entry: Entry | None,
) -> RunState:
    """The state of one run."""
    shown = shortest(path)
    if isinstance(run, str):
        return RunState(shown, "unreadable", job, note=run, study=study, entry=entry)
    state, note = judge(run.status if run is not None else None, job, queued, queue_answers)
    if state == "running or killed" and run is not None and not job:
        state = {True: "running", False: "killed", None: state}[_alive_here(run)]
    if state == "not sent" and entry is not None and entry.script is None:
        state = "not begun"
    if run is None:
        return RunState(shown, state, job, note=note, study=study, entry=entry)
    return RunState(shown, state, job, str(len(run.ranks)), _progress(run), _result(run), note, study, entry)


def judge(status: str | None, job: str, queued: QueuedJob | None, queue_answers: bool) -> tuple[str, str]:
    """A run's state and a note on it.

    Args:
        status: what its log says; None without a log.
        job: its last job; empty outside of a scheduler.
        queued: what its scheduler says of that.
        queue_answers: the scheduler could be asked.
    """
    if status in ("completed", "diverged"):
        return status, ""
    if queued is not None and queued.phase == "waiting":
        return "pending", "; ".join(word for word in (queued.reason, "stopped and saved" if status else "") if word)
    if queued is not None and queued.phase == "running":
        return "running", "" if status else "no log yet"
    if queued is not None and queued.phase == "cancelled":
        return "cancelled", ""
    ending = queued.ending if queued is not None else ""
    if status in ("failed", "preempted"):
        return status, ending
    if not job and status is None:
        return "not sent", ""
    if not job or not queue_answers:
        return "running or killed", ending
    if status is None:
        return "failed", "; ".join(word for word in (ending, "it never began: see its output") if word)
    return "killed", ending


def _alive_here(run: Run) -> bool | None:
    """Whether rank 0 of a local run still lives; None if it ran on another machine."""
    if run.provenance.get("host") != platform.node() or run.ranks.empty:
        return None
    try:
        pid = int(run.ranks["pid"].iloc[0])
        if pid < 1:
            # No process: kill would ask a group of them.
            return None
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _progress(run: Run) -> str:
    """Steps done of all."""
    done = int(run.columns.steps.max(initial=-1)) + 1
    total = run.provenance.get("total_steps", "?")
    starts = len(run.segments) - 1
    return f"{done}/{total}" + (f" ({starts} resumed)" if starts > 0 else "")


def _result(run: Run) -> str:
    """The last accuracy on the test split, else the last of another metric, else the loss."""
    rows = run.evaluations[run.evaluations["split"] == "test"]
    if rows.empty:
        return ""
    metric = main_metrics(rows["metric"])[0]
    return f"{metric} {metric_text(metric, rows.loc[rows['metric'] == metric, 'value'].iloc[-1])}"


def shortest(path: Path) -> Path:
    """A path as it is shortest to say."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def table(states: Sequence[RunState]) -> str:
    """The states as a table, and a line that counts them."""
    head = ("run", "state", "job", "ranks", "steps", "test", "note")
    rows = [(str(s.path), s.state, s.job, s.ranks, s.progress, s.result, s.note) for s in states]
    return "\n".join([*columns([head, *rows]), counts(states)])


def counts(states: Sequence[RunState]) -> str:
    """How many runs are in which state."""
    numbers = Counter(state.state for state in states)
    said = ", ".join(f"{number} {state}" for state, number in numbers.most_common())
    return f"{len(states)} run{'' if len(states) == 1 else 's'}: {said} ({time.strftime('%Y-%m-%d %H:%M:%S')})"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells, each column as wide as it must be."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
