"""At the boundary of two iterations: agree on a stop, and keep the state."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import agree
from hpcsgd.comm.guard import is_sound
from hpcsgd.comm.stop import StopRequest, StopSignals
from hpcsgd.errors import CheckpointError, Preempted
from hpcsgd.record.collector import Collector
from hpcsgd.run.checkpoint import CheckpointWriter
from hpcsgd.run.parts import Parts
from hpcsgd.run.resume import capture


@dataclass
class Memory:
    """The state of this rank at the last point that all ranks are known to have passed."""

    state: dict[str, Any] | None = None


class Keeper:
    """Keeps the state of a run at set steps, and when it is asked to stop."""

    def __init__(
        self,
        parts: Parts,
        collector: Collector,
        signals: StopSignals,
        memory: Memory | None = None,
    ) -> None:
        """Make ready. Collective.

        Args:
            parts: the run; without a directory, no checkpoint can be kept.
            collector: its log.
            signals: ask for a stop.
            memory: where the state is kept from flush to flush in a run that goes on without ranks that die.
        """
        config, comm = parts.config.checkpoint, parts.comm
        self.parts = parts
        self.collector = collector
        self.memory = memory
        self.every = [config.every_steps or 0, (config.every_epochs or 0) * parts.plan.steps_per_epoch]
        self.stop = StopRequest(comm.duplicate(), parts.config.faults.stop_check_steps, signals)
        self.writer: CheckpointWriter | None = None
        if parts.path is not None:
            token = comm.broadcast_object(f"{time.time_ns():x}")
            self.writer = CheckpointWriter(
                parts.path, comm.watchdog, token, keep=config.keep, background=config.background
            )
            comm.barrier()

    def before(self, step: int, first_step: int) -> bool:
        """Before ``step``: keep the state if it is time to, or if the run has to stop. Collective.

        Returns:
            Whether there was anything to do or to agree on.

        Raises:
            Preempted: the run was asked to stop; its state is kept.
            CheckpointError: this state, or the one before, could not be kept.
            DivergedError, ReplicasDifferError: it is not worth keeping.
        """
        stopping = self.stop.agreed(step)
        due = step > first_step and any(every and step % every == 0 for every in self.every)
        if self.writer is not None and (due or stopping):
            self._keep(self.writer, step)
        if stopping:
            self.finish()
            kept = f"the state after {step} steps is kept: go on with --resume auto"
            raise Preempted(
                f"asked to stop; {kept if self.writer is not None else 'nothing is kept without a run_dir'}"
            )
        return due or step % self.stop.every_steps == 0

    def flush_log(self, step: int) -> bool:
        """Gather the log before ``step`` where that is due; True if so. Collective.

        With a memory, that waits until all replicas are equal, and their state is remembered.
        """
        if self.memory is None:
            return self.collector.gather_if_due()
        first = self.memory.state is None
        averaged = step > 0 and self.parts.plan.schedule(step - 1) is Action.GLOBAL
        if not (first or (averaged and self.collector.is_due())):
            return False
        self.collector.gather()
        state = self._state(step)
        state |= self.parts.comm.broadcast_object({name: state[name] for name in ("clocks", "log_rows")})
        self.parts.comm.confirm()
        self.memory.state = state
        return True

    def check(self, step: int) -> None:
        """See that the state before ``step`` is worth keeping: finite, and equal where it must be. Collective.

        Raises:
            DivergedError, ReplicasDifferError: it is not.
        """
        guard, learners = self.parts.world.guard, self.parts.learners
        if guard is not None:
            guard.check(f"before step {step}: the state is", is_sound(learners.rows.buffer, learners.statistics))
        self.parts.algorithm.check()

    def _keep(self, writer: CheckpointWriter, step: int) -> None:
        self._finish(writer)
        self.collector.gather()
        self.check(step)
        writer.write(step, self._state(step))
        if not writer.background:
            self._finish(writer)

    def _finish(self, writer: CheckpointWriter) -> None:
        """Wait for the checkpoint that is being written; one that could not be leaves nothing. Collective.

        Raises:
            CheckpointError: it could not be written.
        """
        try:
            agree(self.parts.comm, writer.finish)
        except CheckpointError:
            # All ranks have ended with it.
            writer.clear()
            raise

    def _state(self, step: int) -> dict[str, Any]:
        """What is needed to go on with ``step``; the log is gathered."""
        clocks, rows = self.collector.position()
        elapsed = time.perf_counter() - self.parts.timer.origin
        return capture(self.parts, step) | {"clocks": clocks, "log_rows": rows, "elapsed_seconds": elapsed}

    def give_up(self) -> None:
        """Wait for nothing that is under way: ranks have died."""
        if self.writer is not None:
            self.writer.give_up()

    def end(self, step: int, first_step: int) -> None:
        """After the last step: see that the state is sound, and keep it where any is kept at set steps. Collective.

        From there the run can be gone on with for more steps.

        Raises:
            CheckpointError: this state, or the one before, could not be kept.
            DivergedError, ReplicasDifferError: it is not worth keeping.
        """
        if self.writer is not None and any(self.every) and step > first_step:
            self._keep(self.writer, step)
        else:
            self.check(step)
        self.finish()

    def finish(self) -> None:
        """Wait for what is under way: the agreement and the last checkpoint. Collective.

        Raises:
            CheckpointError: it could not be written.
        """
        self.stop.settle()
        if self.writer is not None:
            self._finish(self.writer)
