"""Variables of launchers and of the system, in processes of their own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from tests.fuzz.case import Case, Command, run_makes, train

COUNTS = ("0", "1", "1", "2", "4", "-1", "", "x", "1.5", "99999999999", "\u0664", " 2 ", "2,1", "0x2")
LAUNCHERS: tuple[tuple[str, ...], ...] = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("PMIX_RANK", "PMIX_NAMESPACE", "PMIX_SERVER_URI41", "PMIX_ID", "PMIX_SYSTEM_TMPDIR"),
    ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK"),
    ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"),
    ("PALS_SIZE", "PALS_RANKID", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    ("FLUX_JOB_SIZE", "FLUX_TASK_RANK", "FLUX_TASK_LOCAL_ID"),
    ("JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
)
SYSTEM: dict[str, tuple[str | None, ...]] = {
    "OMP_NUM_THREADS": ("", "0", "-1", "x", "4,2", "99999999999", "1000"),
    "HOME": (None, "", "nowhere", "/dev/null"),
    "TMPDIR": ("nowhere", "/dev/null", "", "rel ative", "/proc"),
    "XDG_CACHE_HOME": ("", "nowhere", "/dev/null", "~/x", "rel"),
    "HPCSGD_DATA": ("", "nowhere", ".", "~", "~nobody", "/dev/null", "a:b", "größe"),
    "LANG": ("C", "POSIX", "de_DE.ISO-8859-1", "nonsense", ""),
    "LC_ALL": ("C", "POSIX", "nonsense", "en_US.UTF-8"),
    "PYTHONIOENCODING": ("ascii", "latin1", "utf-8:strict", "ascii:backslashreplace"),
    "PYTHONUTF8": ("0", "1"),
    "PYTHONWARNINGS": ("error", "ignore"),
    "COLUMNS": ("0", "1", "-5", "x", "99999999"),
    "CUDA_VISIBLE_DEVICES": ("", "-1", "99", "abc", "0,0"),
    "PATH": ("", "/nowhere", None),
    "USER": (None, "größe"),
    "TERM": ("dumb", None),
    "TZ": ("nonsense", ""),
    "HDF5_USE_FILE_LOCKING": ("TRUE", "x"),
    "OMPI_MCA_mpi_ft_enable": ("1", "0"),
}

MPI_NEEDS = {"HOME", "TMPDIR"}
"""Without these Open MPI ends a process that a launcher has started before anyone else can say a word."""


def launcher(rng: Random) -> dict[str, str | None]:
    """Some variables of one launcher, as they would be, or not."""
    names = rng.choice(LAUNCHERS)
    return {name: rng.choice(COUNTS) for name in rng.sample(names, rng.randint(1, len(names)))}


def system(rng: Random, names: Sequence[str]) -> dict[str, str | None]:
    """Some variables of the system."""
    return {name: rng.choice(SYSTEM[name]) for name in rng.sample(names, rng.choice([1, 2, 3]))}


def make(rng: Random, work: Path, sound: Path) -> Case:
    """A command in an odd environment."""
    variables = launcher(rng) if rng.random() < 0.6 else {}
    if rng.random() < 0.6:
        variables |= system(rng, sorted({*SYSTEM} - MPI_NEEDS) if variables else sorted(SYSTEM))
    shutil.copytree(sound / "run", work / "größe")
    choices = [
        *3 * [Command(train(), makes=run_makes("run"))],
        *2 * [Command(train("neu-größe"), makes=run_makes("neu-größe"))],
        Command(train(data__name="mnist"), makes=run_makes("run")),
        Command(("hpcsgd", "info", "größe")),
        Command(("hpcsgd", "status", "größe")),
        Command(("hpcsgd", "train", "nicht-größe.yaml")),
        Command(("hpcsgd", "train", "--help"), codes=(0,)),
    ]
    command = rng.choice(choices)
    quiet = any(word in name for name in variables for word in ("RANK", "PROCID", "TASK", "ID"))
    given = replace(command, environment=variables, own_process=True, quiet=quiet)
    words = " ".join(command.words[1:4])
    return Case(f"{words} with {variables}", (given,))
