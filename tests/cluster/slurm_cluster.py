"""A real Slurm cluster on this machine, for root: a private munged, one slurmctld, and a slurmd for each node."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.cluster.daemons import Daemons, Process
from tests.cluster.leftovers import claim
from tests.cluster.slurm_conf import Layout, free_ports

ROOT = Path(__file__).parents[2]
JOB_SECONDS = 300.0
"""Far beyond what anything here takes, for machines that are busy; reached only by a hang."""
CANCEL_SECONDS = 5.0
POLL_SECONDS = 0.1
FINAL_STATES = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED TIMEOUT".split()
)
FOREIGN = ("SLURM", "SBATCH_", "SRUN_", "OMPI_", "PMIX_", "PRTE_", "PMI_")
"""Variables of a job that the tests themselves may run in."""


def job_environment(layout: Layout) -> dict[str, str]:
    """The environment of all commands and, as sbatch passes it on, of all jobs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {
        "SLURM_CONF": str(layout.slurm_conf),
        # The tests' Python and its mpirun, unless others come first; Debian has the daemons in sbin.
        "PATH": os.pathsep.join([kept.get("PATH", ""), str(Path(sys.executable).parent), "/usr/sbin", "/sbin"]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]),
        # What killed ranks leave goes with the cluster's directory, the segments that Open MPI has in /dev/shm too.
        "TMPDIR": str(layout.temporary),
        "OMPI_MCA_btl_sm_backing_directory": str(layout.temporary),
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }


class SlurmCluster:
    """A context: the cluster is up inside of it, and nothing of it is left outside.

    Nodes are called n1, n2, … ``root`` gets the daemons' logs. GPUs are played: Slurm counts them and sets
    CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, num_nodes: int, root: Path, cpus_per_node: int = 4, gpus_per_node: int = 0) -> None:
        """Nothing is started yet."""
        self.nodes = tuple(f"n{index + 1}" for index in range(num_nodes))
        self.root = root
        self.cpus_per_node, self.gpus_per_node = cpus_per_node, gpus_per_node
        self.environment: dict[str, str] = {}
        self._layout: Layout | None = None
        self._stack = ExitStack()

    def __enter__(self) -> SlurmCluster:
        """Start it, and wait until every node is idle."""
        with ExitStack() as stack:
            # The last thing to do at the end: take note of the daemons' end, or they stay as zombies.
            processes: list[Process] = []
            stack.callback(lambda: [process.wait() for process in processes])
            state = stack.enter_context(claim())
            ports = free_ports(1 + len(self.nodes))
            layout = Layout(state, self.root, self.nodes, self.cpus_per_node, self.gpus_per_node, ports)
            layout.write()
            self.environment = job_environment(layout)
            Daemons(layout, self.environment, processes).start()
            stack.callback(self._cancel_all)
            self._layout = layout
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End all of it, jobs too."""
        self._stack.close()

    def run(
        self, words: Sequence[str], cwd: Path | None = None, timeout: float = 60.0, check: bool = True, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with the cluster's environment and ``extra`` variables; unless told, it must succeed."""
        done = subprocess.run(
            list(words),
            env=self.environment | extra,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def sbatch(
        self, script: Path, *args: str, options: Sequence[str] = (), cwd: Path | None = None, **extra: str
    ) -> str:
        """Submit ``script`` from its own directory or ``cwd``, with ``args`` and sbatch's ``options``; the job's id."""
        words = ["sbatch", "--parsable", *options, str(script), *args]
        return self.run(words, cwd=cwd or script.parent, **extra).stdout.strip().split(";")[0]

    def show(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says of a job, or of an element of an array such as 7_2."""
        lines = self.run(["scontrol", "--oneliner", "show", "job", job]).stdout.splitlines()
        assert len(lines) == 1, f"{job} is an array: ask for its elements"
        return dict(word.split("=", 1) for word in lines[0].split() if "=" in word)

    def state(self, job: str) -> str:
        """The job's state, such as PENDING."""
        return self.show(job)["JobState"]

    def exit_code(self, job: str) -> int:
        """The exit code of the job's script."""
        return int(self.show(job)["ExitCode"].split(":")[0])

    def output(self, job: str) -> str:
        """What the job has printed so far (its standard error too, unless that has a file of its own)."""
        path = Path(self.show(job)["StdOut"])
        return path.read_text() if path.exists() else ""

    def wait(self, job: str, timeout: float = JOB_SECONDS) -> str:
        """Wait for the end of a job; its state then."""
        self.wait_for(job, lambda: self.state(job) in FINAL_STATES, timeout)
        return self.state(job)

    def wait_for(self, job: str, condition: Callable[[], bool], timeout: float = JOB_SECONDS) -> None:
        """Wait until ``condition`` holds; a TimeoutError tells all about the job."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not in {timeout:g} s: {self.show(job)}\n{self.output(job)}\n{self.log_tails()}")
            time.sleep(POLL_SECONDS)

    def signal(self, job: str, name: str, *, batch: bool = False) -> None:
        """Send the signal ``name`` (USR1, …) to the processes of the job's steps, or only to its batch script."""
        self.run(["scancel", f"--signal={name}", *(["--batch"] if batch else []), job])

    def requeue(self, job: str, timeout: float = JOB_SECONDS) -> None:
        """Preempt a running job as an operator would, and let it start again at once."""
        restarts = int(self.show(job)["Restarts"])
        self.run(["scontrol", "requeue", job])
        self.restart_now(job, restarts + 1, timeout)

    def restart_now(self, job: str, restarts: int = 1, timeout: float = JOB_SECONDS) -> None:
        """Wait until the job was requeued ``restarts`` times, and spare it Slurm's two minutes before the start."""
        self.wait_for(job, lambda: int(self.show(job)["Restarts"]) >= restarts, timeout)
        self.wait_for(job, lambda: self._start_now(job), timeout)

    def log_tails(self) -> str:
        """The last lines of the daemons' logs."""
        return self._layout.log_tails() if self._layout is not None else ""

    def _start_now(self, job: str) -> bool:
        shown = self.show(job)
        if shown["JobState"] != "PENDING":
            # Slurm takes no new start while the nodes clean up.
            return shown["JobState"] != "COMPLETING"
        # Slurm queues a job again while the daemons of its steps may still hold the sockets of their names, which those
        # of the next start will have too.
        if self._layout is not None and list(self._layout.state.glob(f"spool-*/*[_.]{shown['JobId']}.*")):
            return False
        # A slurmd starts no job in the second in which it ended it ("Job credential revoked"), hence the next one.
        words = ["scontrol", "update", f"JobId={job}", "StartTime=now+1second"]
        return self.run(words, check=False).returncode == 0

    def _cancel_all(self) -> None:
        """Jobs that still run are of a failed test: let them go in an orderly way, so that MPI tidies up."""
        try:
            self.run(["scancel", "--partition=main"], timeout=CANCEL_SECONDS, check=False)
            deadline = time.monotonic() + CANCEL_SECONDS
            while self.run(["squeue", "--noheader"], timeout=CANCEL_SECONDS, check=False).stdout.strip():
                if time.monotonic() > deadline:
                    break
                time.sleep(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            # The controller hangs. All is killed next.
            pass
