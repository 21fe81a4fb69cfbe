"""Job scripts of the tests."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.slurm_cluster import SlurmCluster

# mpirun: the Open MPI of the Python wheel has Slurm's parts (prte_info lists ras and plm "slurm"). It takes nodes and
# slots from the job and starts its helper `prted` on each node by `srun`, so it needs neither --host nor ssh. It would
# bind each rank to a core of its own, and these nodes only claim to have them. On a real cluster it starts the ranks
# of the first node itself, with the batch script's environment; here, where no node has the host's name, prted starts
# all of them.
LAUNCHERS = {"srun": ["srun", "--mpi=pmix", "--kill-on-bad-exit=1"], "mpirun": ["mpirun", "--bind-to", "none"]}

SYNTHETIC = {
    "data.name": "synthetic",
    "data.synthetic_shape": "[1,4,4]",
    "data.synthetic_train_samples": "64",
    "data.synthetic_test_samples": "30",
    "model.widths": "[8]",
    "local_batch_size": "4",
    "threads": "1",
    "epochs": "1",
}
"""Keys of a run that takes milliseconds a step."""


def script(directory: Path, launcher: str, words: Sequence[str], options: Sequence[str] = ()) -> Path:
    """Write a job script that starts Python with ``words`` on every task."""
    path = directory / f"{launcher}.sbatch"
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in options),
        f"exec {shlex.join([*LAUNCHERS[launcher], sys.executable, *words])}",
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def train_words(run_dir: Path, **keys: str) -> list[str]:
    """``-m hpcsgd train`` of a small synthetic run; ``keys`` are dotted, with ``__`` for the dot."""
    values = SYNTHETIC | {key.replace("__", "."): value for key, value in keys.items()}
    return ["-m", "hpcsgd", "train", "--run_dir", str(run_dir), *(f"--{key}={value}" for key, value in values.items())]


def completed(cluster: SlurmCluster, path: Path) -> str:
    """Submit a job that must succeed; its output."""
    job = cluster.sbatch(path)
    state = cluster.wait(job)
    output = cluster.output(job)
    assert state == "COMPLETED", f"{state}, exit code {cluster.exit_code(job)}:\n{output}\n{cluster.log_tails()}"
    return output


def reports(output: str) -> list[dict[str, Any]]:
    """The lines of ``report.py`` in a job's output, one a rank."""
    lines = [line.partition("REPORT ")[2] for line in output.splitlines() if line.startswith("REPORT ")]
    return [json.loads(line) for line in lines]
