"""A signal asks for a stop; the ranks agree at which step, without waiting for each other.

The handler sets a flag. Every few steps each rank starts a non-blocking maximum of the flags, whose result is looked
at so many steps later: by then it is there, and it is the same on all ranks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from hpcsgd.comm.communicator import Communicator, Pending

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP)
"""USR1 is what a job script asks for before the time limit; TERM is what Slurm sends to the ranks of a job that is
preempted, requeued or cancelled, some time before it kills them, and mpirun where it is interrupted; HUP comes when a
terminal is closed."""


class StopSignals:
    """Takes note of the signals that ask for a stop; unless listened for, they end the process."""

    def __init__(self) -> None:
        """Nothing is listened for yet."""
        self.came = False
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Take note from now on; only the main thread can get signals."""
        self._take(SIGNALS)

    @contextmanager
    def heeding_interrupts(self) -> Iterator[None]:
        """Inside, the first Ctrl-C asks for a stop too, as there is something to keep; the second one ends at once."""
        self._take([signal.SIGINT])
        try:
            yield
        finally:
            self._give_back(signal.SIGINT)

    def _take(self, numbers: Sequence[int]) -> None:
        """Take note of these signals, but for a hang-up or Ctrl-C that whoever started the process lets it ignore."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in numbers:
            ignored = signal.getsignal(number) is signal.SIG_IGN
            if number not in self._before and not (ignored and number in (signal.SIGHUP, signal.SIGINT)):
                self._before[number] = signal.signal(number, self._note)

    def _give_back(self, number: int) -> None:
        """Let a signal do what it did before."""
        if number in self._before:
            # None: a handler that is not of Python, which cannot be put back from here.
            handler = self._before.pop(number)
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def close(self) -> None:
        """Let the signals do what they did before :meth:`listen`."""
        for number in list(self._before):
            self._give_back(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if number == signal.SIGINT:
            self._give_back(number)


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
