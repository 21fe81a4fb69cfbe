"""The schedulers that hpcsgd knows, by the name that a site gives."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal, get_args

from hpcsgd.errors import UsageError
from hpcsgd.launch.flux import FLUX
from hpcsgd.launch.pbs import PBS
from hpcsgd.launch.scheduler import Scheduler
from hpcsgd.launch.slurm import SLURM

SchedulerName = Literal["slurm", "pbs", "flux"]

SCHEDULERS: dict[SchedulerName, Scheduler] = {"slurm": SLURM, "pbs": PBS, "flux": FLUX}

assert set(SCHEDULERS) == set(get_args(SchedulerName))


def scheduler_of(script: str) -> Scheduler:
    """The scheduler that a script is for, by the end of its name.

    Raises:
        UsageError: it is for none of them.
    """
    for scheduler in SCHEDULERS.values():
        if scheduler.suffix == PurePath(script).suffix:
            return scheduler
    raise UsageError(f"{script}: the name of a script ends in {' or '.join(s.suffix for s in SCHEDULERS.values())}")
