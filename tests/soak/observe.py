"""Start a run with a fault, watch how it ends, and leave no process behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.parallel.ranks import ROOT, command, environment
from tests.soak.cells import DEADLINE_SECONDS, Cell

START_SECONDS = 120.0
"""A run that has not come to its fault by then never will."""
KEPT = "ending.json"
HUNG_SECONDS = 45.0
"""Beyond the deadline of the watchdog: it, the end of the job and a busy machine need some seconds."""


@dataclass
class Ending:
    """How a run ended: exit code (None: it hung), output, seconds from the fault to the end (None: no fault hit)."""

    code: int | None
    output: str
    seconds: float | None
    left_behind: list[int]

    def keep(self, folder: Path) -> None:
        """Keep it beside what the cell left: a soak that is cut off need not see it again."""
        (folder / KEPT).write_text(json.dumps(asdict(self)))

    @classmethod
    def kept(cls, folder: Path) -> Ending | None:
        """What :meth:`keep` left; None: the cell has not come to its end."""
        file = folder / KEPT
        return cls(**json.loads(file.read_text())) if file.exists() else None

    def said(self, cell: Cell) -> str:
        """What the cell's message matched, in one line; nothing if it was not there."""
        return matched(cell.message, self.output)


def matched(message: str, text: str) -> str:
    """What the regular expression ``message`` matched, in one line, without directories; nothing if it did not."""
    found = re.search(message, text)
    return re.sub(r"/\S*/run/", "", " ".join(found.group(0).split()))[:200] if found else ""


def deadline_of(cell: Cell) -> float:
    """``faults.collective_timeout_seconds`` of the run of a cell."""
    usual = DEADLINE_SECONDS if cell.fault.kind == "SIGSTOP" else 60
    return float(cell.keys.get("faults__collective_timeout_seconds", usual))


def words(cell: Cell, run_dir: Path, **keys: object) -> list[str]:
    """The options of the run of a cell."""
    usual = {"checkpoint__every_steps": 2, "faults__collective_timeout_seconds": deadline_of(cell)}
    return cell.method.words(run_dir, **(usual | cell.keys | keys))


def run_cell(cell: Cell, folder: Path) -> Ending:
    """Run a cell to its end in ``folder``, which holds ``run`` afterwards."""
    if cell.fault.kind == "two jobs":
        return _two_jobs(cell, folder)
    if cell.fault.detail != "tmpfs":
        return _watch(cell, folder, *_start(cell, folder, words(cell, folder / "run")))
    disk = folder / "disk"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    try:
        ending = _watch(cell, folder, *_start(cell, folder, words(cell, disk / "run")))
        if (disk / "run").exists():
            shutil.copytree(disk / "run", folder / "run")
        return ending
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def _start(cell: Cell, folder: Path, options: list[str]) -> tuple[subprocess.Popen[bytes], Path]:
    """Start the run of a cell; its output goes to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    extra = {"SOAK_FAULT": json.dumps(asdict(cell.fault)), "SOAK_FOLDER": str(folder)}
    output = folder / "output"
    with output.open("wb") as file:
        job = subprocess.Popen(
            command(cell.method.ranks, "-m", "tests.soak.faulty", "train", *options),
            cwd=ROOT,
            env=environment(OMPI_MCA_mpi_yield_when_idle="1", **extra),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return job, output


def _watch(cell: Cell, folder: Path, job: subprocess.Popen[bytes], output: Path) -> Ending:
    """Wait for the end, or for the moment when the run counts as hung."""
    start, hit = time.time(), folder / "hit"
    deadline = deadline_of(cell)
    while job.poll() is None:
        since = time.time() - (float(hit.read_text() or start) if hit.exists() else start)
        if since > (deadline + HUNG_SECONDS if hit.exists() else START_SECONDS):
            break
        time.sleep(0.02)
    code, end = job.poll(), time.time()
    left = _end_processes(job, folder)
    seconds = end - float(hit.read_text()) if hit.exists() else None
    return Ending(code, output.read_text(errors="replace"), seconds, left if code is not None else [])


def _end_processes(job: subprocess.Popen[bytes], folder: Path) -> list[int]:
    """Kill what is left of a job; the ranks that outlived their mpirun by more than a moment."""
    pids = [int(file.read_text()) for file in folder.glob("pid-*")]
    patience = time.time() + (5 if job.poll() is not None else 0)
    while (left := [pid for pid in pids if _is_ours(pid)]) and time.time() < patience:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if job.poll() is None:
        job.kill()
        job.wait()
    return left


def _is_ours(pid: int) -> bool:
    """Whether a process of the soak is still alive under this number."""
    try:
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"tests.soak.faulty" in command_line


def _two_jobs(cell: Cell, folder: Path) -> Ending:
    """A run pauses amid its phase; a second one is started on its directory; the first goes on."""
    modes = {"none": {}, "resume": {"resume": "auto"}, "overwrite": {"overwrite": "true"}}
    patient = {"faults__collective_timeout_seconds": 600}
    first, output = _start(cell, folder, words(cell, folder / "run", **patient))
    start = time.time()
    while first.poll() is None and not (folder / "hit").exists() and time.time() - start < START_SECONDS:
        time.sleep(0.05)
    options = words(cell, folder / "run", **patient, **modes[cell.fault.detail])
    began = time.time()
    second = subprocess.Popen(
        command(cell.method.ranks, "-m", "hpcsgd", "train", *options),
        cwd=ROOT,
        env=environment(OMPI_MCA_mpi_yield_when_idle="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, said = second.communicate(timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
        second.kill()
        _, said = second.communicate()
        said += "\nthe second job did not come to its end"
    seconds = time.time() - began
    (folder / "go").touch()
    with contextlib.suppress(subprocess.TimeoutExpired):
        first.wait(START_SECONDS)
    hung = first.poll() is None or second.returncode < 0
    left = _end_processes(first, folder)
    good = first.returncode == 0 and second.returncode == 2
    text = said + ("" if good else f"\nfirst {first.returncode}: {output.read_text()}")
    return Ending(None if hung else first.returncode, text, seconds, left)
