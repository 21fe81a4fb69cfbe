"""One rank's failure ends the job: without this, the others would wait in a collective for ever."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import JointError, LoneError

INTERRUPTED = 128 + signal.SIGINT
"""The exit code of a rank that Ctrl-C ended, as a shell has it."""


@contextmanager
def abort_on_failure(comm: Communicator, *, alone: bool = False) -> Iterator[None]:
    """Run the body; an exception or exit of this rank is printed with its rank and ends all ranks, non-zero.

    ``alone``: it ends this rank only, by a signal, as the others go on without it.

    ``JointError`` passes: it is raised by all ranks together. So does any exception in a job of one rank. Threads
    that the body starts are covered too.
    """
    faulthandler.enable(2)
    if comm.size == 1:
        yield
        return

    def thread_failed(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_value is not None:
            _end_job(comm, failure.exc_value, alone)

    previous, threading.excepthook = threading.excepthook, thread_failed
    try:
        yield
    except JointError:
        raise
    except BaseException as error:
        _end_job(comm, error, alone)
    finally:
        threading.excepthook = previous


def _end_job(comm: Communicator, error: BaseException, alone: bool) -> None:
    """Print what happened, unless that was Ctrl-C, and abort with the exit's code, or 1."""
    if isinstance(error, LoneError):
        print(f"hpcsgd: rank {comm.rank}: {error}; the job ends", file=sys.stderr, flush=True)
        comm.abort(error.exit_code)
        return
    if isinstance(error, KeyboardInterrupt):
        comm.abort(INTERRUPTED)
        return
    text = "".join(traceback.format_exception(error))
    ending = "the others go on" if alone else "the job ends"
    print(f"hpcsgd: rank {comm.rank} of {comm.size} failed; {ending}\n{text}", file=sys.stderr, end="", flush=True)
    if alone:
        # A process that exits without leaving MPI would not be seen as dead.
        os.kill(os.getpid(), signal.SIGKILL)
    code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
    comm.abort(code or 1)
