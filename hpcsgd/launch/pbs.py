"""PBS Pro and OpenPBS: their variables, their commands, their words.

Every variable of PBS's that ``hpcsgd.launch`` and the scripts use stands here. What is said of PBS comes from ALCF's
user guides (docs/running-jobs, docs/polaris, docs/aurora) and from OpenPBS's source (src/cmds/qsub.c,
src/server/req_rerun.c). Nothing here was tried on a real PBS: the tests have a stand-in that holds to the same words.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from hpcsgd.errors import UsageError
from hpcsgd.launch.asking import ask, plain, run
from hpcsgd.launch.scheduler import Phase, QueuedJob, Scheduler

JOB_ID = re.compile(r"(\d+(?:\[\])?)(?:\.[\w.:-]+)?")
"""What qsub prints: a job, or an array, with the name of the server."""

POINT = "HPCSGD_POINT"
"""A variable of hpcsgd's own: the one element of an array that a job is for."""

WAITING = set("QHWT")
ACTIVE = set("RESUB")
"""Letters of states: queued, held, waiting, in transit; running, exiting, suspended twice, an array that has begun."""

TERMINATED = "91"
"""The substate of a job that was deleted."""

UNKNOWN = (153, 35)
"""Exit codes of qstat where it does not know one of the jobs, or only as a finished one; it prints the others."""


class Pbs(Scheduler):
    """PBS Pro 19 and later, and OpenPBS."""

    title = "PBS"
    sender = "qsub"
    template = "job.pbs.j2"
    suffix = ".pbs"
    job = "$job"
    launchers = ("mpiexec", "mpirun")
    options = {"account": "-A ", "queue": "-q "}
    has_arrays = True
    arrays_are_restarted = True
    restarts = None
    no_restarts = (
        "PBS lets no user put a job back into the queue (qrerun is its operators'): leave it out; "
        "hpcsgd resubmit --failed sends again what was stopped"
    )
    variables = {
        "PBS_JOBID": "the job, with its server; an element of an array has its number in brackets",
        "PBS_ARRAY_INDEX": "the element of the array",
        "PBS_NODEFILE": "a file with the nodes",
        "PBS_O_WORKDIR": "where the job was sent from; it begins in the home directory",
    }

    def output(self, text: str, *, is_array: bool) -> str:
        """A directory, where PBS names the file by the job: its own names cannot say the job's id."""
        directory = PurePath(text).parent
        return f"{directory}/" if directory.parts else ""

    def submit(self, script: Path, options: Sequence[str] = (), cwd: Path | None = None) -> str:
        """By qsub."""
        answer = run(["qsub", *options, str(script)], cwd)
        ids = [found[1] for line in plain(answer.stdout).splitlines() if (found := JOB_ID.fullmatch(line.strip()))]
        if not ids:
            said = " ".join(plain(answer.stdout + answer.stderr).split())
            raise UsageError(f"qsub took the script, but gave no id of a job: {said or 'it said nothing'}; see qstat")
        return ids[-1]

    def check(self, script: Path) -> str:
        """There is no way to ask."""
        raise UsageError(
            "PBS cannot be asked whether it would take a job: leave --check out, or send it held (qsub -h) and "
            "delete it"
        )

    def queue(self, ids: Iterable[str]) -> dict[str, QueuedJob] | None:
        """These jobs alone: all that a large site remembers would be many."""
        wanted = list(ids)
        if not wanted:
            return {} if shutil.which("qstat") else None
        # With the jobs that have ended, where the server keeps them.
        answer = ask(["qstat", "-x", "-f", *wanted], fine=(0, *UNKNOWN))
        if answer is None:
            answer = ask(["qstat", "-f", *wanted], fine=(0, *UNKNOWN))
        return None if answer is None else _jobs(answer)

    def after(self, job: str) -> list[str]:
        """A dependency of qsub."""
        return ["-W", f"depend=afterany:{job}"]

    def parts(self, tasks: Sequence[int]) -> list[tuple[int, ...]]:
        """Runs of numbers that follow each other: an array of PBS is a range."""
        parts: list[tuple[int, ...]] = []
        for task in tasks:
            if parts and parts[-1][-1] == task - 1:
                parts[-1] += (task,)
            else:
                parts.append((task,))
        return parts

    def elements(self, tasks: Sequence[int], *, whole: bool, limit: int | None) -> list[str]:
        """A range; PBS takes none of one number, so that the script is told a single one by a variable."""
        if len(tasks) == 1:
            return ["-v", f"{POINT}={tasks[0]}"]
        return ["-J", f"{tasks[0]}-{tasks[-1]}", *(["-W", f"max_run_subjobs={limit}"] if limit else [])]

    def element(self, job: str, task: int) -> str:
        """``12[3]`` of the array ``12[]``; a job of one element has its own id."""
        return job.replace("[]", f"[{task}]")


PBS = Pbs()


def walltime(seconds: int) -> str:
    """A time limit as PBS writes it."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _jobs(text: str) -> dict[str, QueuedJob]:
    """Jobs by their ids, from what ``qstat -f`` prints; a value goes on in lines that begin with a tab."""
    jobs = {}
    for block in re.split(r"^Job Id: ", text.replace("\n\t", ""), flags=re.MULTILINE)[1:]:
        name, *lines = block.splitlines()
        values = dict(re.findall(r"^    (\w+) = (.*)$", "\n".join(lines), flags=re.MULTILINE))
        if "job_state" in values:
            jobs[name.strip().partition(".")[0]] = _queued_job(values)
    return jobs


def _queued_job(values: dict[str, str]) -> QueuedJob:
    """A job of PBS's by its attributes."""
    letter, exit_status, comment = values["job_state"], values.get("Exit_status", ""), values.get("comment", "")
    phase: Phase
    if letter in WAITING:
        phase = "waiting"
    elif letter in ACTIVE:
        phase = "running"
    elif values.get("substate") == TERMINATED:
        phase = "cancelled"
    else:
        phase = "completed" if exit_status == "0" else "ended"
    return QueuedJob(f"exit status {exit_status}" if exit_status else letter, comment, phase, Pbs.title)
