"""A signal asks for a stop; the ranks agree at which step, without waiting for each other.

The handler sets a flag. Every few steps each rank starts a non-blocking maximum of the flags, whose result is looked
at so many steps later: by then it is there, and it is the same on all ranks.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

import numpy as np

from hpcsgd.comm.communicator import Communicator, Pending


class StopRequest:
    """Agreement on a stop."""

    def __init__(self, comm: Communicator, every_steps: int) -> None:
        """
        Args:
            comm: all ranks, used by nobody else meanwhile.
            every_steps: steps between two agreements; a request is seen after at most twice as many.
        """
        self.comm = comm
        self.every_steps = every_steps
        self._asked = False
        self._flags = np.zeros(1, np.int64)
        self._pending: Pending | None = None

    def install(self) -> None:
        """Let USR1 ask for a stop; only the main thread can get signals."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, self._handle)

    def ask(self) -> None:
        """Ask for a stop, from this rank."""
        self._asked = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.ask()

    def agreed(self, step: int) -> bool:
        """Whether all ranks stop before ``step``. Called by all ranks at every step."""
        if step % self.every_steps:
            return False
        self.settle()
        if self._flags[0]:
            return True
        self._flags[0] = self._asked
        self._pending = self.comm.start_max(self._flags)
        return False

    def settle(self) -> None:
        """Wait for the agreement under way."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
