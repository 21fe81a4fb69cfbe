"""What is said to Slurm and how: its variables, its commands, its way to write a time.

Every variable of Slurm's that ``hpcsgd.launch`` and the scripts use stands here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsgd.errors import UsageError

VARIABLES = {
    "SLURM_JOB_ID": "the job; each element of an array has its own",
    "SLURM_ARRAY_JOB_ID": "the job of the whole array",
    "SLURM_ARRAY_TASK_ID": "the element of the array",
    "SLURM_RESTART_COUNT": "how often the job was requeued; unset before the first time",
    "SLURM_JOB_NODELIST": "the nodes",
    "SLURM_JOB_NUM_NODES": "how many they are",
    "SLURM_CPUS_PER_TASK": "cores of a task, where sbatch was asked for them",
    "SRUN_CPUS_PER_TASK": "the same for srun, which does not read the former",
}
"""The variables, with their meaning. The template and the sites use no others."""

ACTIVE = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING",
          "SIGNALING", "STAGE_OUT", "STOPPED", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}  # fmt: skip
"""States of a job that Slurm has not finished with."""

WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
"""Those in which it has no nodes."""

TIMEOUT_SECONDS = 60

JOB_ID = re.compile(r"(?:Submitted batch job )?(\d+)(?:;\S*| on cluster \S+)?")
QUEUED_ID = re.compile(r"\d+(?:_(?:\d+|\[.*\]))?(?:\+\d+)?")
"""A job, an element of an array, those of it that still wait together, a part of a job of several kinds."""
STATE = re.compile(r"[A-Z]+(?:_[A-Z]+)*\b")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class QueuedJob:
    """What Slurm says of a job: its state, and why."""

    state: str
    reason: str


def time_seconds(text: str) -> int | None:
    """Seconds of a time limit as Slurm writes it (``90``, ``1:30:00``, ``2-12``, ...); None where it is none."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        return None
    days, *parts = (int(part) if part is not None else None for part in found.groups())
    given = [part for part in parts if part is not None]
    if days is not None:
        # D-HH, D-HH:MM, D-HH:MM:SS
        hours, minutes, seconds = (*given, 0, 0)[:3]
    elif len(given) == 3:
        hours, minutes, seconds = given
    else:
        # MM, MM:SS
        hours, (minutes, seconds) = 0, (*given, 0)[:2]
    return ((days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds


def submit(script: Path, options: Sequence[str] = (), cwd: Path | None = None) -> str:
    """Send a script to Slurm; the job's id.

    Raises:
        UsageError: there is no sbatch here, or it refused.
    """
    answer = _run(["sbatch", "--parsable", *options, str(script)], cwd)
    # A site's own sbatch may say more; the id has a line of its own, with the cluster's name where there are several.
    ids = [found[1] for line in plain(answer.stdout).splitlines() if (found := JOB_ID.fullmatch(line.strip()))]
    if not ids:
        said = " ".join(plain(answer.stdout + answer.stderr).split())
        raise UsageError(
            f"sbatch took the script, but gave no id of a job: {said or 'it said nothing'}; see squeue --me"
        )
    return ids[-1]


def test_only(script: Path, cwd: Path | None = None) -> str:
    """Ask Slurm whether it would take a script, and when it would start; nothing is sent.

    Raises:
        UsageError: there is no sbatch here, or it would refuse.
    """
    answer = _run(["sbatch", "--test-only", str(script)], cwd)
    return plain(answer.stderr + answer.stdout).strip()


def queue() -> dict[str, QueuedJob] | None:
    """The user's jobs that Slurm still knows, elements of arrays one by one; None where it cannot be asked."""
    answer = ask(["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T|%r"])
    return None if answer is None else _jobs(answer)


def finished(ids: Iterable[str]) -> dict[str, QueuedJob]:
    """How jobs ended that the queue has forgotten, where the site keeps accounts of them; else nothing."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    answer = ask(
        ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(wanted)}",
         "--format=JobID,State,ExitCode"]
    )  # fmt: skip
    return _jobs(answer) if answer is not None else {}


def _jobs(lines: str) -> dict[str, QueuedJob]:
    """Jobs by their ids, from lines of ``id|state|reason``; a state may go on, as in ``CANCELLED by 0``.

    Lines that are none of a job's, as a site's wrapper prints them, are passed over.
    """
    jobs = {}
    for line in lines.splitlines():
        name, *rest = line.strip().split("|")
        state, reason = (*rest, "", "")[:2]
        if QUEUED_ID.fullmatch(name) and STATE.match(state):
            jobs[name] = QueuedJob(state.split()[0].rstrip("+"), reason)
    return jobs


def plain(text: str) -> str:
    """``text`` without colours and other commands to a terminal."""
    return ESCAPE.sub("", text)


def ask(command: list[str]) -> str | None:
    """What a command of the site's prints; None where it is not here, fails, or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = _call(command)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return plain(done.stdout) if done.returncode == 0 else None


def _call(command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Call a command of the site's, whatever letters it prints."""
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=TIMEOUT_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def _run(command: list[str], cwd: Path | None) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm's that must work."""
    try:
        done = _call(command, cwd)
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise UsageError(f"the directory {cwd}, from which the job was first sent, is gone") from error
        raise UsageError(f"there is no {command[0]} here: send the script from a login node of the cluster") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{command[0]} did not answer within {TIMEOUT_SECONDS} s") from error
    if done.returncode:
        said = (
            " ".join(plain(done.stderr or done.stdout).split()).removeprefix(f"{command[0]}: ").removeprefix("error: ")
        )
        raise UsageError(f"{command[0]} refused: {said or f'exit code {done.returncode}'}")
    return done
