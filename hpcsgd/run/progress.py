"""What rank 0 shows while a run goes on: a bar in a terminal, lines in a log file."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO

from hpcsgd.record.kept import LastIteration

SECONDS_BETWEEN_LINES = 10.0


def is_terminal(stream: TextIO) -> bool:
    """Whether the user sees ``stream`` in a terminal, also through mpirun, which hands its ranks a pipe."""
    if stream.isatty():
        return True
    try:
        launcher = os.readlink(f"/proc/{os.getppid()}/fd/2")
    except OSError:
        return False
    return "OMPI_COMM_WORLD_SIZE" in os.environ and launcher.startswith(("/dev/pts/", "/dev/tty"))


class Progress:
    """Progress of the steps, with loss, throughput and the share of exposed communication."""

    def __init__(self, kind: str, total_steps: int, steps_per_epoch: int, *, emulated: bool = False) -> None:
        """
        Args:
            kind: ``bar``, ``lines``, ``none``, or ``auto``.
            total_steps: steps of the run.
            steps_per_epoch: steps of an epoch.
            emulated: times are those of a machine that is not there, which every line says.
        """
        if kind == "auto":
            kind = "bar" if is_terminal(sys.stderr) else "lines"
        self.kind = kind
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self._times = "emulated " * emulated
        self._bar: Any = None
        self._next_line = 0.0
        if kind == "bar":
            from tqdm import tqdm

            self._bar = tqdm(total=total_steps, unit="step", ncols=100, file=sys.stderr, mininterval=0.5)

    def show(self, last: LastIteration) -> None:
        """Show the figures of the latest gathered iterations."""
        figures = (
            f"loss {last.loss:.4f}, {self._times}{last.samples_per_second:,.0f} samples/s, "
            f"exposed communication {100 * last.exposed_fraction:.1f} %"
        )
        if self._bar is not None:
            self._bar.update(last.step + 1 - self._bar.n)
            self._bar.set_postfix_str(figures)
        elif self.kind == "lines" and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            self._line(f"epoch {(last.step + 1) / self.steps_per_epoch:.2f}, {figures}", last.step + 1)

    def say(self, text: str, steps_done: int) -> None:
        """Show a line that must not be missed, an evaluation."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif self.kind == "lines":
            self._line(text, steps_done)

    def _line(self, text: str, steps_done: int) -> None:
        print(f"step {steps_done}/{self.total_steps}: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
