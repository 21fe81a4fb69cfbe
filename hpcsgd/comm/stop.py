"""A signal asks for a stop; the ranks agree at which step, without waiting for each other.

The handler sets a flag. Every few steps each rank starts a non-blocking maximum of the flags, whose result is looked
at so many steps later: by then it is there, and it is the same on all ranks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from hpcsgd.comm.communicator import Communicator, Pending

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
"""USR1 is what a job script asks for before the time limit; TERM is what Slurm sends to the ranks of a job that is
preempted, requeued or cancelled, some time before it kills them."""


class StopSignals:
    """Takes note of the signals that ask for a stop; unless listened for, they end the process."""

    def __init__(self) -> None:
        """Nothing is listened for yet."""
        self.came = False
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Take note from now on; only the main thread can get signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def close(self) -> None:
        """Let the signals do what they did before :meth:`listen`."""
        for number, handler in self._before.items():
            # None: a handler that is not of Python, which cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True


@contextmanager
def listening(signals: StopSignals | None) -> Iterator[StopSignals]:
    """``signals``, which listen already; or, without them, new ones that listen inside of the body only."""
    if signals is not None:
        yield signals
        return
    signals = StopSignals()
    signals.listen()
    try:
        yield signals
    finally:
        signals.close()


class StopRequest:
    """Agreement on a stop."""

    def __init__(self, comm: Communicator, every_steps: int, signals: StopSignals) -> None:
        """
        Args:
            comm: all ranks, used by nobody else meanwhile.
            every_steps: steps between two agreements; a request is seen after at most twice as many.
            signals: this rank's.
        """
        self.comm = comm
        self.every_steps = every_steps
        self.signals = signals
        self._flags = np.zeros(1, np.int64)
        self._pending: Pending | None = None

    def agreed(self, step: int) -> bool:
        """Whether all ranks stop before ``step``. Called by all ranks at every step."""
        if step % self.every_steps:
            return False
        self.settle()
        if self._flags[0]:
            return True
        self._flags[0] = self.signals.came
        self._pending = self.comm.start_max(self._flags)
        return False

    def settle(self) -> None:
        """Wait for the agreement under way."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
