"""Which launcher started this process, and what it tells of its start: one table for all who ask."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from hpcsgd.errors import LaunchError


@dataclass(frozen=True)
class Launcher:
    """A launcher by the variables that it gives to each process.

    Attributes:
        name: as users call it.
        size: variable of the number of processes; empty where there is none.
        rank: variable of the number of this one.
        remedy: what to start ranks with where MPI does not see them.
        marks: variables that are there too; without them, the others may be of anything.
        local_size: variable of the processes on this node.
        speaks_mpi: its processes can find each other by MPI.
        agrees: variables of another launcher that it sets too, each with its own: where two differ, the other one was
            started by one of its processes, and counts.
    """

    name: str
    size: str
    rank: str
    remedy: str
    marks: tuple[str, ...] = ()
    local_size: str = ""
    speaks_mpi: bool = True
    agrees: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Launch:
    """How this process was started.

    Attributes:
        launcher: by what.
        size: how many processes; None where the launcher does not tell.
        rank: which of them this is; None where it does not tell.
        at_least: how many there are at least.
    """

    launcher: Launcher
    size: int | None
    rank: int | None
    at_least: int


MPIRUN = "mpirun -n N hpcsgd ... of the MPI that mpi4py was built with"
SRUN = "srun --mpi=pmix (srun --mpi=list shows the kinds), or mpirun inside the job"

FLUX = "flux run of the site's MPI, or with -o pmi=pmix where there is Flux's plugin for it"
JSRUN = "jsrun with the site's Spectrum MPI loaded"
PALS = "mpiexec with the site's Cray MPICH"

LAUNCHERS = (
    # Those of other packages come first: each of their processes may lie inside of one that MPI's launcher started.
    Launcher("torchrun", "WORLD_SIZE", "RANK", MPIRUN, marks=("TORCHELASTIC_RUN_ID",), speaks_mpi=False),
    # These speak by the variables of Open MPI and PMI as well, which ranks of another mpirun inside have of their own.
    Launcher(
        *("jsrun", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK", JSRUN),
        agrees=(("OMPI_COMM_WORLD_SIZE", "JSM_NAMESPACE_SIZE"), ("OMPI_COMM_WORLD_RANK", "JSM_NAMESPACE_RANK")),
    ),
    Launcher(
        *("flux run", "FLUX_JOB_SIZE", "FLUX_TASK_RANK", FLUX),
        agrees=(
            ("OMPI_COMM_WORLD_SIZE", "FLUX_JOB_SIZE"),
            ("PMI_SIZE", "FLUX_JOB_SIZE"),
            ("PMI_RANK", "FLUX_TASK_RANK"),
        ),
    ),
    Launcher("mpiexec of PALS", "PMI_SIZE", "PALS_RANKID", PALS, agrees=(("PMI_RANK", "PALS_RANKID"),)),
    Launcher("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", MPIRUN),
    Launcher("mpirun", "PMI_SIZE", "PMI_RANK", MPIRUN),
    Launcher("mpirun_rsh", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", MPIRUN),
    Launcher("mpirun_rsh", "MVP_COMM_WORLD_SIZE", "MVP_COMM_WORLD_RANK", MPIRUN),
    Launcher("mpirun_rsh", "MPIRUN_NPROCS", "MPIRUN_RANK", MPIRUN),
    Launcher("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", SRUN),
    Launcher("horovodrun --gloo", "HOROVOD_SIZE", "HOROVOD_RANK", MPIRUN, speaks_mpi=False),
    Launcher("a launcher for torch.distributed", "WORLD_SIZE", "RANK", MPIRUN, ("LOCAL_RANK",), speaks_mpi=False),
    Launcher("a launcher for torch.distributed", "WORLD_SIZE", "RANK", MPIRUN, ("MASTER_ADDR",), speaks_mpi=False),
    Launcher("mpiexec of PALS", "", "PALS_RANKID", PALS, local_size="PALS_LOCAL_SIZE"),
    Launcher("aprun", "", "ALPS_APP_PE", "aprun with the site's Cray MPICH"),
    Launcher("prterun", "", "PMIX_RANK", MPIRUN),
)
"""The innermost first: mpirun may itself run inside a Slurm job, whose own variables then speak of the job."""

JOB_SIZES = {
    "SLURM_NTASKS": ("SLURM_JOB_ID", "srun or mpirun"),
    "LSB_DJOB_NUMPROC": ("LSB_JOBID", "jsrun or mpirun"),
    "PBS_NP": ("PBS_JOBID", "mpiexec"),
}
"""Tasks that a job was asked for, where they are not started yet; the variable of the job, and what starts them."""


def find_launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What started this process; None where there was no launcher, or one of another package that started it alone."""
    for launcher in LAUNCHERS:
        if not all(environment.get(mark) for mark in launcher.marks):
            continue
        if any(inner in environment and environment[inner] != environment.get(own) for inner, own in launcher.agrees):
            continue
        size, rank = _number(environment, launcher.size), _number(environment, launcher.rank)
        told = rank if not launcher.size else size
        if not told and (launcher.size or told is None):
            continue
        if not launcher.speaks_mpi and (rank is None or size is None or size == 1):
            continue
        least = _number(environment, launcher.local_size) or 1
        return Launch(launcher, size, rank, max(least, size or 0, 1 if rank is None else rank + 1))
    return None


def launched_size(environment: Mapping[str, str] = os.environ) -> int | None:
    """How many processes the launcher says that it started with this one; None where nobody says."""
    launch = find_launch(environment)
    return launch.size if launch is not None else None


def launcher_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """The number of this process as its launcher gave it, whatever MPI says; None without a launcher."""
    launch = find_launch(environment)
    return launch.rank if launch is not None else None


def tasks_asked(environment: Mapping[str, str] = os.environ) -> tuple[int, str] | None:
    """The tasks of the job that this process runs in, and what starts them; None outside of one."""
    for name, (job, starter) in JOB_SIZES.items():
        number = _number(environment, name)
        if number and environment.get(job):
            return number, starter
    return None


def refusal(launch: Launch, problem: str) -> LaunchError:
    """The error of processes that do not see each other; ``problem`` follows on how many were started."""
    count = launch.size if launch.size is not None else f"at least {launch.at_least}"
    text = f"{launch.launcher.name} started {count} processes, but {problem}: start them by {launch.launcher.remedy}"
    # Where the size is not known, the first process may not know that it is not alone; the second one does.
    first = 0 if launch.size is not None or launch.launcher.local_size else 1
    return LaunchError(text, tells=launch.rank is None or launch.rank == first)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """A variable as a number; None where it is none."""
    text = environment.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
