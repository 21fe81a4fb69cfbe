"""What a scheduler is to hpcsgd: how its scripts begin, how they are sent and asked for, and what it can do.

A new one is a class of these methods, a template in ``slurm/`` that fills in the blocks of ``job.sh.j2``, and a line in
``schedulers.py``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Phase = Literal["waiting", "running", "completed", "cancelled", "ended"]
"""Where a job is: in the queue, on its nodes, at its good end, ended by its user, at another end."""


@dataclass(frozen=True)
class QueuedJob:
    """What a scheduler says of a job: its state in the scheduler's own word, why, and what that means."""

    state: str
    reason: str
    phase: Phase
    by: str = ""

    @property
    def ending(self) -> str:
        """The scheduler's word for an end that was not a good one; else nothing."""
        return f"{self.by}: {self.state}" if self.phase != "completed" else ""

    @property
    def is_active(self) -> bool:
        """The scheduler has not finished with it."""
        return self.phase in ("waiting", "running")


class Scheduler(ABC):
    """One kind of scheduler.

    Attributes:
        title: as people call it.
        sender: the command that takes a script.
        template: the template of its scripts in ``slurm/``.
        suffix: how the scripts' names end; by this a script that was sent before is known to be of this scheduler.
        job: a shell word: the job's id, as the run's directory has it where none is set.
        launchers: what may start the ranks of a job.
        options: the options of a site that it has, and how a line of the script asks for each, up to its value.
        has_arrays: one job may be many, each of one run.
        arrays_are_restarted: elements of an array must be let run again after a failure of a node.
        restarts: how often a job that was stopped puts itself back into the queue, unless the site says; None where the
            scheduler lets no user do that.
        no_restarts: why, and what to do instead.
        variables: what the scheduler tells a job by the environment, with its meaning; scripts use no others.
    """

    title: str
    sender: str
    template: str
    suffix: str
    job: str
    launchers: tuple[str, ...]
    options: Mapping[str, str]
    has_arrays: bool
    arrays_are_restarted: bool = False
    restarts: int | None
    no_restarts: str = ""
    variables: Mapping[str, str]

    @abstractmethod
    def output(self, text: str, *, is_array: bool) -> str:
        """The file of what a job prints, as the scheduler writes it; in ``text`` stand ``{name}`` and ``{job}``."""

    @abstractmethod
    def submit(self, script: Path, options: Sequence[str] = (), cwd: Path | None = None) -> str:
        """Send a script, from a directory; the job's id.

        Raises:
            UsageError: there is no such scheduler here, or it refused.
        """

    @abstractmethod
    def check(self, script: Path) -> str:
        """Ask whether the scheduler would take a script; what it says. Nothing is sent.

        Raises:
            UsageError: it cannot be asked, or it would refuse.
        """

    @abstractmethod
    def queue(self, ids: Iterable[str]) -> dict[str, QueuedJob] | None:
        """The user's jobs that the scheduler still knows, ``ids`` among them; None where it cannot be asked."""

    def finished(self, ids: Iterable[str]) -> dict[str, QueuedJob]:
        """How jobs ended that the queue has forgotten, where somebody keeps that; else nothing."""
        return {}

    @abstractmethod
    def after(self, job: str) -> list[str]:
        """Options by which a job waits for the end of another one, whichever end."""

    def parts(self, tasks: Sequence[int]) -> list[tuple[int, ...]]:
        """Elements of an array, in order, by the jobs that they can be sent in."""
        return [tuple(tasks)]

    def elements(self, tasks: Sequence[int], *, whole: bool, limit: int | None) -> list[str]:
        """Options by which an array's script is sent for these elements, one of its parts.

        Args:
            tasks: the elements.
            whole: they are all of the array's.
            limit: how many may run at a time; unset, any number.
        """
        raise NotImplementedError(f"{self.title} has no arrays")

    def element(self, job: str, task: int) -> str:
        """The id of an element of an array."""
        raise NotImplementedError(f"{self.title} has no arrays")


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
