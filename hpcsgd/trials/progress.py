"""What rank 0 shows while a study goes on: trials done, by batch size, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from hpcsgd.run.progress import SECONDS_BETWEEN_LINES, is_terminal
from hpcsgd.trials.pace import in_words


class StudyProgress:
    """A bar in a terminal, lines in a log file."""

    def __init__(self, kind: str, trials: Mapping[int, int]) -> None:
        """
        Args:
            kind: ``bar``, ``lines``, ``none``, or ``auto``.
            trials: how many there are at each batch size.
        """
        if kind == "auto":
            kind = "bar" if is_terminal(sys.stderr) else "lines"
        self.kind = kind
        self.trials = dict(trials)
        self._bar: Any = None
        self._next = 0.0
        if kind == "bar":
            from tqdm import tqdm

            total = sum(trials.values())
            self._bar = tqdm(total=total, unit="trial", ncols=100, file=sys.stderr, mininterval=0.5)

    @property
    def due(self) -> bool:
        """Whether it is time to show something: what is shown takes time to find out."""
        return self.kind != "none" and time.monotonic() >= self._next

    def show(self, done: Mapping[int, int], left: float | None) -> None:
        """Show how many trials are done at each batch size, and the seconds left."""
        self._next = time.monotonic() + (1.0 if self._bar is not None else SECONDS_BETWEEN_LINES)
        ending = f"about {in_words(left)} left" if left is not None else "time left not known yet"
        if all(done[size] == total for size, total in self.trials.items()):
            ending = "done"
        if self._bar is not None:
            self._bar.update(sum(done.values()) - self._bar.n)
            self._bar.set_postfix_str(ending)
        elif self.kind == "lines":
            begun = (f"{size}: {done[size]}/{total}" for size, total in self.trials.items() if 0 < done[size] < total)
            full = sum(done[size] == total for size, total in self.trials.items())
            parts = [f"{full} of {len(self.trials)} batch sizes done", *begun]
            total = sum(self.trials.values())
            print(f"trial {sum(done.values())}/{total} ({', '.join(parts)}): {ending}", file=sys.stderr, flush=True)

    def rush(self) -> None:
        """Show what comes next at once."""
        self._next = 0.0

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
