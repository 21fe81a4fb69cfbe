"""At the boundary of two iterations: agree on a stop, and keep the state."""

from __future__ import annotations

import time
from pathlib import Path

from hpcsgd.build import Parts
from hpcsgd.comm.stop import StopRequest, StopSignals
from hpcsgd.errors import Preempted
from hpcsgd.record.checkpoint import CheckpointWriter
from hpcsgd.record.collector import Collector
from hpcsgd.resume import capture


class Keeper:
    """Keeps the state of a run at set steps, and when it is asked to stop."""

    def __init__(self, parts: Parts, path: Path | None, collector: Collector, signals: StopSignals) -> None:
        """Make ready to write checkpoints in the run directory ``path``; None: none can be kept. Collective."""
        config, comm = parts.config.checkpoint, parts.comm
        self.parts = parts
        self.collector = collector
        self.every = [config.every_steps or 0, (config.every_epochs or 0) * parts.plan.steps_per_epoch]
        self.stop = StopRequest(comm.duplicate(), parts.config.faults.stop_check_steps, signals)
        self.writer: CheckpointWriter | None = None
        if path is not None:
            token = comm.broadcast_object(f"{time.time_ns():x}")
            self.writer = CheckpointWriter(
                path, comm.rank, comm.size, token, keep=config.keep, background=config.background
            )
            comm.barrier()

    def before(self, step: int, first_step: int) -> None:
        """Before ``step``: keep the state if it is time to, or if the run has to stop. Collective.

        Raises:
            Preempted: the run was asked to stop; its state is kept.
            CheckpointError: the state could not be kept.
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

    def _keep(self, writer: CheckpointWriter, step: int) -> None:
        self.collector.gather()
        state = capture(self.parts, step)
        clocks, rows = self.collector.position()
        state |= {"clocks": clocks, "log_rows": rows, "elapsed_seconds": time.perf_counter() - self.parts.timer.origin}
        writer.write(step, state)

    def finish(self) -> None:
        """Wait for what is under way: the agreement and the last checkpoint."""
        self.stop.settle()
        if self.writer is not None:
            self.writer.finish()
