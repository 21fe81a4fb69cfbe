"""Commands of ``hpcsgd`` that begin at once: a process that has imported torch and matplotlib forks for each.

A shell finds the programs ``hpcsgd`` and ``python`` of :func:`serving` first on its ``PATH``. Each is a client that
hands its words, environment, directory and standard streams to the server, and ends by the exit code of the child that
does the work. Under mpirun the clients are its processes and the children are the ranks: what tells a process its rank
stands in the environment. All else is as in a process of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    words = {before!r} + sys.argv[1:]
    asked = json.dumps([words, os.getcwd(), dict(os.environ)]).encode(errors="surrogateescape")
    socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(asked)
    sys.exit(int(server.recv(8) or b"1"))
"""
PROGRAMS = {"hpcsgd": ["-m", "hpcsgd"], "python": []}


@dataclass
class Child:
    """A process that works for a client; ``ended`` is the descriptor by which it is waited for."""

    pid: int
    ended: int
    client: socket.socket


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Path]:
    """Inside, the programs in the directory that this gives are there; a server waits for them."""
    programs, place = folder / "bin", folder / "server"
    programs.mkdir()
    for name, before in PROGRAMS.items():
        program = programs / name
        program.write_text(CLIENT.format(python=sys.executable, place=str(place), before=before))
        program.chmod(0o755)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.pages.warm", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as server:
        try:
            while not place.exists():
                assert server.poll() is None, "the server ended"
                time.sleep(0.02)
            yield programs
        finally:
            server.terminate()


def serve(folder: Path) -> None:
    """Fork a child for each client, until a signal ends the server; returns in a child, whose work it then is."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "being-made"))
    listener.listen(16)
    os.rename(folder / "being-made", folder / "server")
    ready = select.poll()
    ready.register(listener, select.POLLIN)
    children: dict[int, Child] = {}
    while True:
        for number, _ in ready.poll():
            if number == listener.fileno():
                client, _ = listener.accept()
                if (pid := os.fork()) == 0:
                    listener.close()
                    return become(client)
                child = Child(pid, os.pidfd_open(pid), client)
                ready.register(child.ended, select.POLLIN)
                ready.register(client, 0)  # for its end alone
                children |= {child.ended: child, client.fileno(): child}
            elif number == (child := children[number]).ended:
                for known in (child.ended, child.client.fileno()):
                    if children.pop(known, None):
                        ready.unregister(known)
                answer(child)
            else:
                # The client was ended, so its work is.
                ready.unregister(number)
                del children[number]
                signal.pidfd_send_signal(child.ended, signal.SIGKILL)


def answer(child: Child) -> None:
    """Tell a client, if it is still there, how its child ended."""
    _, status = os.waitpid(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):
        child.client.sendall(str(code if code >= 0 else 128 - code).encode())
    child.client.close()
    os.close(child.ended)


def become(client: socket.socket) -> None:
    """Make this process what the client asks for, as if it had been started so, up to its work."""
    length, streams, _, _ = socket.recv_fds(client, 8, 3)
    asked = b""
    while len(asked) < int.from_bytes(length, "big"):
        asked += client.recv(1 << 16)
    words, directory, environment = json.loads(asked.decode(errors="surrogateescape"))
    client.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    sys.path[0] = ""


def warm_up() -> None:
    """Import what commands import, but for what starts MPI."""
    import matplotlib.pyplot
    import torch

    import hpcsgd.api.command
    import hpcsgd.record
    import hpcsgd.train
    import hpcsgd.trials.job  # noqa: F401

    del matplotlib, torch


def work() -> None:
    """What Python does with ``sys.argv``: ``-m MODULE ...`` or ``FILE ...``."""
    if sys.argv[0] == "-m":
        module = sys.argv[1]
        sys.argv = sys.argv[1:]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
        runpy.run_path(sys.argv[0], run_name="__main__")


def leave(code: int) -> NoReturn:
    """End this process at once: to take down all that the server has imported takes longer than most commands."""
    atexit._run_exitfuncs()
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def main(folder: Path) -> NoReturn:
    """Serve; in a child, work, and end by the code that Python ends by."""
    warm_up()
    # What is there now is looked through by no collection of garbage, which would copy it into each child.
    gc.freeze()
    sys.executable = str(folder / "bin" / "python")
    serve(folder)
    try:
        work()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        leave(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        leave(1)
    leave(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
