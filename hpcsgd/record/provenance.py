"""Where a run comes from: the code, the versions, the machine and the job."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import hpcsgd

PACKAGES = ("torch", "mpi4py", "horovod", "h5py", "numpy")
ENVIRONMENT = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("PBS_JOBID", "PBS_QUEUE", "PBS_NODEFILE", "FLUX_JOB_ID", "FLUX_JOB_NNODES"),
    *("CUDA_DEVICE_MAX_CONNECTIONS", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
)
ENVIRONMENT_PREFIXES = (
    *("OMPI_MCA_", "PRTE_MCA_", "MPICH_", "MPIR_", "I_MPI_", "HOROVOD_", "NCCL_", "TORCH_NCCL_", "GLOO_", "UCX_"),
)
GIT_TIMEOUT_SECONDS = 10


def collect(argv: Sequence[str], config_text: Mapping[str, object]) -> dict[str, object]:
    """Provenance of a run that starts now in this process.

    Args:
        argv: the command line.
        config_text: the resolved recipe, of plain values.

    Returns:
        Values that JSON can hold: ``config``, ``argv``, ``started`` (UTC, ISO 8601), ``git_commit`` (of this code, with
        ``-dirty`` where it was changed; None outside of git), ``job`` (the scheduler's, with the array task; None
        outside), ``versions``, ``platform``, ``host``, ``cpu``, ``num_cpus``, ``slurm`` and ``environment``
        (variables).
    """
    return {
        "config": dict(config_text),
        "argv": list(argv),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(Path(hpcsgd.__file__).parent),
        "job": scheduler_job(os.environ),
        "versions": versions(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": cpu_model(),
        "num_cpus": os.cpu_count(),
        "slurm": slurm_variables(os.environ),
        "environment": environment_variables(os.environ),
    }


def git_commit(directory: Path) -> str | None:
    """The commit that ``directory`` is checked out from, with ``-dirty`` where something in it was changed since.

    None where git does not track it: an installed package is told by its version.
    """
    if _git(directory, "ls-files", "--error-unmatch", ".") is None:
        return None
    commit = _git(directory, "rev-parse", "HEAD")
    changes = _git(directory, "status", "--porcelain", "--", ".")
    if commit is None or changes is None:
        return None
    return commit + ("-dirty" if changes else "")


def _git(directory: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails or is not there."""
    command = ["git", "--no-optional-locks", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str | None]:
    """Versions of Python, hpcsgd and the packages that results may depend on; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "hpcsgd": hpcsgd.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The processor's name, where the system tells it."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, name = line.partition(":")
        if key.strip() == "model name":
            return name.strip()
    return platform.processor() or None


def scheduler_job(environment: Mapping[str, str]) -> str | None:
    """The job of a scheduler that this process is of; None outside of one.

    What hpcsgd's own script says comes first: one scheduler may run inside a job of another. Slurm's is ``1234``, or
    ``1234_5`` for a task of an array, that of PBS ``1234`` or ``1234[5]``, without its server.
    """
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    slurm = f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID")
    pbs = environment.get("PBS_JOBID", "").partition(".")[0]
    return environment.get("HPCSGD_JOB") or slurm or pbs or environment.get("FLUX_JOB_ID") or None


def slurm_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Slurm's variables, but for its token."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(("SLURM_", "SLURMD_")) and name != "SLURM_JWT"
    }


def environment_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that steer threads, devices and communication."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name in ENVIRONMENT or name.startswith(ENVIRONMENT_PREFIXES)
    }
