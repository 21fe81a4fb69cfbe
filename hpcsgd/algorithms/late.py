"""An averaging of the replicas that is under way while they train on.

It begins with the replicas y_j as they are after a step. Some steps later, when their mean has come, each takes it in
without losing what it has done since: w_j <- w_j + (mean of y - y_j) (LOSCAR-SGD, 2026). With an outer step the anchor
moves when the mean comes, and the new anchor is in the place of the mean. It may be of a fragment of the parameters, of
which each has its turn (Streaming DiLoCo: Douillard et al. 2025).
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hpcsgd.algorithms.base import Spans
from hpcsgd.algorithms.outer import Anchored
from hpcsgd.comm.background import Background
from hpcsgd.comm.reduce import FlatReducer


class Flight(NamedTuple):
    """An averaging under way."""

    step: int
    """After which it began."""
    rate: float
    """Learning rate of that step."""
    delay: int
    """Steps after which it is merged."""
    start: int
    stop: int
    """Of which of the parameters it is."""

    @property
    def part(self) -> slice:
        """These."""
        return slice(self.start, self.stop)


class LateAverage:
    """At most one averaging of this rank's rows with those of all ranks that is under way.

    Attributes:
        flight: what is under way; None: nothing.
    """

    def __init__(
        self, rows: Tensor, world: FlatReducer, thread: Background | None, spans: Spans, anchored: Anchored | None
    ) -> None:
        """
        Args:
            rows: the parameters [m, n], changed in place later.
            world: whose ranks, and who looks for what is not finite.
            thread: sums over them; None where there is one rank.
            spans: the clock.
            anchored: the outer step; None: the mean is merged.
        """
        self.rows = rows
        self.world = world
        self.thread = thread
        self.spans = spans
        self.anchored = anchored
        self.flight: Flight | None = None
        self._before = torch.zeros_like(rows)
        self._mean = torch.zeros_like(rows[0])
        self._has_come = True
        self._hidden_seconds = 0.0

    def begin(self, flight: Flight) -> int:
        """Begin with the rows as they are; return the bytes to be reduced."""
        assert self.flight is None
        self.flight = flight
        self._before[:, flight.part].copy_(self.rows[:, flight.part])
        return self.launch()

    def launch(self) -> int:
        """Let the thread average y; where a run goes on, that of a checkpoint."""
        mean, before = self._parts()
        scale = 1.0 / (len(self.rows) * self.world.comm.size)
        if len(before) == 1:
            # A pass over the memory less.
            torch.mul(before[0], scale, out=mean)
        else:
            torch.sum(before, dim=0, out=mean).mul_(scale)
        if self.thread is not None:
            self.thread.start(mean, guard=self.world.guard)
        self._has_come = False
        return mean.numel() * mean.element_size()

    def is_due(self, step: int) -> bool:
        """Whether what is under way is to be merged after ``step``."""
        return self.flight is not None and step == self.flight.step + self.flight.delay

    def merge(self) -> None:
        """Merge what is under way; the wait for it is the step's synchronisation."""
        with self.spans.span("averaging"):
            self._wait(exposed=True)
            self.spans.hid(self._hidden_seconds)
            self._take_in()

    def end(self) -> None:
        """Merge what is under way, if anything is, after the last step, which no clock looks at."""
        if self.flight is not None:
            self._wait(exposed=False)
            self._take_in()

    @torch.no_grad()
    def preview(self) -> None:
        """Let the rows be as if what is under way were merged; nothing else changes, and it goes on being under way."""
        if self.flight is not None:
            self._wait(exposed=False)
            target, before = self._parts()
            step, rate, part = self.flight.step, self.flight.rate, self.flight.part
            if self.anchored is not None:
                target = self.anchored.moved(target, step, rate, part)
            self.rows[:, part].add_(target - before)

    def state_dict(self) -> dict[str, Any] | None:
        """What is under way: y, from which it can begin again; None: nothing."""
        return None if self.flight is None else {"flight": tuple(self.flight), "before": self._before}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take up the state that :meth:`state_dict` gave; :meth:`launch` is to follow on all ranks."""
        self._wait(exposed=False)
        self.flight = None
        if state is not None:
            self.flight = Flight(*state["flight"])
            self._before.copy_(state["before"])

    def close(self) -> None:
        """End the thread; what is under way comes to its end."""
        if self.thread is not None:
            self.thread.close()
            self.thread = None

    @torch.no_grad()
    def _take_in(self) -> None:
        """Let each row go on from what has come."""
        assert self.flight is not None
        target, before = self._parts()
        step, rate, part = self.flight.step, self.flight.rate, self.flight.part
        if self.anchored is not None:
            target = self.anchored.move_(target, step, rate, part)
        self.rows[:, part].add_(torch.sub(target, before, out=before))
        self.flight = None

    def _parts(self) -> tuple[Tensor, Tensor]:
        """Mean and y of the parameters that are under way."""
        assert self.flight is not None
        return self._mean[self.flight.part], self._before[:, self.flight.part]

    def _wait(self, *, exposed: bool) -> None:
        """Wait for the mean, if it has not come."""
        if self.thread is None or self._has_come:
            return
        watch = self.world.comm.watchdog.watch("averaging in the background")
        with self.spans.synchronising(watch, queued=self.world.queued) if exposed else watch:
            begin = time.perf_counter()
            took = self.thread.wait()
            # What is not a number stays so.
            self._hidden_seconds = max(took - (time.perf_counter() - begin), 0.0) if took == took else took
        self._has_come = True
        self.world.look_after(self._parts()[0], "what was to be averaged is")
