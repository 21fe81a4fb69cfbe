"""Run one command of a case apart from everything: its own folders, environment, session, memory, and a deadline."""

from __future__ import annotations

import faulthandler
import importlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.case import ROOT, Command

DEADLINE_SECONDS = 60
"""Far beyond what a case takes, for machines that are busy; reached only by a hang."""

MEMORY_BYTES = 8 << 30
INHERITED = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Ending:
    """What came of a command: ``code`` is negative for a signal, None for a hang; ``left``: some process is left."""

    code: int | None
    out: str
    err: str
    left: bool


def preload() -> None:
    """Import what takes long, once for all forks."""
    sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "analysis")) if path not in sys.path]
    import matplotlib

    matplotlib.use("Agg")
    for name in ("hpcsgd.train", "hpcsgd.trials.job", "hpcsgd.launch.status", "tables.learning", "PIL.Image", "pandas"):
        importlib.import_module(name)


def execute(command: Command, place: Path, name: str = "command") -> Ending:
    """Run ``command`` in ``place``/work to its end, or to the deadline.

    Args:
        command: what is run.
        place: the case's folder, which has ``work``, ``home`` and ``tmp``.
        name: of the files that keep its output.
    """
    out, err = place / f"{name}.out", place / f"{name}.err"
    start = _start_python if command.own_process else _fork
    process = start(command, place, (out, err))
    code, left = _wait(process), False
    try:
        os.killpg(process.pid or 0, signal.SIGABRT if code is None else 0)
        left = code is not None
        _wait(process, seconds=10)
        os.killpg(process.pid or 0, signal.SIGKILL)
    except ProcessLookupError:
        pass
    _wait(process, seconds=10)
    return Ending(code, *(path.read_text(errors="backslashreplace") for path in (out, err)), left)


Process = subprocess.Popen[bytes] | multiprocessing.process.BaseProcess


def _wait(process: Process, seconds: float = DEADLINE_SECONDS) -> int | None:
    """The exit code; None where there is none in time."""
    if isinstance(process, subprocess.Popen):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
    process.join(seconds)
    return process.exitcode


def environment(command: Command, place: Path) -> dict[str, str]:
    """Only what a case needs: its own home and temporary directory."""
    given = {
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "MPLCONFIGDIR": str(place.parent / "matplotlib"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "TZ": time.tzname[0],
        **command.environment,
    }
    return {name: value for name, value in given.items() if value is not None}


def _start_python(command: Command, place: Path, files: tuple[Path, Path]) -> Process:
    """A Python of its own."""
    program = ["-m", "hpcsgd"] if command.words[0] == "hpcsgd" else [str(ROOT / command.words[0])]
    with files[0].open("wb") as out, files[1].open("wb") as err:
        return subprocess.Popen(
            [sys.executable, *program, *command.words[1:]],
            cwd=place / "work",
            env=environment(command, place),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def _fork(command: Command, place: Path, files: tuple[Path, Path]) -> Process:
    """A fork of this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = multiprocessing.get_context("fork").Process(target=_child, args=(command, place, files))
    process.start()
    return process


def _child(command: Command, place: Path, files: tuple[Path, Path]) -> None:
    """The fork: as if it had just been started from a shell."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for descriptor, path in zip((1, 2), files, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.chdir(place / "work")
    given = environment(command, place)
    os.environ.clear()
    os.environ.update(given)
    tempfile.tempdir = None
    faulthandler.enable(2)
    sys.exit(_main(command.words))


def _main(words: Sequence[str]) -> int:
    """The command's own function."""
    module = "hpcsgd.cli" if words[0] == "hpcsgd" else Path(words[0]).stem
    code: int = importlib.import_module(module).main(list(words[1:]))
    return code
