"""One mpirun for all laws at a world size, and what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.parallel.ranks import ROOT, TIMEOUT_SECONDS, command, environment


@dataclass(frozen=True)
class Job:
    """A finished job: exit code (None: it took too long), output, and a result for each case that came to its end."""

    code: int | None
    output: str
    cases: list[str]
    results: dict[str, dict[str, Any]]

    def ended_in(self) -> str:
        """The case in which the job ended before its time."""
        return next((case for case in self.cases if case not in self.results), "no case")


def run_job(world_size: int, cases: list[str], folder: Path) -> Job:
    """Run the laws named in ``cases`` on ``world_size`` ranks."""
    wanted, results = folder / "cases", folder / "results.jsonl"
    wanted.write_text("\n".join(cases))
    words = ["-m", "tests.parallel.run_laws", str(wanted), str(results)]
    # More ranks than cores: one that waits in MPI lets the others run.
    job = subprocess.Popen(
        command(world_size, *words),
        cwd=ROOT,
        env=environment(OMPI_MCA_mpi_yield_when_idle="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = job.communicate(timeout=TIMEOUT_SECONDS)
        code: int | None = job.returncode
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGTERM)  # mpirun ends its ranks
        output, _ = job.communicate(timeout=60)
        code = None
    lines = results.read_text().splitlines() if results.exists() else []
    return Job(code, output, cases, {line["id"]: line for line in map(json.loads, lines)})
