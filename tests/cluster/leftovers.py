"""No process of a test cluster outlives the tests: not after a failed test, not after a killed session.

Each cluster has a directory below :data:`REGISTRY`, and beside it a lock that the kernel takes back from its owner
when the owner ends, however that is. A directory whose lock is free is a leftover.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

REGISTRY = Path("/tmp") / f"hpcsgd-slurm-{os.getuid()}"
"""Not below $TMPDIR: the path of a socket may have 107 characters."""
TERM_SECONDS = 5.0
KILL_SECONDS = 10.0


@contextmanager
def claim() -> Iterator[Path]:
    """A new directory of a cluster, once the leftovers of dead sessions are ended; at the end all in it is ended."""
    with _registry_locked():
        _end_leftovers()
        state = Path(tempfile.mkdtemp(dir=REGISTRY))
        lock = open(_lock_of(state), "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield state
    finally:
        with _registry_locked():
            _end(state, lock)


@contextmanager
def _registry_locked() -> Iterator[None]:
    """One session at a time may start or end clusters."""
    REGISTRY.mkdir(mode=0o700, exist_ok=True)
    if REGISTRY.stat().st_uid != os.getuid():
        raise PermissionError(f"{REGISTRY} belongs to somebody else")
    with open(REGISTRY / "lock", "w") as registry:
        fcntl.flock(registry, fcntl.LOCK_EX)
        yield


def _end_leftovers() -> None:
    """End every cluster whose owner is dead."""
    for state in [path for path in REGISTRY.iterdir() if path.is_dir()]:
        lock = open(_lock_of(state), "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            _end(state, lock)


def processes(state: Path) -> list[int]:
    """The processes of a cluster: its daemons, job steps and ranks. All of them have its SLURM_CONF."""
    mark = f"SLURM_CONF={state}/slurm.conf".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def _lock_of(state: Path) -> Path:
    return state.with_suffix(".lock")


def _end(state: Path, lock: IO[str]) -> None:
    """End the daemons by their pid files, then what is left of jobs; remove the directory."""
    _signal(_daemons(state), signal.SIGTERM)
    deadline = time.monotonic() + TERM_SECONDS
    while _daemons(state) and time.monotonic() < deadline:
        time.sleep(0.02)
    deadline = time.monotonic() + KILL_SECONDS
    while left := processes(state):
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes of the test cluster {state} cannot be killed: {left}")
        _signal(left, signal.SIGKILL)
        time.sleep(0.02)
    shutil.rmtree(state)
    _lock_of(state).unlink()
    lock.close()


def _daemons(state: Path) -> list[int]:
    """The living daemons. A number in a pid file may be another process's by now."""
    named = set()
    for path in state.glob("*.pid"):
        try:
            named.add(int(path.read_text()))
        except (FileNotFoundError, ValueError):
            # It ended just now; or it had not yet written its number when its owner was killed.
            continue
    return sorted(named & set(processes(state)))


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
