"""From each rank's stamps to the rows of the run log.

Every rank keeps its iterations; at a set cadence all of them are gathered to rank 0, which writes them and works out
the clocks of record: the maximum over ranks.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcsgd.config import LogConfig
from hpcsgd.config.conduct import FEWEST_BY_TIME, MOST_BY_TIME
from hpcsgd.errors import DivergedError, told_as
from hpcsgd.record.clocks import Clocks, SharedRow
from hpcsgd.record.kept import Done, Guard, Kept, LastIteration
from hpcsgd.record.noise import estimates, own_mean_norms
from hpcsgd.record.scalars import HostScalars, QueuedScalars
from hpcsgd.record.schema import ITERATION_COLUMNS, RANK_COLUMNS
from hpcsgd.record.timer import StepTimer, durations
from hpcsgd.record.utilisation import Sample, Sampler
from hpcsgd.record.writer import RunLogWriter

RANK_NAMES = tuple(column.name for column in RANK_COLUMNS)
GPU_LAG = 8
"""Iterations that a GPU may be behind: their stamps are not read yet at a gather, so that it does not wait for them."""


class Collector:
    """Gathers and writes what one rank measured."""

    def __init__(
        self,
        config: LogConfig,
        gather: Callable[[NDArray[np.float64]], NDArray[np.float64] | None],
        timer: StepTimer,
        device: torch.device,
        writer: RunLogWriter | None,
        clocks: Clocks,
        spread: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        select: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        sampler: Sampler,
        most_waiting: int = 0,
        guard: Guard | None = None,
        watch: Callable[[str], AbstractContextManager[None]] = lambda what: nullcontext(),
        learners: int = 1,
        from_first: Callable[[int], int] = lambda number: number,
    ) -> None:
        """
        Args:
            config: the recipe's section.
            gather: stacks the arrays of all ranks, of one shape, on rank 0; gives None elsewhere. Collective.
            timer: this rank's clock.
            device: where it trains.
            writer: the run log, on rank 0.
            clocks: the clocks of record, kept on rank 0.
            spread: from ``[rows, ranks, columns]`` of the ranks that are here to the same of all that there were.
            select: from that to what the log keeps along the second axis.
            sampler: knows how busy the device is.
            most_waiting: iterations by which a gather may be late.
            guard: looks for what is not finite; None: nobody looks.
            watch: inside, a watchdog looks at what is named.
            learners: of each rank.
            from_first: gives rank 0's number. Collective.
        """
        self.config = config
        self.timer = timer
        self.writer = writer
        self.clocks = clocks
        self.spread = spread
        self.select = select
        self.sampler = sampler
        self.last: LastIteration | None = None
        self.segment = 0
        self.guard = guard
        self._gather = gather
        self._watch = watch
        self._device = device
        self._lag = GPU_LAG if device.type == "cuda" else 0
        self._from_first = from_first
        self._cadence = config.flush_steps or FEWEST_BY_TIME
        capacity = (config.flush_steps or MOST_BY_TIME) + GPU_LAG + 2 + most_waiting
        # Sum and weight of the loss, norm of the gradient, and of what a learner adds to it.
        self._scalars = QueuedScalars(device, capacity, 4) if device.type != "cpu" else HostScalars()
        self._learners = learners
        # On a CPU the guard tells at once.
        self._notes = QueuedScalars(device, capacity, 1) if device.type != "cpu" else None
        self._added: deque[Kept] = deque()
        self._epoch_ended = False

    def add(
        self,
        step: int,
        rate: float,
        done: Done,
        samples: tuple[int, int],
        loss: Tensor | float,
        *,
        ends_epoch: bool,
    ) -> None:
        """Keep what the step did.

        Args:
            step: its number.
            rate: the learning rate.
            done: what it did; its ``learner_norm`` is as :func:`own_mean_norms` takes it.
            samples: of this rank and of all.
            loss: the sum over this rank's samples, 0-d, or that and its weight, [2].
            ends_epoch: whether it is to be gathered now.
        """
        num_local, num_global = samples
        weight: Tensor | float = num_local
        is_even = num_local % self._learners == 0
        if isinstance(loss, Tensor) and loss.dim():
            (loss, weight), is_even = loss, self._learners == 1
        # Learners of a rank that had not as much each have no norm in common.
        self._scalars.put(step, loss, weight, done.gradient_norm, done.learner_norm if is_even else math.nan)
        if self._notes is not None and self.guard is not None:
            self._notes.put(step, self.guard.own_bad)
        self._added.append(Kept(step, rate, done, num_local, num_global, self.sampler.latest))
        self._epoch_ended |= ends_epoch

    def add_timed(self, step: int, rate: float, num_local: int, num_global: int, ends_epoch: bool) -> None:
        """Keep a step of a loop that is only timed: as :meth:`add`, with no more work than must be in its time."""
        self._added.append(Kept(step, rate, None, num_local, num_global, self.sampler.latest))
        if ends_epoch:
            self._epoch_ended = True

    def _rows(self, kept: Iterable[Kept]) -> list[SharedRow]:
        """What iterations were."""
        return [iteration.row(self.clocks.steps_per_epoch, self.segment) for iteration in kept]

    def is_due(self) -> bool:
        """Whether it is time to gather: at the cadence, and after each epoch."""
        return len(self.timer.finished) >= self._cadence + self._lag or self._epoch_ended

    def gather_if_due(self) -> bool:
        """Gather where it is due; True if so. Collective."""
        if not self.is_due():
            return False
        waiting = len(self.timer.finished)
        self.gather(waiting if self._epoch_ended else waiting - self._lag)
        return True

    def gather(self, count: int | None = None) -> None:
        """Bring the ``count`` oldest iterations (unset: all) to rank 0 and write them. Collective."""
        count = len(self.timer.finished) if count is None else count
        self._epoch_ended &= count < len(self.timer.finished)
        if not count:
            return
        kept = [self._added.popleft() for _ in range(count)]
        shared = self._rows(kept)
        # On a GPU the first stamp is where this rank waits for what NCCL cannot bring to an end.
        with self._watch("the queue of the GPU"):
            columns = self._resolve(kept, shared)
        self.last = LastIteration.of(shared, columns)
        self._set_cadence(columns["wall_seconds"])
        self._check(shared, columns["loss"], columns["loss_weight"])
        if not self.config.enabled:
            self.clocks.pending.clear()
            return
        gathered = self._gather(np.stack([columns[name] for name in RANK_NAMES], axis=1))
        if gathered is None:
            return
        everyone = self.spread(np.ascontiguousarray(gathered.swapaxes(0, 1)))
        assert self.writer is not None
        logged = self.select(everyone)
        steps = np.array([row.step for row in shared], np.int64)
        fields: dict[str, Any] = dict(zip(SharedRow._fields, zip(*shared, strict=True), strict=True))
        fields |= estimates(everyone, self._learners)
        epochs, evaluations = self.clocks.advance(shared, everyone)
        with told_as(self.writer.path):
            self.writer.append_iterations(
                steps,
                {c.name: np.array(fields[c.name], c.dtype) for c in ITERATION_COLUMNS},
                {c.name: logged[:, :, i].astype(c.dtype) for i, c in enumerate(RANK_COLUMNS)},
            )
            if epochs:
                self.writer.append_epochs(epochs)
            if evaluations:
                self.writer.append_evaluations(evaluations)

    @contextmanager
    def telling_first(self) -> Iterator[None]:
        """Inside, what is told not to be finite is told with the first step at which something was. Collective.

        On a GPU an evaluation, a checkpoint or an averaging may come upon it before the losses and the guard's notes of
        the steps before are read.

        Raises:
            DivergedError: the body raised one; of an earlier step, where one was bad.
        """
        try:
            yield
        except DivergedError:
            if self._notes is not None and self._added:
                if self._device.type == "cuda":
                    with self._watch("the queue of the GPU"):
                        torch.cuda.synchronize(self._device)
                shared = self._rows(self._added)
                columns = self._losses(self._added, shared)
                self._check(shared, columns["loss"], columns["loss_weight"])
            raise

    def end(self) -> None:
        """Write the row of an epoch that the run ends in, after its last gather; raises ``DiskError``."""
        rest = self.clocks.rest()
        if self.writer is not None and rest:
            with told_as(self.writer.path):
                self.writer.append_epochs(rest)

    def position(self) -> tuple[dict[str, Any] | None, dict[str, int]]:
        """On rank 0, the state of the clocks and the rows of each table of the log, for a checkpoint after a gather.

        The rows are on the disk then: no loss of power can take what a checkpoint counts on.

        Raises:
            DiskError: the log cannot be written.
        """
        if self.writer is None:
            return None, {}
        with told_as(self.writer.path):
            self.writer.sync()
        return self.clocks.state_dict(), dict(self.writer.num_rows)

    def _losses(self, kept: Collection[Kept], shared: Sequence[SharedRow]) -> dict[str, NDArray[np.float64]]:
        """Of some steps the mean loss, NaN without samples, what it is the mean over, and the norms of gradients."""
        scalars = np.array([[math.nan, iteration.num_local, math.nan, math.nan] for iteration in kept])
        measured = [row for row, iteration in enumerate(kept) if iteration.done is not None]
        if measured:
            scalars[measured] = self._scalars.take([shared[row].step for row in measured])
        sums, weights, norms, own = scalars.T
        some = np.where(weights == 0, np.nan, weights)
        own = own_mean_norms(own, shared, some, self._learners)
        return {"loss": sums / some, "loss_weight": weights, "gradient_norm": norms, "learner_gradient_norm": own}

    def _check(self, shared: Sequence[SharedRow], losses: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        """Let the guard look at some steps. Collective.

        Raises:
            DivergedError: on all ranks, something of one was not finite.
        """
        if self.guard is None:
            return
        # A step of float16 that was left out may have had any loss: its scale has taken care of it.
        counts = (weights != 0) & [row.loss_scale != 0 for row in shared]
        notes = None if self._notes is None else self._notes.take([row.step for row in shared])[:, 0] != 0
        steps = range(shared[0].step, shared[-1].step + 1)
        try:
            self.guard.check_losses(steps, np.where(counts, losses, 0.0), notes)
        except DivergedError:
            # Steps after these are bad for the same reason.
            self._added.clear()
            raise

    def _resolve(self, kept: Collection[Kept], shared: Sequence[SharedRow]) -> dict[str, NDArray[np.float64]]:
        """``RANK_COLUMNS``, [rows] each, of the oldest finished iterations."""
        iterations = [self.timer.finished.popleft() for _ in shared]
        assert [iteration.step for iteration in iterations] == [row.step for row in shared]
        columns = durations(iterations, self.timer.clock) | self._losses(kept, shared)
        columns |= zip(Sample._fields, np.array([iteration.sample for iteration in kept], np.float64).T, strict=True)
        columns["num_samples"] = np.array([row.num_local for row in shared], np.float64)
        for name in ("start_seconds", "sync_enter_seconds", "sync_exit_seconds", "hidden_seconds"):
            columns[name] = np.array([getattr(iteration, name) for iteration in iterations], np.float64)
        return columns

    def _set_cadence(self, seconds: NDArray[np.float64]) -> None:
        """Gather as seldom as the time of iterations allows; all ranks do as rank 0 says. Collective."""
        if self.config.flush_steps is None:
            count = math.ceil(min(self.config.flush_seconds / max(seconds.mean(), 1e-9), MOST_BY_TIME))
            self._cadence = self._from_first(max(count, FEWEST_BY_TIME))
