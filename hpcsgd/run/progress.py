"""What rank 0 shows while a run goes on: a living line in a terminal, lines in a log file."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from hpcsgd.record.kept import LastIteration
from hpcsgd.record.look import Display, figures

SETTLING_SECONDS = 5.0
"""Before so much time has gone by, nobody knows how long the rest takes."""

NONE_YET = LastIteration(step=-1, loss=math.nan, samples_per_second=math.nan, exposed_fraction=math.nan)


class Progress:
    """Progress of the steps: rate, loss, exposed communication, the time left, the next checkpoint."""

    def __init__(
        self,
        kind: str,
        total_steps: int | None,
        steps_per_epoch: int | None,
        *,
        first_step: int = 0,
        checkpoint_every: Sequence[int] = (),
        emulated: bool = False,
    ) -> None:
        """
        Args:
            kind: ``bar``, ``lines``, ``none``, or ``auto``.
            total_steps: steps of the run; None: nobody knows.
            steps_per_epoch: steps of an epoch; None: nobody knows.
            first_step: where the loop begins, now.
            checkpoint_every: numbers of steps after which checkpoints are kept; 0: never.
            emulated: times are those of a machine that is not there, which every line says.
        """
        self._display = Display(kind, "step", total_steps)
        self.kind = self._display.kind
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self._first = first_step
        self._begun = time.monotonic()
        self._every = [every for every in checkpoint_every if every]
        self._emulated = emulated
        self._has_figures = False

    def show(self, done: int, last: LastIteration | None) -> bool:
        """After so many steps show the figures of the latest gathered iterations, if it is time to; True if so.

        Cheap enough for every step: nothing else happens in most calls than a look at the clock.
        """
        if not self._display.due and (last is None or self._has_figures or self.kind == "none"):
            return False
        self._show(done, last)
        return True

    def say(self, text: str, done: int) -> None:
        """Show a line that must not be missed, an evaluation."""
        self._display.say(done, text)

    def close(self, done: int, last: LastIteration | None) -> None:
        """End a living line with its last figures."""
        if self.kind == "bar":
            self._show(done, last)
        self._display.close()

    def _show(self, done: int, last: LastIteration | None) -> None:
        self._has_figures = last is not None
        elapsed = time.monotonic() - self._begun
        pace = elapsed / (done - self._first) if done > self._first and elapsed >= SETTLING_SECONDS else None
        left = (self.total_steps or done) - done
        ahead = [every - done % every for every in self._every]
        ahead = [steps for steps in ahead if self.total_steps is None or done + steps <= self.total_steps]
        last = last or NONE_YET
        texts = figures(
            last.samples_per_second,
            last.loss,
            last.exposed_fraction,
            seconds_left=pace * left if pace is not None and left else None,
            checkpoint_seconds=pace * min(ahead) if pace is not None and ahead else None,
            epochs=done / self.steps_per_epoch if self.steps_per_epoch else None,
            emulated=self._emulated,
        )
        self._display.show(done, texts)
