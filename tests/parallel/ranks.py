"""Start ranks from a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_SECONDS = 600
"""Far beyond what anything here takes, for machines that are busy; reached only by a hang."""

ROOT = Path(__file__).parents[2]
SYNTHETIC = {
    "data.name": "synthetic",
    "data.synthetic_shape": "[1,4,4]",
    "data.synthetic_train_samples": "240",
    "data.synthetic_test_samples": "30",
    "model.widths": "[8]",
    "local_batch_size": "4",
    "threads": "1",
}
"""Keys of a run that takes milliseconds a step."""


def command(num_ranks: int, *words: str, options: Sequence[str] = ()) -> list[str]:
    """The command line that starts ``num_ranks`` times Python with ``words``, with ``options`` of mpirun."""
    binding = ["--oversubscribe", "--bind-to", "none"]
    return ["mpirun", *options, *binding, "-n", str(num_ranks), sys.executable, *words]


def environment(**extra: str) -> dict[str, str]:
    """The environment of a job: as here, with MPI's leave to run as root, one thread a rank, and the tests at hand."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMP_NUM_THREADS": "1",
        **extra,
    }


def run(words: Sequence[str], folder: Path = ROOT, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder`` to its end, in the environment of a job, and give its exit code and output."""
    return subprocess.run(
        words,
        env=environment(**extra),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def mpirun(num_ranks: int, *words: str, options: Sequence[str] = (), **extra: str) -> subprocess.CompletedProcess[str]:
    """Run Python with ``words`` on so many ranks; see :func:`run`."""
    return run(command(num_ranks, *words, options=options), **extra)


def sleepers(num_ranks: int, *words: str) -> None:
    """Run Python with ``words`` on many ranks that mostly sleep: one that waits in MPI lets the others run."""
    subprocess.run(command(num_ranks, *words), check=True, env=environment(OMPI_MCA_mpi_yield_when_idle="1"))


def train_words(run_dir: Path, **keys: str) -> list[str]:
    """``-m hpcsgd train`` of a small synthetic run; ``keys`` are dotted, with ``__`` for the dot."""
    values = SYNTHETIC | {key.replace("__", "."): value for key, value in keys.items()}
    if "model.name" in values:
        del values["model.widths"]
    if values["data.name"] != "synthetic":
        values = {key: value for key, value in values.items() if not key.startswith("data.synthetic")}
    return ["-m", "hpcsgd", "train", "--run_dir", str(run_dir), *(f"--{key}={value}" for key, value in values.items())]
