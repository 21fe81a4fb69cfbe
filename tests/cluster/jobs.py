"""Job scripts of the tests."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcsgd.errors import UsageError
from hpcsgd.record import Run, load_run
from tests.cluster.slurm_cluster import SlurmCluster

# mpirun: the Open MPI of the Python wheel has Slurm's parts (prte_info lists ras and plm "slurm"). It takes nodes and
# slots from the job and starts its helper `prted` on each node by `srun`, so it needs neither --host nor ssh. It would
# bind each rank to a core of its own, and these nodes only claim to have them. On a real cluster it starts the ranks
# of the first node itself, with the batch script's environment; here, where no node has the host's name, prted starts
# all of them.
LAUNCHERS = {"srun": ["srun", "--mpi=pmix", "--kill-on-bad-exit=1"], "mpirun": ["mpirun", "--bind-to", "none"]}


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


def completed(cluster: SlurmCluster, path: Path, cwd: Path | None = None) -> str:
    """Submit a job script, from its own directory or from ``cwd``; it must succeed; its output."""
    return succeeded(cluster, cluster.sbatch(path, cwd=cwd))


def succeeded(cluster: SlurmCluster, job: str) -> str:
    """Wait for a job that must succeed; its output."""
    state = cluster.wait(job)
    output = cluster.output(job)
    assert state == "COMPLETED", f"{state}, exit code {cluster.exit_code(job)}:\n{output}\n{cluster.log_tails()}"
    return output


def sent(cluster: SlurmCluster, directory: Path, *words: str) -> list[str]:
    """Call ``hpcsgd`` with ``words`` in a directory; the ids of the jobs that it says it sent."""
    output = cluster.run(["hpcsgd", *words], cwd=directory).stdout
    return re.findall(r"^sent job (\d+):?", output, flags=re.MULTILINE)


def reports(output: str) -> list[dict[str, Any]]:
    """The lines of ``report.py`` in a job's output, one a rank."""
    lines = [line.partition("REPORT ")[2] for line in output.splitlines() if line.startswith("REPORT ")]
    return [json.loads(line) for line in lines]


def log_so_far(run_dir: Path) -> Run | None:
    """The log of a run that goes on; None where there is none to read yet."""
    try:
        return load_run(run_dir) if (run_dir / "run.h5").exists() else None
    except UsageError:
        # It is being made.
        return None
