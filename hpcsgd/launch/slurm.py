"""Slurm: its variables, its commands, its words.

Every variable of Slurm's that ``hpcsgd.launch`` and the scripts use stands here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpcsgd.errors import UsageError
from hpcsgd.launch.asking import ask, plain, run
from hpcsgd.launch.scheduler import Phase, QueuedJob, Scheduler

ACTIVE = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING",
          "SIGNALING", "STAGE_OUT", "STOPPED", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}  # fmt: skip
"""States of a job that Slurm has not finished with."""

WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
"""Those in which it has no nodes."""

JOB_ID = re.compile(r"(?:Submitted batch job )?(\d+)(?:;\S*| on cluster \S+)?")
QUEUED_ID = re.compile(r"\d+(?:_(?:\d+|\[.*\]))?(?:\+\d+)?")
"""A job, an element of an array, those of it that still wait together, a part of a job of several kinds."""
STATE = re.compile(r"[A-Z]+(?:_[A-Z]+)*\b")


class Slurm(Scheduler):
    """Slurm, 22.05 and later."""

    title = "Slurm"
    sender = "sbatch"
    template = "job.sbatch.j2"
    suffix = ".sbatch"
    job = "$SLURM_JOB_ID"
    launchers = ("srun", "mpirun", "ibrun")
    options = {name: f"--{name}=" for name in ("account", "partition", "qos", "constraint", "reservation")}
    has_arrays = True
    restarts = 20
    variables = {
        "SLURM_JOB_ID": "the job; each element of an array has its own",
        "SLURM_ARRAY_JOB_ID": "the job of the whole array",
        "SLURM_ARRAY_TASK_ID": "the element of the array",
        "SLURM_RESTART_COUNT": "how often the job was requeued; unset before the first time",
        "SLURM_JOB_NODELIST": "the nodes",
        "SLURM_JOB_NUM_NODES": "how many they are",
        "SLURM_CPUS_PER_TASK": "cores of a task, where sbatch was asked for them",
        "SRUN_CPUS_PER_TASK": "the same for srun, which does not read the former",
    }

    def output(self, text: str, *, is_array: bool) -> str:
        """With Slurm's own places: %x, %j, or %A_%a for an element of an array."""
        return text.replace("{name}", "%x").replace("{job}", "%A_%a" if is_array else "%j")

    def submit(self, script: Path, options: Sequence[str] = (), cwd: Path | None = None) -> str:
        """By sbatch."""
        answer = run(["sbatch", "--parsable", *options, str(script)], cwd)
        # A site's own sbatch may say more; the id has a line of its own, with the cluster's name where there are
        # several.
        ids = [found[1] for line in plain(answer.stdout).splitlines() if (found := JOB_ID.fullmatch(line.strip()))]
        if not ids:
            said = " ".join(plain(answer.stdout + answer.stderr).split())
            raise UsageError(
                f"sbatch took the script, but gave no id of a job: {said or 'it said nothing'}; see squeue --me"
            )
        return ids[-1]

    def check(self, script: Path) -> str:
        """Whether Slurm would take the script, and when it would start."""
        answer = run(["sbatch", "--test-only", str(script)], None)
        return plain(answer.stderr + answer.stdout).strip()

    def queue(self, ids: Iterable[str] = ()) -> dict[str, QueuedJob] | None:
        """All of the user's jobs, elements of arrays one by one."""
        answer = ask(["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T|%r"])
        return None if answer is None else _jobs(answer)

    def finished(self, ids: Iterable[str]) -> dict[str, QueuedJob]:
        """From the accounts, where the site keeps them."""
        wanted = sorted(set(ids))
        if not wanted:
            return {}
        answer = ask(
            ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(wanted)}",
             "--format=JobID,State,ExitCode"]
        )  # fmt: skip
        return _jobs(answer) if answer is not None else {}

    def after(self, job: str) -> list[str]:
        """A dependency of sbatch."""
        return [f"--dependency=afterany:{job}"]

    def elements(self, tasks: Sequence[int], *, whole: bool, limit: int | None) -> list[str]:
        """Any list of them; the script itself says all."""
        return [] if whole else [f"--array={','.join(map(str, tasks))}{f'%{limit}' if limit else ''}"]

    def element(self, job: str, task: int) -> str:
        """``12_3``."""
        return f"{job}_{task}"


SLURM = Slurm()


def _jobs(lines: str) -> dict[str, QueuedJob]:
    """Jobs by their ids, from lines of ``id|state|reason``; a state may go on, as in ``CANCELLED by 0``.

    Lines that are none of a job's, as a site's wrapper prints them, are passed over.
    """
    jobs = {}
    for line in lines.splitlines():
        name, *rest = line.strip().split("|")
        state, reason = (*rest, "", "")[:2]
        if QUEUED_ID.fullmatch(name) and STATE.match(state):
            jobs[name] = queued_job(state.split()[0].rstrip("+"), reason)
    return jobs


def queued_job(state: str, reason: str = "") -> QueuedJob:
    """A job of Slurm's in one of its states."""
    ends: dict[str, Phase] = {"COMPLETED": "completed", "CANCELLED": "cancelled"}
    active: Phase = "waiting" if state in WAITING else "running"
    reason = reason if reason != "None" else ""
    return QueuedJob(state, reason, active if state in ACTIVE else ends.get(state, "ended"), Slurm.title)
